"""Numbers beside the loss, of a model's outputs and the targets of all samples at once: `steprule.metrics`.

A metric is any function of (outputs, targets) that gives one number. These take outputs [samples, ...] as a model gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from steprule.errors import InputError, InputTypeError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

Metric = Callable[[Any, Any], Any]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """The share of samples whose class is the right one, 0 to 1.

    Outputs [samples, classes, ...] name the class of the largest, for class numbers [samples, ...]. Outputs of the targets' shape, or
    [samples, 1], are logits of two classes: above 0 is class 1, for targets of 0 and 1. Raises `InputError` for others.

    >>> import torch
    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    if outputs.ndim == targets.ndim + 1 and (outputs.shape[1] > 1 or outputs.shape[2:] != targets.shape[1:]):
        found = outputs.argmax(1)
    else:
        if not bool(((targets == 0) | (targets == 1)).all()):
            strange = next(t for t in targets.reshape(-1).tolist() if t not in (0, 1))
            raise InputError("targets", expected="classes, or 0 and 1", got=f"{strange:.6g}")
        found = outputs > 0
    found, targets = _alike(found, targets)
    return float((found == targets).double().mean())


def mae(outputs: Tensor, targets: Tensor) -> float:
    """The mean absolute error, 0 or more."""
    found, wanted = _alike(outputs, targets)
    return float((found.double() - wanted.double()).abs().mean())


def mse(outputs: Tensor, targets: Tensor) -> float:
    """The mean squared error, 0 or more."""
    found, wanted = _alike(outputs, targets)
    return float(((found.double() - wanted.double()) ** 2).mean())


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """The root of the mean squared error, 0 or more, in units of the targets."""
    return float(mse(outputs, targets) ** 0.5)


def r2(outputs: Tensor, targets: Tensor) -> float:
    """The share of the targets' variance that is explained: 1 at best, 0 for their mean; of several columns the mean.

    Raises `InputError` for a column of targets that never changes: it has no variance to explain.
    """
    found, wanted = (t.double().reshape(len(t), -1) for t in _alike(outputs, targets))
    about = ((wanted - wanted.mean(0)) ** 2).sum(0)
    if not bool((about > 0).all()):
        raise InputError("targets", expected="values that differ", got="a column of one value")
    return float((1 - ((found - wanted) ** 2).sum(0) / about).mean())


NAMED: Mapping[str, Metric] = {"accuracy": accuracy, "mae": mae, "mse": mse, "rmse": rmse, "r2": r2}
"""By the name under which `metrics=` knows them."""


def resolve(given: Any, where: str) -> dict[str, Metric]:
    """Metrics by name, from a name, a function, a list of these, or a dict of them. Raises `InputTypeError`, `UnknownNameError`."""
    if given is None:
        return {}
    if isinstance(given, str) or callable(given):
        given = [given]
    if isinstance(given, Mapping):
        named = list(given.items())
    elif isinstance(given, list | tuple | set):
        named = [(m if isinstance(m, str) else getattr(m, "__name__", ""), m) for m in given]
    else:
        raise _refused(where, given)
    found: dict[str, Metric] = {}
    for name, metric in named:
        if not isinstance(name, str) or not name or not (isinstance(metric, str) or callable(metric)):
            raise _refused(where, {name: metric} if isinstance(given, Mapping) else metric)
        if name in found:
            raise InputError(where, expected="each name once", got=f"{name!r} twice", hint="Give a dict of names.")
        if isinstance(metric, str) and metric.lower() not in NAMED:
            raise unknown_name("metric", metric, NAMED)
        found[name] = NAMED[metric.lower()] if isinstance(metric, str) else metric
    return found


def _refused(where: str, got: object) -> InputTypeError:
    expected = "names of metrics or functions of (outputs, targets), in a list, or in a dict by name"
    return InputTypeError(where, expected=expected, got=repr(got)[:60])


def _alike(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one shape; [samples, 1] is [samples]. Raises `InputError` for others: they would be compared each with each."""
    if outputs.shape != targets.shape:
        if outputs.numel() != targets.numel() or outputs.squeeze().shape != targets.squeeze().shape:
            got = f"{list(outputs.shape)} and {list(targets.shape)}"
            raise InputError("outputs and targets", expected="one shape", got=got)
        outputs = outputs.reshape(targets.shape)
    return outputs, targets
