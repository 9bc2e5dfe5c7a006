"""`steprule.race`: tune everyone alike, confirm on fresh seeds, and say which differences are real."""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steprule.atomic import write_aside
from steprule.errors import InputError
from steprule.lanes.choose import Compile
from steprule.problems.problem import Problem
from steprule.problems.scoring import check_metrics
from steprule.provenance import hardware
from steprule.races import runner as running
from steprule.races.difference import refuse_another, unknowns_in
from steprule.races.estimate import estimate_of
from steprule.races.estimate import within as sizes_within
from steprule.races.measure import check_first_loss
from steprule.races.results import Race
from steprule.races.runner import EngineName, Progress
from steprule.races.spec import BOTH, FRESH, STUDIES, TRIALS, Competitor, Spec, spec_of
from steprule.races.store import BLOCKS, SPEC, Store, read_spec
from steprule.schedules import Given
from steprule.sweeps.estimate import Estimate
from steprule.trainable import Optimizable

MATTERS = 0.01
"""The smallest difference of losses that matters: one per cent."""


def race(
    rules: Sequence[Optimizable | Competitor] | Optimizable | Competitor | None = None,
    problems: Sequence[str | Problem] | str | Problem | None = None,
    trials: int = TRIALS,
    seeds: int = STUDIES,
    out: str | Path | None = None,
    *,
    fresh: int = FRESH,
    schedules: Sequence[Given] | Given = BOTH,
    matters: float = MATTERS,
    epochs: int | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    engine: EngineName = "local",
    workers: int | None = None,
    address: str | None = None,
    shard: tuple[int, int] | None = None,
    device: str = "cpu",
    first_seed: int = 0,
    progress: Progress | None = None,
    before: Callable[[], None] = lambda: None,
    told: Callable[[Estimate], None] | None = None,
) -> Race:
    """Race `rules` on `problems` after the same tuning effort.

    Each competitor is tuned `seeds` times, in independent studies: each study trains `trials` Sobol points of the
    competitor's space with one seed, the same for all competitors, and chooses by the validation loss; by the training loss
    where the problem has no validation split. Learning rates are
    searched over as many decades for everyone; where most studies' best lies at an end of the range, the range moves and
    the tuning is done again. Every study's winner is trained on `fresh` seeds that no study saw, and compared on the test
    split; on the validation split where there is no test, and on the training samples where nothing is held out
    (`Cell.measure`). Losses are compared by ratios; by differences where a loss of the problem is 0 or less (`Cell.scale`).
    Intervals hold the luck of both tunings and of the seeds; Holm's method keeps the chance of any wrong "real" difference
    on a problem with a schedule at 5 %.

    Args:
        rules: rules, Optimizer classes, factories or `Competitor`s, or one of them; None for the whole catalogue.
        problems: problems or their names; None for airfoil-linear, airfoil-mlp and digits-softmax.
        trials: trainings of a study, 1 or more.
        seeds: studies, 1 or more; from 2 on, with 2 or more fresh seeds, differences can be told from luck.
        out: a folder. Finished blocks land there and are not trained again, so a race that was interrupted goes on, and
            gives the same bits. None keeps everything in memory.
        fresh: seeds of the comparison, 1 or more.
        schedules: of the learning rate, one or several, as in `steprule.train`.
        matters: the smallest difference that matters, as a share of the loss, 0 or more; where losses are compared by
            differences, as a share of the fall from the loss before the first step to the lowest competitor's.
        epochs: passes over the data; the problem's own if not given.
        batch_size: samples a step; the problem's own if not given.
        compile: as in `steprule.sweep`.
        engine: "local", or "ray" (needs `pip install "steprule[ray]"`); `address` is the Ray cluster's.
        workers: processes of the local engine; all cores if not given and worth it.
        shard: (i, n): only the i-th of n parts, from 0; `merge` puts the folders together.
        device: where to train, as torch names it; kernels run on the CPU.
        first_seed: of the studies' and the fresh seeds; with seeds that do not overlap two races are independent.
        progress: called with (lanes done, lanes in all, what); ranges that move add some.
        before: called once the folder is held, before anything is trained.
        told: called with what it will take, before anything is trained; what it raises ends the race. Seconds and memory are
            measured where the race is long.

    Raises:
        StepruleError: an unknown name, a value out of bounds; a loss that is not finite before the first step; a folder with
            another race, or with one that is running; a damaged block; a disk that is full.
        KeyboardInterrupt: with every finished block kept.

    >>> found = race(["sgd", "adam"], "airfoil-linear", trials=8, seeds=2, fresh=5, schedules=["linear"], epochs=1)
    >>> len(found.cells), sorted(s.label for s in found.cells[0].standings)
    (1, ['adam', 'sgd'])
    """
    began = time.perf_counter()
    if not matters >= 0:
        raise InputError("matters", expected="a share, 0 or more", got=repr(matters))
    index, count = shard or (0, 1)
    if not 0 <= index < count:
        raise InputError("shard", expected="i of n with 0 <= i < n", got=f"{index} of {count}")
    spec = spec_of(
        rules, problems, trials=trials, seeds=seeds, fresh=fresh, schedules=schedules, epochs=epochs,
        batch_size=batch_size, compile=compile, device=device, first_seed=first_seed,
    )  # fmt: skip
    if count > 1 and (unknown := next(unknowns_in(spec.stated), None)):
        hint = "No shard could be told to be of this race; run it whole."
        raise InputError("shard", expected="what can be identified", got=unknown, hint=hint)
    for task in spec.problems:
        check_first_loss(task, first_seed)
        check_metrics(task)
    store = Store(Path(out) if out is not None else None, spec.stated, spec.metric_columns)
    with store.locked("" if shard is None else f"-{index}-of-{count}"):
        if told is not None:
            told(estimate_of(spec, store, workers, (index, count), measure=False))
        before()
        found = running.run(
            spec, store, engine=engine, workers=workers, address=address, shard=(index, count), progress=progress
        )
        table = store.write_table(found.phases) if count == 1 else None
    return _race(spec, found, matters, began, table)


