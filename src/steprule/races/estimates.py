"""What a race will take: its trainings are counted, and a few steps of each kind are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from steprule.counts import counted
from steprule.display import duration
from steprule.errors import InputError
from steprule.provenance import memory_held
from steprule.races.chain import Chain
from steprule.races.protocol import Tuned
from steprule.races.runner import Going, Referee, Shard, workers_for
from steprule.races.spec import Spec
from steprule.races.store import Store
from steprule.races.work import alone
from steprule.sweeps.cost import TrainingCost, cost_of
from steprule.sweeps.estimate import AlikeTrainings, Estimate, is_long, work_of
from steprule.training.recipe import Recipe

SIZES = ((64, 5, 12), (48, 5, 12), (32, 5, 10), (24, 4, 10), (16, 4, 8), (12, 3, 8), (8, 3, 6), (6, 2, 4), (4, 2, 3))
"""Trials, studies and fresh seeds of races, each smaller than the one before it."""


def estimate_of(
    spec: Spec, store: Store, workers: int | None = None, shard: Shard = (0, 1), referee: Referee | None = None,
    *, measure: bool = True,
) -> Estimate:  # fmt: skip
    """The estimate of a race, or of a shard of it. With `measure` False only what is long is measured.

    Raises what its trainings would raise.
    """
    lanes = remaining(spec, store, shard, referee)
    parts = [_some(spec, chain, missing) for chain, (missing, _) in lanes.items() if missing]
    costs = _costs(spec, [c for c, (m, _) in lanes.items() if m]) if measure or is_long(parts) else None
    return _estimate(spec, lanes, costs, workers)


def within(seconds: float, spec: Spec, workers: int | None = None) -> dict[str, int]:
    """The trials, seeds and fresh seeds, at most those of `spec`, of the largest race that takes no longer.

    Fresh seeds go first, then trials, then studies: beyond some ten, fresh seeds gain little.
    Raises `InputError` where the smallest race takes longer.
    """
    tuned = spec.protocol
    if not isinstance(tuned, Tuned):
        raise InputError("budget", expected="a race that tunes", got="settings as given", hint="Give fewer seeds.")
    memory = Store(None, spec)
    costs = _costs(spec, list(remaining(spec, memory)))
    for trials, studies, fresh in ((tuned.trials, tuned.studies, tuned.fresh), *SIZES):
        trials, studies, fresh = min(trials, tuned.trials), min(studies, tuned.studies), min(fresh, tuned.fresh)
        smaller = replace(spec, protocol=replace(tuned, trials=trials, studies=studies, fresh=fresh))
        found = _estimate(smaller, remaining(smaller, memory), costs, workers)
        if (found.seconds or 0.0) <= seconds:
            return {"trials": trials, "seeds": studies, "fresh": fresh}
    least = f"{duration(found.seconds or 0.0)} or more, for {counted(found.trainings, 'training')}"
    raise InputError(
        "budget", expected=least, got=duration(seconds), hint="Fewer rules, schedules or epochs take less."
    )


def remaining(
    spec: Spec, store: Store, shard: Shard = (0, 1), referee: Referee | None = None
) -> dict[Chain, tuple[int, int]]:
    """By chain how many lanes are to be trained, where no range moves any more, and how many are kept.

    Of a race until decided those before the next look.
    """
    going, found = Going(spec, store, shard, referee, train=True), {}
    for chain in going.chains.values():
        missing = sum(len(block.lanes) for own, block in going.queue if own is chain)
        to_come = chain.planned.to_come if missing and chain.planned else 0
        found[chain.chain] = missing + to_come, chain.kept
    return found


def _costs(spec: Spec, chains: Sequence[Chain]) -> dict[Chain, TrainingCost]:
    alike = {(chain.problem, chain.label): chain for chain in chains}  # whatever their schedule
    costs = {key: _cost(spec, chain) for key, chain in alike.items()}
    return {chain: costs[chain.problem, chain.label] for chain in chains}


def _estimate(
    spec: Spec, lanes: Mapping[Chain, tuple[int, int]], costs: Mapping[Chain, TrainingCost] | None, workers: int | None
) -> Estimate:
    parts = {chain: _some(spec, chain, missing) for chain, (missing, _) in lanes.items() if missing}
    count = workers_for(spec, sum(p.trainings for p in parts.values())) if workers is None else workers
    seconds = held = None
    if costs is not None:
        own = {chain: costs[chain].seconds(part.trainings, part.steps) for chain, part in parts.items()}
        longest = max((_serial(spec, chain, own[chain], p.trainings, count) for chain, p in parts.items()), default=0.0)
        once = sum(costs[chain].once for chain in parts)
        seconds = once / count + max(sum(own.values()) / count, longest)
        held = count * (max((costs[chain].held for chain in parts), default=0) + memory_held())
    missing = sum(part.trainings for part in parts.values())
    return Estimate(
        trainings=missing,
        most=missing + sum(spec.protocol.spare(spec.entrant(chain.label)) for chain in parts),
        kept=sum(kept for _, kept in lanes.values()),
        steps=sum(part.trainings * part.steps for part in parts.values()),
        seconds=seconds,
        workers=count,
        threads=max((config.threads for config in spec.configs.values()), default=1),
        bytes=held,
        **_why_more(spec),
    )


def _why_more(spec: Spec) -> dict[str, str]:
    if isinstance(spec.protocol, Tuned) and spec.protocol.stages > 1:
        return {"why_more": "where ranges of learning rates have to move, or nothing is decided before the last stage"}
    return {}


def _some(spec: Spec, chain: Chain, trainings: int) -> AlikeTrainings:
    config, entrant = spec.configs[chain.problem], spec.entrant(chain.label)
    task = entrant.trains(spec.problem(chain.problem))
    engine = config.engine if entrant.is_rule else "one by one"
    size = config.epochs, config.batch_size
    cost = partial(_cost, spec, chain)
    return AlikeTrainings(trainings, Recipe(*size).steps(task), work_of(task, *size), engine, cost)


def _serial(spec: Spec, chain: Chain, seconds: float, lanes: int, workers: int) -> float:
    """The least wall time of a chain whose blocks are shared by the workers."""
    first = spec.protocol.following(chain, spec.entrant(chain.label), [])
    size = 1 if first is not None and first.grows else spec.block(chain.problem, chain.label)
    blocks = -(-lanes // size)
    return seconds * -(-blocks // workers) / blocks


def _cost(spec: Spec, chain: Chain) -> TrainingCost:
    config, entrant = spec.configs[chain.problem], spec.entrant(chain.label)
    first = spec.protocol.following(chain, entrant, [])
    seeds = first.lanes.seed.tolist() if first is not None else [0]
    lanes = min(len(seeds), spec.block(chain.problem, entrant.label))
    how: dict[str, Any] = {"batch_size": config.batch_size, "engine": config.engine, "device": spec.device}
    with alone(config.threads):  # as a worker trains
        task = entrant.trains(spec.problem(chain.problem))
        return cost_of(task, entrant.what, entrant.middle, lanes, len(set(seeds)), **how)
