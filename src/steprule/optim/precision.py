"""What a group says of how its parameters are rounded, and of the dtype in which its states are kept."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.errors import InputError, InputTypeError
from steprule.optim.signature import DTYPES
from steprule.optim.unseen import below
from steprule.rules.compensated import COMPENSATION, compensated
from steprule.rules.rule import Rule

STOCHASTIC, KAHAN = "stochastic", "kahan"
ROUNDINGS = (STOCHASTIC, KAHAN)
"""What `rounding=` takes beside None, which is to the nearest."""
SEED = "seed"
"""The key of a group that says of which seed its noise is, and its rounding by chance."""
ROUNDING = "rounding"
STATE_DTYPE = "state_dtype"
STATE_DTYPES = (torch.float32, torch.bfloat16)
"""What `state_dtype=` takes beside None, which is the parameter's dtype."""
OFF: dict[str, Any] = {ROUNDING: None, SEED: None, STATE_DTYPE: None}
"""The keys of a group, as they are where nothing is said."""
LOW = (torch.bfloat16, torch.float16)
"""The dtypes of parameters that are computed in float32."""


def take(name: str, rule: Rule, given: dict[str, Any]) -> None:
    """Make the seed that a constructor or a group gives Python's own number: `torch.load` refuses a checkpoint that holds numpy's.

    Raises `InputError` or `InputTypeError` for what it cannot mean; `name` is the class.
    """
    rounding, _ = precision_of(name, rule, given)
    if rounding == STOCHASTIC and not rule.draws and SEED in {h.name for h in rule.hypers}:
        expected, got = (
            "a rule without a hyperparameter of that name",
            f"{rule.name}, whose rounding could have no seed",
        )
        raise InputError(f"{name}: {SEED}", expected=expected, got=got, hint="Call the hyperparameter otherwise.")
    if SEED in given and given[SEED] is not None and (rule.draws or SEED not in {h.name for h in rule.hypers}):
        given[SEED] = seed_of(name, given[SEED])


def precision_of(name: str, rule: Rule, group: Mapping[str, Any]) -> tuple[str | None, torch.dtype | None]:
    """How a group's parameters are rounded, None for the nearest; and the dtype of its states, None for that of each parameter.

    Raises `InputError` for what is neither, or what the rule cannot be stepped with.
    """
    return _rounding_of(name, rule, group), _state_dtype_of(name, group)


def _rounding_of(name: str, rule: Rule, group: Mapping[str, Any]) -> str | None:
    found = group.get(ROUNDING)
    if found is not None and found not in ROUNDINGS:
        expected = " or ".join(map(repr, ROUNDINGS)) + ", or None for the nearest"
        raise InputError(f"{name}: {ROUNDING}", expected=expected, got=repr(found))
    if found == KAHAN and COMPENSATION in {s.name for s in rule.slots}:
        expected, got = "a rule without a state of that name", f"{rule.name}, whose rounding has one"
        raise InputError(f"{name}: {COMPENSATION}", expected=expected, got=got, hint="Call the state otherwise.")
    return found


def _state_dtype_of(name: str, group: Mapping[str, Any]) -> torch.dtype | None:
    found = group.get(STATE_DTYPE)
    if found is not None and not any(found is dtype for dtype in STATE_DTYPES):
        expected = " or ".join(map(str, STATE_DTYPES)) + ", or None for the parameter's"
        raise InputError(f"{name}: {STATE_DTYPE}", expected=expected, got=repr(found))
    return found


def seed_of(name: str, given: object) -> int:
    """A seed of 64 bits: by default that with which torch was seeded last, as by `torch.manual_seed`."""
    if given is None:
        return torch.initial_seed()
    is_bool = isinstance(given, bool) or getattr(given, "dtype", None) is torch.bool
    try:
        found = None if is_bool else operator.index(given)  # type: ignore[arg-type]  # its TypeError is what is asked for
    except TypeError:
        found = None
    if found is None:
        raise InputTypeError(f"{name}: {SEED}", expected="a whole number", got=repr(given))
    if not 0 <= found < 2**64:
        raise InputError(f"{name}: {SEED}", expected="a whole number from 0 to 2^64 - 1", got=repr(given))
    return found


def settle(name: str, groups: Sequence[dict[str, Any]], given: object) -> None:
    """Give each group that rounds by chance its seed, a plain number: its own, or the one given, or another group's, or torch's."""
    for group in groups:
        if group.get(ROUNDING) == STOCHASTIC:
            others = (g.get(SEED) for g in groups)
            group[SEED] = seed_of(name, next((s for s in (group.get(SEED), given, *others) if s is not None), None))


def check_seed(name: str, groups: Sequence[Mapping[str, Any]], given: object) -> None:
    """Raise `InputError` for a seed that none of these groups draws by."""
    if given is not None and not any(group.get(ROUNDING) == STOCHASTIC for group in groups):
        raise InputError(f"{name}: {SEED}", expected=f"{ROUNDING}={STOCHASTIC!r} beside it", got=f"{given!r} alone")


def numbers_of(
    groups: Sequence[Mapping[str, Any]], where: Sequence[int], of: Sequence[Sequence[int]]
) -> NDArray[np.int64]:
    """Which tensor of the model each parameter is: its number among all. `of`: by group at `where`, its places in that group."""
    first = np.cumsum([0, *(len(group["params"]) for group in groups)])
    found = [first[k] + np.array(own, np.int64) for k, own in zip(where, of, strict=True)]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def rows(steps: NDArray[np.float64], tensors: NDArray[np.int64], seeds: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What a kernel that rounds by chance takes behind the addresses [3, tensors]: the step, the tensor's number, the seed."""
    return np.stack([steps.astype(np.int64), tensors, seeds.view(np.int64)])


# Kahan summation.


def kept_with(rounding: str | None, p: Tensor) -> str:
    """The dtype for which what a parameter loses is kept beside it; empty where nothing is kept, as of a float32 parameter."""
    return DTYPES[p.dtype] if rounding == KAHAN and p.dtype in LOW else ""


def keeping(optimizer: Any, dtype: str) -> Any:
    """The optimizer as one whose rule keeps what parameters of a dtype lose: another class on the same states, groups and settings."""
    view = object.__new__(_keeping(type(optimizer), dtype))  # type: ignore[arg-type]  # a class is hashable
    view.__dict__ = optimizer.__dict__
    return view


@lru_cache(maxsize=256)
def _keeping(cls: Any, dtype: str) -> Any:
    return below(cls, cls.__name__, rule=compensated(cls.rule, dtype))
