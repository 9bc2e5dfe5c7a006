"""Gradients that are not finite: passed on, skipped or raised as the optimizer was told, before it writes.

One pass over the gradients tells: a kernel adds 0 for each finite element and NaN for any other. Where all are clipped by their norm, the
norm tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from steprule.compiler.split import Program
from steprule.compiler.variant import NOTHING, variant
from steprule.errors import GradientError, InputError
from steprule.maths import total
from steprule.optim import totals
from steprule.optim.settings import NONFINITE, PASS, RAISE, Stepped
from steprule.optim.sharding import Cut, cut_of, refuse_backward
from steprule.optim.signature import shard
from steprule.rules.rule import Rule, rule

BEFORE = "_before"
"""The attribute of an optimizer that holds the states as they were before this step planned anew."""
_SPARSE_ROWS = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


class SkippedError(Exception):
    """A step ends here, and nothing was written: for `RuleOptimizer.step` alone."""


@rule
def finite(p: Any, g: Any) -> Any:
    """A total that is 0 where all gradients are finite, else NaN."""
    return p + total(g - g)


def check(optimizer: Stepped, plans: Sequence[totals.Phased], known: totals.Known, tied: bool) -> None:
    """Raise `GradientError` or `SkippedError`, as the optimizer was told, where a gradient that this step reads is not finite.

    The states are then what they were before the step, and plans that were there before it are kept, with whether they are `tied`.
    """
    name, chosen = type(optimizer).__name__, optimizer.nonfinite
    if chosen not in NONFINITE:  # set since the optimizer was made
        raise InputError(f"{name}.nonfinite", expected="one of " + ", ".join(NONFINITE), got=repr(chosen))
    refuse_backward(name, "nonfinite")
    own, norm = optimizer.__dict__, totals.clipped_norm(known)
    if _all_finite(optimizer, plans, norm):
        own.pop(BEFORE, None)  # states that a new plan has replaced are not kept alive
        return
    error = _error(optimizer) if chosen == RAISE else SkippedError()
    if norm is not None:
        own[totals.NORM] = norm
    if not restore(optimizer):
        own.update(_plans=plans, _are_tied=tied)
    raise error


def _all_finite(optimizer: Stepped, plans: Sequence[totals.Phased], norm: float | Tensor | None) -> bool:
    if norm is not None and math.isfinite(norm) and all([_is_in_norm(plan) for plan in plans]):
        return True
    return not math.isnan(totals.over_processes(optimizer, _parts(optimizer, plans), {_place()}).get(_place(), 0.0))


def remember(optimizer: Stepped) -> None:
    """Keep what the states are, once a step: a new plan begins those that are missing."""
    if optimizer.nonfinite != PASS:
        states = {p: dict(state) for p, state in optimizer.state.items() if isinstance(state, dict)}
        optimizer.__dict__.setdefault(BEFORE, states)


def restore(optimizer: Stepped) -> bool:
    """Make the states what they were; False where no plan was made in this step."""
    before = optimizer.__dict__.pop(BEFORE, None)
    if before is None:
        return False
    for p in list(optimizer.state):
        if p not in before:
            del optimizer.state[p]
        elif before[p].keys() != optimizer.state[p].keys() or any(
            v is not before[p][n] for n, v in optimizer.state[p].items()
        ):
            optimizer.state[p].clear()
            optimizer.state[p].update(before[p])
    return True


@cache
def _program() -> Program:
    """What a kernel computes of one column of gradients."""
    found = variant(finite, ())
    (places,) = found.rounds()
    return found.measurement(NOTHING, places)


def _place() -> str:
    (place,) = _program().totals
    return place


def _read(rule: Rule) -> list[str]:
    """The columns of gradients that a step reads: the first, and those of its looks."""
    return ["g", *(slot.name for slot in rule.slots if slot.looked and not slot.drawn)]


def _is_in_norm(plan: totals.Phased) -> bool:
    """Whether each gradient of a plan is in the norm by which gradients are clipped, as it is."""
    switches = dict(plan.computation.switches)
    return plan.computation.clips and not switches.get("clip_value") and len(_read(plan.computation.rule)) == 1


def _parts(optimizer: Stepped, plans: Sequence[totals.Phased]) -> Iterator[tuple[Cut | None, Mapping[str, float]]]:
    """What the gradients of some plans add, and over which processes that is to be added up."""
    place = _place()
    for plan in plans:
        names, members = _read(plan.computation.rule), plan.members_of(optimizer.param_groups)
        for bucket in plan.buckets:
            for name in names:
                if name in bucket.rows:
                    yield bucket.alike.cut, bucket.reading(_program(), name).add_up({})
        for p in (members[m] for m in plan.beside.places):
            yield (
                cut_of(p, optimizer.clip_group),
                {place: 0.0 if _are_finite(_gradients_of(optimizer, p, names)) else math.nan},
            )


def _gradients_of(optimizer: Stepped, p: Tensor, names: Sequence[str]) -> list[Any]:
    state = optimizer.state.get(p) or {}
    return [p.grad, *(state.get(name) for name in names[1:])]


def _are_finite(gradients: Iterable[Any]) -> bool:
    return all([bool(torch.isfinite(v).all()) for v in map(_values, gradients) if v is not None])


def _values(g: Any) -> Tensor | None:
    """The elements of a gradient that are in this process; None where there is nothing to ask, as of a fake tensor."""
    if not isinstance(g, Tensor) or g._is_zerotensor():
        return None
    g = shard(g)
    if g.is_meta or isinstance(g, FakeTensor):
        return None
    if g.layout is torch.sparse_coo:
        return g._values()  # type: ignore[no-any-return]
    if g.layout in _SPARSE_ROWS:
        return g.values()  # type: ignore[no-any-return]
    whole: Tensor = g.to_dense() if g.is_mkldnn else g
    return whole


def _error(optimizer: Stepped) -> GradientError:
    """The first parameter whose gradient is not finite, by its name where its group has names."""
    what, hint = type(optimizer).__name__, 'nonfinite="skip" leaves such a step out.'
    for k, group in enumerate(optimizer.param_groups):
        names = _read(optimizer.stepping(group).rule)
        for i, p in enumerate(group["params"]):
            for values in map(_values, _gradients_of(optimizer, p, names)):
                bad = 0 if values is None else int((~torch.isfinite(values)).sum())
                if values is not None and bad:
                    name = group["param_names"][i] if "param_names" in group else f"parameter {i} of group {k}"
                    nans = int(torch.isnan(values).sum())
                    got = f"{nans:,} nan and {bad - nans:,} inf of {values.numel():,}"
                    return GradientError(
                        f"{what}: the gradient of {name}", expected="finite elements", got=got, hint=hint
                    )
    got = "nan or inf in the part of another process"
    return GradientError(f"{what}: a gradient", expected="finite elements", got=got, hint=hint)
