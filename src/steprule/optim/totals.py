"""Totals over an optimizer's tensors, and numbers of the model: what is known before any tensor is stepped.

A number of the model (`OnePerModel`) is one 0-dim tensor in float64 on the CPU. The states of all parameters that have stepped share
it, so that a parameter that joins later, or rests for a while, finds the number that is true now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from steprule.compiler import eager
from steprule.compiler.graph import Graph
from steprule.compiler.phases import rounds_of
from steprule.optim import one_by_one
from steprule.optim.buckets import Bucket
from steprule.optim.computation import Computation
from steprule.optim.settings import Settings, Stepped
from steprule.optim.states import number


class Phased(Protocol):
    """What this file asks of the plan for some groups."""

    computation: Computation
    buckets: list[Bucket]
    others: list[int]
    settings: list[Settings]
    group_of: Any
    groups: Any
    new_numbers: dict[str, list[float]]
    """The new values of numbers of the model, as its tensors give them."""

    def members_of(self, groups: Sequence[dict[str, Any]]) -> list[Tensor]:
        """The parameters of its groups."""

    def numbers_of_step(self, further: float = 0.0) -> dict[str, Any]:
        """What the scalars depend on, of all tensors of kernels."""

    def reduced_numbers(self, bucket: Bucket) -> dict[str, Any]:
        """The slots of one number that follow from reductions."""


def known_to(optimizer: Stepped, plans: Sequence[Phased]) -> dict[str, float]:
    """The numbers of the model by name, and all totals of this step by place. Nothing is written."""
    known = {name: float(held) for name, held in _held(optimizer, plans).items()}
    for places in rounds_of(graph for plan in plans for graph in _graphs(optimizer, plan)):
        parts = [own for plan in plans for own in _parts(optimizer, plan, places, known)]
        known |= eager.total_parts(parts, places)
    return known


def _beside(optimizer: Stepped, plan: Phased) -> list[tuple[Tensor, Mapping[str, Any]]]:
    """The parameters that the author's function steps, each with its hyperparameters."""
    if not plan.others or plan.computation.by_torch:
        return []
    members = plan.members_of(optimizer.param_groups)
    return [(members[m], plan.settings[plan.group_of[m]].hypers) for m in plan.others]


def _graphs(optimizer: Stepped, plan: Phased) -> Iterator[Graph]:
    """What the tensors of a plan compute in this step."""
    for bucket in plan.buckets:
        yield plan.computation.variant.graph(bucket.alike.absent)
    for p, _ in _beside(optimizer, plan):
        yield plan.computation.graph_of(optimizer.state.get(p) or {})


def _parts(
    optimizer: Stepped, plan: Phased, places: frozenset[str], known: Mapping[str, float]
) -> Iterator[Mapping[str, float]]:
    """What the tensors of a plan add to the totals at these places, in one record per bucket and one per parameter beside them."""
    hypers = [{**settings.hypers, **known} for settings in plan.settings]
    for bucket in plan.buckets:
        if (measure := bucket.measuring(plan.computation.variant, places)) is not None:
            measure.tabulate(hypers, plan.groups, plan.numbers_of_step(1.0))
            yield measure.add_up(plan.reduced_numbers(measure))
    used = plan.computation.used
    with torch.no_grad():
        beside = [one_by_one.parts_of(optimizer, p, used, own, known) for p, own in _beside(optimizer, plan)]
    yield from beside


def check(rule: Any, plans: Sequence[Phased]) -> None:
    """Raise `InputError` where a number of the model would come out as several."""
    for name in {name for plan in plans for name in plan.new_numbers}:
        eager.one_number(rule, name, [v for plan in plans for v in plan.new_numbers.get(name, ())])


def keep(optimizer: Stepped, plans: Sequence[Phased]) -> None:
    """Write the new numbers of the model."""
    for name, held in _held(optimizer, plans).items():
        values = [v for plan in plans for v in plan.new_numbers.get(name, ())]
        if values:
            held.fill_(values[0])
    for plan in plans:
        plan.new_numbers = {}


def share(optimizer: Stepped, computation: Computation, params: Iterable[Tensor], hypers: Mapping[str, Any]) -> None:
    """Give the states of these parameters the numbers of the model; where none of the optimizer has one, it begins.

    After a checkpoint was loaded, each state has a copy: that of the first parameter is the number.
    """
    params = list(params)
    for slot in computation.of_model:
        states = list(_states_with(optimizer, slot.name))
        held = states[0][slot.name] if states else None
        if not isinstance(held, Tensor) or held.dtype is not torch.float64 or held.device.type != "cpu":
            held = number(eager.start_number(slot, hypers) if held is None else float(held), torch.float64)
        for state in (*states, *(optimizer.state[p] for p in params)):
            if state.get(slot.name) is not held:
                state[slot.name] = held


def _states_with(optimizer: Stepped, name: str) -> Iterable[dict[str, Any]]:
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p)
            if state and state.get(name) is not None:
                yield state


def _held(optimizer: Stepped, plans: Sequence[Phased]) -> dict[str, Tensor]:
    names = dict.fromkeys(slot.name for plan in plans for slot in plan.computation.of_model)
    first = {name: next(iter(_states_with(optimizer, name)), None) for name in names}
    return {name: state[name] for name, state in first.items() if state is not None}
