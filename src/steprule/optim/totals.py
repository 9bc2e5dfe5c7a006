"""Totals over an optimizer's tensors, and numbers of the model: what is known before any tensor is stepped.

A number of the model (`OnePerModel`) is one 0-dim tensor in float64 on the CPU. The states of all parameters that have stepped share
it, so that a parameter that joins later, or rests for a while, finds the number that is true now.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from steprule.compiler import eager
from steprule.compiler.graph import Graph
from steprule.compiler.phases import clipping_places, rounds_of
from steprule.optim import one_by_one
from steprule.optim.beside import Beside
from steprule.optim.buckets import Bucket
from steprule.optim.computation import Computation
from steprule.optim.live import LiveNumbers
from steprule.optim.settings import Settings, Stepped
from steprule.optim.sharding import Cut, refuse_backward, whole_cut
from steprule.optim.states import number
from steprule.rules.parts import is_clipping_norm

Known = Mapping[str, Mapping[str, float]]
"""By team what is known before any of its tensors is stepped."""


NORM = "_grad_norm"
"""The attribute of an optimizer that holds the norm of its last step's gradients, where something clips by it."""


class Phased(Protocol):
    """What this file asks of the plan for some groups."""

    team: str
    """The name of those that step by one rule: they have totals and numbers of the model in common."""
    computation: Computation
    buckets: list[Bucket]
    beside: Beside
    settings: list[Settings]
    groups: Any
    live: LiveNumbers | None
    new_numbers: dict[str, list[float]]
    """The new values of numbers of the model, as its tensors give them."""

    def by(self, optimizer: Stepped) -> Stepped:
        """The optimizer as the class by whose rule its groups step."""

    def members_of(self, groups: Sequence[dict[str, Any]]) -> list[Tensor]:
        """The parameters of its groups."""

    def numbers_of_step(self, further: float = 0.0) -> dict[str, Any]:
        """What the scalars depend on, of all tensors of kernels."""

    def reduced_numbers(self, bucket: Bucket) -> dict[str, Any]:
        """The slots of one number that follow from reductions."""


def known_to(optimizer: Stepped, plans: Sequence[Phased]) -> Known:
    """The numbers of the model by name, and all totals of this step by place. Nothing is written."""
    if any([plan.computation.clips for plan in plans]):
        refuse_backward(type(optimizer).__name__, "clip_norm")
    teams = _by_team(plans)
    norms = _norms(optimizer, teams) if len(teams) > 1 else {}
    return {team: _known_to(optimizer, own, norms.get(team, {})) for team, own in teams.items()}


def clipped_norm(known: Known) -> float | Tensor | None:
    """The norm of all gradients by which they were clipped; None where nothing clips."""
    squares = [v for own in known.values() for place, v in own.items() if is_clipping_norm(place)]
    if squares and isinstance(squares[0], Tensor):
        return squares[0].sqrt()
    return math.sqrt(squares[0]) if squares else None  # every team has that of all


def _by_team(plans: Sequence[Phased]) -> dict[str, list[Phased]]:
    found: dict[str, list[Phased]] = {}
    for plan in plans:
        found.setdefault(plan.team, []).append(plan)
    return found


def _norms(optimizer: Stepped, teams: Mapping[str, Sequence[Phased]]) -> dict[str, dict[str, float]]:
    """For each team the total by which gradients are clipped, where it clips: that of all teams that do."""
    added = {}
    for team, plans in teams.items():
        places = clipping_places(_graphs(optimizer, plans))
        added[team] = _added(optimizer, plans, places, {}) if places else {}
    norm = sum(value for own in added.values() for value in own.values())
    return {team: dict.fromkeys(own, norm) for team, own in added.items()}


def _known_to(optimizer: Stepped, plans: Sequence[Phased], given: Mapping[str, float]) -> dict[str, float]:
    """The same of one team, where some totals are given."""
    known = {name: float(held) for name, held in _held(optimizer, plans).items()} | dict(given)
    for places in rounds_of(_graphs(optimizer, plans)):
        if unknown := places.difference(known):
            known |= _added(optimizer, plans, unknown, known)
    return known


def _added(
    optimizer: Stepped, plans: Sequence[Phased], places: frozenset[str], known: Mapping[str, float]
) -> dict[str, float]:
    """The totals at these places."""
    return over_processes(
        optimizer, chain.from_iterable(_parts(optimizer, plan, places, known) for plan in plans), places
    )


