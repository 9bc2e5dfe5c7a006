"""What a user's training step returns: the loss, alone or among named parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from steprule.errors import InputError, InputTypeError

EXPECTED = "the loss, or parts with one called loss"


def loss_in(result: Any, where: str) -> Tensor:
    """The loss: a tensor itself, the part called `loss` of a dict or an object, or the one tensor without dimensions in a tuple.

    Raises `InputError` where nothing says which number is the loss.
    """
    found = result
    if isinstance(result, Mapping):
        if "loss" not in result:
            raise InputError(where, expected=EXPECTED, got=f"a dict of {', '.join(map(str, result)) or 'nothing'}")
        found = result["loss"]
    elif hasattr(result, "loss") and not isinstance(result, Tensor):
        found = result.loss
    elif isinstance(result, tuple | list):
        single = [part for part in result if isinstance(part, Tensor) and part.ndim == 0]
        if len(single) != 1:
            got = f"{len(single)} of them in a {type(result).__name__} of {len(result)}"
            hint = 'Return {"loss": loss, ...}.'
            raise InputError(where, expected="one tensor without dimensions, the loss", got=got, hint=hint)
        (found,) = single
    if not isinstance(found, Tensor):
        hint = "It returns the loss; backward and step are done for it."
        raise InputTypeError(where, expected=EXPECTED, got=f"a {type(found).__name__}", hint=hint)
    return found


def outputs_in(result: Any, where: str) -> tuple[Any, Any]:
    """The outputs and targets among the parts, as metrics take them. Raises `InputError` where they are not there."""
    if isinstance(result, Mapping) and "outputs" in result and "targets" in result:
        return result["outputs"], result["targets"]
    hint = 'Return {"loss": loss, "outputs": outputs, "targets": targets}.'
    raise InputError(where, expected="outputs and targets beside the loss, for the metrics", got="none", hint=hint)
