"""One step of an optimizer's groups: planned once, then look, fill the tables, launch.

A plan is made anew when anything that its kernels rely on differs, when the set of gradients changed, or a switch of the rule was
thrown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from steprule.compiler.variant import Switches, needs_shape, variant
from steprule.optim import totals
from steprule.optim.memory import meeting
from steprule.optim.plan import Chosen, GroupPlan, Groups
from steprule.optim.settings import Settings, Stepped, beyond_torch


def step(optimizer: Stepped, scale: float | None) -> None:
    """One step of all groups. `scale` is what the loss was multiplied with, where the step divides by it.

    What may raise comes before any kernel: then each parameter is whole, stepped or not.
    """
    own, groups = optimizer.__dict__, optimizer.param_groups
    # Taken out while the step runs: another thread that steps this optimizer makes plans of its own.
    plans, tied = own.pop("_plans", ()), own.get("_are_tied", False)
    ready: list[GroupPlan] = []
    try:
        _look(optimizer, ready, plans, scale)
        if len(ready) == 1:
            tied = False
        elif any([plan.moved for plan in ready]):
            tied = _are_tied(optimizer, ready)
        if tied:
            _keep_in_order(optimizer, ready, scale)
        phased = any([plan.has_phases for plan in ready])
        known = totals.known_to(optimizer, ready) if phased else {}
        if tied:
            for k in range(len(ready)):
                if k:  # what a group before it wrote is this one's too
                    _look_again(optimizer, ready, k, scale)
                _step_all(optimizer, ready[k : k + 1], groups, known)
        else:
            _step_all(optimizer, ready, groups, known)
        if phased:
            totals.keep(optimizer, ready)
        for plan in ready:
            if plan.zeroes:
                plan.zero(groups)
    finally:
        for plan in ready:
            plan.release()
    own["_plans"], own["_are_tied"] = ready, tied


def _step_all(optimizer: Stepped, plans: Sequence[GroupPlan], groups: Groups, known: Mapping[str, float]) -> None:
    """Step these, where `known` are the totals and the numbers of the model."""
    for plan in plans:
        plan.tabulate(optimizer, groups, known)
    if known:
        totals.check(optimizer.rule, plans)
    for plan in plans:
        if plan.others:
            plan.step_others(optimizer, groups, known)
    for plan in plans:
        plan.launch(optimizer, groups)


# Plans: made, looked at, held against each other.


def _choices(optimizer: Stepped, where: tuple[int, ...], switches: Switches) -> list[Chosen | None]:
    """How the parameters of groups are parted into plans."""
    if not needs_shape(optimizer.rule, switches):
        return [None]
    found: dict[object, tuple[tuple[int, ...], list[list[int]]]] = {}
    for j, k in enumerate(where):
        for i, p in enumerate(optimizer.param_groups[k]["params"]):
            shape = tuple(p.shape)
            own = variant(optimizer.rule, switches, shape)
            _, places = found.setdefault((own.slots, own.is_compiled), (shape, [[] for _ in where]))
            places[j].append(i)
    if not found:
        return [Chosen(tuple(() for _ in where), None, ())]
    return [Chosen(tuple(map(tuple, places)), kind, shape) for kind, (shape, places) in found.items()]


def _plan(
    optimizer: Stepped,
    ready: list[GroupPlan],
    where: Iterable[int],
    scale: float | None,
    *,
    apart: bool = False,
    like: GroupPlan | None = None,
) -> None:
    """Add new plans for the groups at `where`: one for those that may step together, unless they are to be kept `apart`.

    Where a rule asks for shapes, one for each choice of slots; only that of the plan `like`, if it is given. What was made before one
    fails is in `ready`, to be released.
    """
    with torch.inference_mode(False), torch.no_grad():
        together: dict[Any, list[tuple[int, Settings]]] = {}
        for k in where:
            group = optimizer.param_groups[k]
            own = Settings(optimizer, group, scale)
            alike = own.switches, own.zeroes, own.special, bool(beyond_torch(optimizer, group))
            together.setdefault(k if apart else alike, []).append((k, own))
        for members in together.values():
            where, settings = zip(*members, strict=True)
            for chosen in _choices(optimizer, where, settings[0].switches):
                wanted = like.chosen if like is not None else None
                if wanted is None or (chosen is not None and chosen.kind == wanted.kind):
                    plan = GroupPlan(optimizer, where, list(settings), chosen)
                    ready.append(plan)  # at once: what was made before one fails must be released


def _look(optimizer: Stepped, ready: list[GroupPlan], plans: Sequence[GroupPlan], scale: float | None) -> None:
    """Add the plans of this step to `ready`: those of the step before, where they hold."""
    groups = optimizer.param_groups
    if len(groups) == len(plans) == 1 and plans[0].where == (0,):
        held = plans[0].still(groups, scale)  # a small step takes some microseconds: no lists for one
    else:
        held = len({k for plan in plans for k in plan.where}) == len(groups)
        held = held and all([plan.still(groups, scale) for plan in plans])
    if not held:
        _plan(optimizer, ready, range(len(groups)), scale)
        return
    for plan in plans:
        ready.append(plan)
        if not plan.prepare(optimizer, groups):
            if plan.chosen is not None:  # a parameter of another shape may have come to another plan
                while ready:
                    ready.pop().release()
                _plan(optimizer, ready, range(len(groups)), scale)
                return
            ready.pop().release()
            _plan(optimizer, ready, plan.where, scale)


def _look_again(optimizer: Stepped, ready: list[GroupPlan], k: int, scale: float | None) -> None:
    plan = ready[k]
    plan.release()
    if not plan.prepare(optimizer, optimizer.param_groups):
        plan.release()
        del ready[k]
        _plan(optimizer, ready, plan.where, scale, like=plan)
        ready.insert(k, ready.pop())


def _keep_in_order(optimizer: Stepped, ready: list[GroupPlan], scale: float | None) -> None:
    """One plan per group, in their order: they write to the same memory."""
    ready.sort(key=lambda plan: plan.where)
    if any(len(plan.where) > 1 for plan in ready):
        for plan in ready:
            plan.release()
        ready.clear()
        _plan(optimizer, ready, range(len(optimizer.param_groups)), scale, apart=True)


def _are_tied(optimizer: Stepped, plans: Sequence[GroupPlan]) -> bool:
    """Whether a plan writes where another reads or writes: one parameter in two groups, say, or a state that two share."""
    ranges = [plan.ranges(optimizer, optimizer.param_groups) for plan in plans]
    starts, sizes, written = (np.concatenate(part) for part in zip(*ranges, strict=True))
    return meeting(starts, sizes, written, np.repeat(np.arange(len(plans)), [len(own) for own, _, _ in ranges]))