def over_processes(
    optimizer: Stepped, found: Iterable[tuple[Cut | None, Mapping[str, float]]], places: Collection[str]
) -> dict[str, float]:
    """The totals at these places, from what is `found` in this process. What lies in shards is added up over those that have the others."""
    parts: dict[Cut | None, list[Mapping[str, float]]] = {}
    if optimizer.clip_group is not None:
        parts[
            whole_cut(optimizer.clip_group)
        ] = []  # a process that has nothing to add must not leave the others waiting
    for cut, own in found:
        parts.setdefault(cut, []).append(own)
    sums = {cut: eager.total_parts(own, places) for cut, own in parts.items()}
    return eager.total_parts([cut.summed(own, places) if cut else own for cut, own in sums.items()], places)


def _beside(optimizer: Stepped, plan: Phased) -> Iterable[tuple[Tensor, Mapping[str, Any]]]:
    """The parameters that the author's function steps, each with its hyperparameters."""
    return plan.beside.by_function(plan.members_of(optimizer.param_groups)) if plan.beside.places else ()


def _graphs(optimizer: Stepped, plans: Sequence[Phased]) -> Iterator[Graph]:
    """What the tensors of some plans compute in this step."""
    for plan in plans:
        if optimizer.clip_group is not None:
            yield from map(plan.computation.variant.graph, plan.computation.variant.stages)
        for bucket in plan.buckets:
            yield bucket.alike.variant.graph(bucket.alike.absent)
        for p, _ in _beside(optimizer, plan):
            yield plan.computation.graph_of(p, optimizer.state.get(p) or {})


def _parts(
    optimizer: Stepped, plan: Phased, places: frozenset[str], known: Mapping[str, float]
) -> Iterator[tuple[Cut | None, Mapping[str, float]]]:
    """What the tensors of a plan add to the totals at these places, in one record per bucket and one per parameter beside them; and
    over which processes it is to be added up. The author's function has seen a DTensor whole."""
    hypers = [{**settings.hypers, **known} for settings in plan.settings]
    for bucket in plan.buckets:
        if (measure := bucket.measuring(places)) is not None:
            if plan.live is not None:
                plan.live.fill(measure, hypers)
            else:
                measure.tabulate(hypers, plan.groups, plan.numbers_of_step(1.0))
            yield bucket.alike.cut, measure.add_up(plan.reduced_numbers(measure))
    used, by, wanted = plan.computation.used, plan.by(optimizer), plan.computation.state_dtype
    with torch.no_grad():
        beside = [one_by_one.parts_of(by, p, used, own, known, wanted) for p, own in _beside(optimizer, plan)]
    cut = whole_cut(optimizer.clip_group)
    yield from ((cut, own) for own in beside)


def check(plans: Sequence[Phased]) -> None:
    """Raise `InputError` where a number of the model would come out as several."""
    for own in _by_team(plans).values():
        for name in {name for plan in own for name in plan.new_numbers}:
            values = [v for plan in own for v in plan.new_numbers.get(name, ())]
            eager.one_number(own[0].computation.rule, name, values)


def keep(optimizer: Stepped, plans: Sequence[Phased], known: Known) -> None:
    """Write the new numbers of the model, and the norm; a step that only moves the parameters hands on what they are."""
    optimizer.__dict__[NORM] = clipped_norm(known)
    for own in _by_team(() if optimizer.moves else plans).values():
        for name, held in _held(optimizer, own).items():
            values = [v for plan in own for v in plan.new_numbers.get(name, ())]
            if values:
                held.fill_(values[0])
    for plan in plans:
        plan.new_numbers = {}


def share(optimizer: Stepped, plan: Phased, params: Iterable[Tensor]) -> None:
    """Give the states of these parameters of a plan the numbers of the model; where none of its team has one, it begins.

    After a checkpoint was loaded, each state has a copy: that of the first parameter is the number.
    """
    params, hypers = list(params), plan.settings[0].hypers
    for slot in plan.computation.of_model:
        states = list(_states_with(optimizer, plan.team, slot.name))
        held = states[0][slot.name] if states else None
        if not isinstance(held, Tensor) or held.dtype is not torch.float64 or held.device.type != "cpu":
            held = number(eager.start_number(slot, hypers) if held is None else float(held), torch.float64)
        for state in (*states, *(optimizer.state[p] for p in params)):
            if state.get(slot.name) is not held:
                state[slot.name] = held


def _states_with(optimizer: Stepped, team: str, name: str) -> Iterable[dict[str, Any]]:
    for group in (group for group in optimizer.param_groups if optimizer.team_of(group) == team):
        for p in group["params"]:
            state = optimizer.state.get(p)
            if state and state.get(name) is not None:
                yield state


def _held(optimizer: Stepped, plans: Sequence[Phased]) -> dict[str, Tensor]:
    """The numbers of the model of one team."""
    names = dict.fromkeys(slot.name for plan in plans for slot in plan.computation.of_model)
    first = {name: next(iter(_states_with(optimizer, plans[0].team, name)), None) for name in names}
    return {name: state[name] for name, state in first.items() if state is not None}