def estimate(
    rules: Sequence[Optimizable | Competitor] | Optimizable | Competitor | None = None,
    problems: Sequence[str | Problem] | str | Problem | None = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    **settings: object,
) -> Estimate:
    """What a race of these arguments will take on this machine: trainings, steps, seconds, memory, measured on a few steps.

    `out` is the folder of a race that goes on: what is there is not counted. The other arguments are those of `race`.

    Raises `StepruleError` as `race` does.

    >>> estimate(["sgd", "adam"], "airfoil-linear", trials=8, seeds=2, fresh=5, schedules=["linear"]).trainings
    88
    """
    spec = spec_of(rules, problems, **_known(settings, "estimate"))
    for task in spec.problems:
        check_first_loss(task, spec.first_seed)
    folder = Path(out) if out is not None else None
    if folder is not None and (folder / SPEC).exists():
        refuse_another(folder, read_spec(folder), spec.stated)
    return estimate_of(spec, Store(folder, spec.stated, spec.metric_columns), workers, shard or (0, 1))


def within(
    seconds: float,
    rules: Sequence[Optimizable | Competitor] | Optimizable | Competitor | None = None,
    problems: Sequence[str | Problem] | str | Problem | None = None,
    *,
    workers: int | None = None,
    **settings: object,
) -> dict[str, int]:
    """The `trials`, `seeds` and `fresh` of the largest race, no larger than asked for, that takes about `seconds` here.

    Raises `InputError` where the smallest race takes longer; otherwise as `race` does.
    """
    return sizes_within(seconds, spec_of(rules, problems, **_known(settings, "within")), workers)


def _known(settings: Mapping[str, object], where: str) -> dict[str, Any]:
    known = [p for p in inspect.signature(spec_of).parameters if p not in ("rules", "on")]
    if unknown := set(settings) - set(known):
        raise InputError(where, expected="one of " + ", ".join(known), got=unknown.pop())
    return dict(settings)


def merge(
    folders: Sequence[str | Path],
    out: str | Path,
    rules: Sequence[Optimizable | Competitor] | None = None,
    problems: Sequence[str | Problem] | str | Problem | None = None,
    *,
    matters: float = MATTERS,
    **settings: object,
) -> Race:
    """Put the folders of shards together in `out`, and the race that they make; arguments are those of `race`.

    Raises `StepruleError` where a folder holds another race, or a part is missing.
    """
    began = time.perf_counter()
    spec = spec_of(rules, problems, **_known(settings, "merge"))
    store = Store(Path(out), spec.stated, spec.metric_columns)
    with store.locked():
        for folder in map(Path, folders):
            refuse_another(folder, read_spec(folder), store.spec, hint="")
            for path in sorted((folder / BLOCKS).glob("*.parquet")):
                target = Path(out) / BLOCKS / path.name
                if path.name.startswith(".") or target.exists():
                    continue
                with write_aside(target) as aside:
                    shutil.copyfile(path, aside)
        found = running.run(spec, store, train=False)
        table = store.write_table(found.phases)
    return _race(spec, found, matters, began, table)


def _race(spec: Spec, found: running.Outcome, matters: float, began: float, table: Path | None) -> Race:
    return Race(
        spec=spec,
        phases=found.phases,
        matters=matters,
        seconds=time.perf_counter() - began,
        train_seconds=found.train_seconds,
        trained=found.trained,
        kept=found.kept,
        hardware=hardware(),
        results=table,
    )
