"""`steprule.race`: tune alike, confirm on fresh seeds, say what is real; or compare settings as given."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from steprule.atomic import write_aside
from steprule.counts import whole
from steprule.errors import InputError, unknown_name
from steprule.keywords import shows
from steprule.problems.scoring import check_metrics
from steprule.provenance import Made
from steprule.races import runner
from steprule.races.deciding import Looking
from steprule.races.difference import refuse_another, unknowns_in
from steprule.races.estimates import estimate_of, within as sizes_within
from steprule.races.measure import check_first_loss
from steprule.races.protocol import Tuned
from steprule.races.raced import Race
from steprule.races.runner import EngineName, Progress, Shard
from steprule.races.spec import DEFAULTS, Problems, Rules, Seeds, Settings, Spec, spec_from, spec_of
from steprule.races.store import BLOCKS, SPEC, TABLE, Store, read_made, read_spec, write_made
from steprule.sizes import MATTERS, TRIALS
from steprule.sweeps.estimate import Estimate


class RaceSettings(Settings, total=False):
    """What `steprule.race` takes by keyword, and explains: what decides its results, and how it runs."""

    matters: float
    budget: float | None
    engine: EngineName
    workers: int | None
    address: str | None
    shard: Shard | None
    progress: Progress | None
    before: Callable[[], None] | None
    told: Callable[[Estimate], None] | None


RACE_DEFAULTS: RaceSettings = {
    **DEFAULTS, "matters": MATTERS, "budget": None, "engine": "local", "workers": None, "address": None, "shard": None, "progress": None,
    "before": None, "told": None,
}  # fmt: skip


@shows(RaceSettings, RACE_DEFAULTS)
def race(
    rules: Rules = None,
    problems: Problems = None,
    trials: int = TRIALS,
    seeds: Seeds = None,
    out: str | Path | None = None,
    **settings: Unpack[RaceSettings],
) -> Race:
    """Race `rules` on `problems` after the same tuning effort; with `trials=0` as they are given.

    A tuning trains `trials` Sobol points of the competitor's space and chooses by the validation loss; by the training loss
    where the problem has no validation split. `seeds` times as many are trained, in batches with seeds that are the same for all
    competitors, and every choice of `trials` of them counts as a tuning. Learning rates are searched over as many decades for
    everyone; where most batches' best lies at an end of the range, the range moves and the tuning is done again. The best
    trials are trained on `fresh` seeds that no trial saw, each as often as it is the best of a tuning, and compared on the test
    split; on the validation split where there is no test, and on the training samples where nothing is held out
    (`Cell.measure`). Losses are compared by ratios; by differences where a loss of the problem is 0 or less (`Cell.scale`).
    Intervals hold the luck of both tunings and of the seeds; Holm's method keeps the chance of any wrong "real" difference
    on a problem with a schedule at 5 %.

    With `trials=0` nothing is tuned: each competitor trains at its settings with each seed, measured along the way as
    `steprule.train` does, and `Race.settings` has the spread of each. This ranks settings, not optimizers.

    Args:
        rules: rules, Optimizer classes, factories or `Competitor`s, or one of them; None for those of `steprule.sizes.RULES`.
        problems: problems or their names; None for airfoil-linear, airfoil-mlp and digits-softmax; for airfoil with `trials=0`.
        trials: trainings of a tuning; 0 for settings as given.
        seeds: how many times as many are trained, 1 or more (5); from 2 on, with 2 or more fresh seeds, differences can be told
            from luck. With `trials=0` how many seeds, from 0, or the seeds themselves (20).
        out: a folder. Finished blocks land there and are not trained again, so a race that was interrupted goes on, and
            gives the same bits; with `trials=0` more seeds add to it. None keeps everything in memory.
        settings: by keyword, any of these:

            - `fresh=None`: seeds of the comparison in a tuned race, 1 or more (30).
            - `until=None`: with "decided" the race is run again, on other seeds, until it is known of everyone but the lowest whether it
              is really above it or no more than `matters` from it; 8 times at most. Who is known leaves. The chance of any wrong
              "real" stays at 5 %, with all looks (`steprule.races.looks`).
            - `schedules=None`: of the learning rate, one or several, as in `steprule.train`; constant and linear, or constant with
              `trials=0`.
            - `epochs=None`: passes over the data; the problem's own if not given.
            - `batch_size=None`: samples per step; the problem's own if not given.
            - `compile="auto"`: as in `steprule.sweep`.
            - `device="cpu"`: where to train, as torch names it; kernels run on the CPU.
            - `first_seed=None`: of the trials' and the fresh seeds (0); with seeds that do not overlap two races are independent.
            - `protocol=None`: what the race trains, in place of `trials`, `seeds`, `fresh` and `first_seed`: see
              `steprule.races.Protocol`.
            - `matters=0.01`: the smallest difference that matters, as a share of the loss, 0 or more; where losses are compared by
              differences, as a share of the fall from the loss before the first step to the lowest competitor's.
            - `budget=None`: with `until` the seconds of this call beyond which nothing more begins; it can go on later in its folder.
            - `engine="local"`: or "ray" (needs `pip install steprule[ray]`).
            - `workers=None`: processes of the local engine; all cores if not given and worth it.
            - `address=None`: of the Ray cluster; one is started here if not given.
            - `shard=None`: as (i, n), only the i-th of n parts, from 0; `merge` puts the folders together.
            - `progress=None`: called with (lanes done, lanes in all, what); ranges that move add some.
            - `before=None`: called once the folder is held, before anything is trained.
            - `told=None`: called with what it will take, before anything is trained; what it raises ends the race. Seconds and
              memory are measured where the race is long.

    Raises:
        StepruleError: an unknown name, a value out of bounds; a loss that is not finite before the first step; a folder with
            another race, or with one that is running; a damaged block; a disk that is full.
        KeyboardInterrupt: with every finished block kept.

    >>> found = race(["sgd", "adam"], "airfoil-linear", trials=8, seeds=2, fresh=5, schedules=["linear"], epochs=1)
    >>> len(found.cells), sorted(s.label for s in found.cells[0].standings)
    (1, ['adam', 'sgd'])
    """
    began = time.perf_counter()
    spec = spec_from(rules, problems, trials, seeds, settings, RaceSettings)
    settings = {**RACE_DEFAULTS, **settings}
    matters, shard = _mattering(settings["matters"]), settings["shard"] or (0, 1)
    _check_shard(spec, shard)
    _check_engine(settings["engine"], settings["workers"])
    _check(spec)
    referee = _referee(spec, matters, settings["budget"])
    with Store.opened(out, spec, "-{}-of-{}".format(*shard) if settings["shard"] else "") as store:
        if told := settings["told"]:
            told(estimate_of(spec, store, settings["workers"], shard, _referee(spec, matters), measure=False))
        if before := settings["before"]:
            before()
        how: dict[str, Any] = {n: v for n, v in settings.items() if n in ("engine", "workers", "address", "progress")}
        found = runner.run(spec, store, shard=shard, referee=referee, **how)
        table = store.write_table(found.phases) if shard[1] == 1 else None
        made = store.keep_made(found.trained)
    return _race(spec, found, matters, began, table, made)


@shows(Settings, DEFAULTS)
def estimate(
    rules: Rules = None,
    problems: Problems = None,
    trials: int = TRIALS,
    seeds: Seeds = None,
    *,
    out: str | Path | None = None,
    matters: float = MATTERS,
    workers: int | None = None,
    shard: Shard | None = None,
    **settings: Unpack[Settings],
) -> Estimate:
    """What a race of these arguments will take on this machine: trainings, steps, seconds, memory, measured on a few steps.

    `out` is the folder of a race that goes on: what is there is not counted. Of a race until decided it is what is trained before the next
    look. The other arguments are those of `race`.

    Raises `StepruleError` as `race` does.

    >>> estimate(["sgd", "adam"], "airfoil-linear", trials=8, seeds=2, fresh=5, schedules=["linear"]).trainings
    88
    """
    spec = spec_of(rules, problems, trials, seeds, **settings)
    _check(spec)
    folder = Path(out) if out is not None else None
    if folder is not None and (folder / SPEC).exists():
        refuse_another(folder, read_spec(folder), spec.stated)
    return estimate_of(spec, Store(folder, spec), workers, shard or (0, 1), _referee(spec, _mattering(matters)))


@shows(Settings, DEFAULTS)
def within(
    seconds: float,
    rules: Rules = None,
    problems: Problems = None,
    trials: int = TRIALS,
    seeds: Seeds = None,
    *,
    workers: int | None = None,
    **settings: Unpack[Settings],
) -> dict[str, int]:
    """The `trials`, `seeds` and `fresh` of the largest race, no larger than asked for, that takes about `seconds` here.

    Raises `InputError` where the smallest race takes longer; otherwise as `race` does.
    """
    return sizes_within(seconds, spec_of(rules, problems, trials, seeds, **settings), workers)


@shows(Settings, DEFAULTS)
def merge(
    folders: Sequence[str | Path],
    out: str | Path,
    rules: Rules = None,
    problems: Problems = None,
    trials: int = TRIALS,
    seeds: Seeds = None,
    *,
    matters: float = MATTERS,
    **settings: Unpack[Settings],
) -> Race:
    """Put the folders of shards together in `out`, and the race that they make; arguments are those of `race`.

    Raises `StepruleError` where a folder holds another race, or a part is missing.
    """
    began = time.perf_counter()
    spec = spec_of(rules, problems, trials, seeds, **settings)
    with Store.opened(out, spec) as store:
        for folder in map(Path, folders):
            refuse_another(folder, read_spec(folder), store.spec, hint="")
            for path in sorted((folder / BLOCKS).glob("*.parquet")):
                target = Path(out) / BLOCKS / path.name
                if path.name.startswith(".") or target.exists():
                    continue
                with write_aside(target) as aside:
                    shutil.copyfile(path, aside)
        found = runner.run(spec, store, train=False, referee=_referee(spec, _mattering(matters)))
        table = store.write_table(found.phases)
        parts = [made for made in map(read_made, map(Path, folders)) if made is not None]
        if parts and read_made(Path(out)) is None:
            write_made(Path(out), _together(parts))
        made = store.keep_made(found.trained)
    return _race(spec, found, _mattering(matters), began, table, made)


def _together(parts: Sequence[Made]) -> Made:
    """When the last of several was made, and on which machines all were."""
    machines = dict.fromkeys(made.hardware for made in parts)
    return replace(max(parts, key=lambda made: made.date), hardware="; ".join(machines))


@shows(Settings, DEFAULTS)
def finished(
    out: str | Path,
    rules: Rules = None,
    problems: Problems = None,
    trials: int = TRIALS,
    seeds: Seeds = None,
    *,
    matters: float = MATTERS,
    **settings: Unpack[Settings],
) -> Race:
    """The race that stands finished in the folder `out`; other arguments are those of `race`. Nothing is trained, and nothing written.

    Raises `StepruleError` where the folder holds no race, another one, or one that is not at its end.
    """
    began = time.perf_counter()
    spec, folder = spec_of(rules, problems, trials, seeds, **settings), Path(out)
    refuse_another(folder, read_spec(folder), spec.stated, hint="")
    store = Store(folder, spec)
    found = runner.run(spec, store, train=False, referee=_referee(spec, _mattering(matters)))
    return _race(spec, found, _mattering(matters), began, folder / TABLE, store.keep_made(0))


def _referee(spec: Spec, matters: float, budget: float | None = None) -> Looking | None:
    """Who looks at a race until decided; None for every other. Raises `InputError` for a budget that nothing keeps to."""
    stages = spec.protocol.stages if isinstance(spec.protocol, Tuned) else 1
    if budget is not None and stages == 1:
        hint = "steprule.races.within gives the sizes of a race that takes so long."
        raise InputError("budget", expected='until="decided" beside it', got=repr(budget), hint=hint)
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0):
        raise InputError("budget", expected="seconds, above 0", got=repr(budget))
    return Looking(spec, matters, budget) if stages > 1 else None


def _mattering(matters: float) -> float:
    """A share, 0 or more. Raises `InputError` for anything else."""
    if not matters >= 0:
        raise InputError("matters", expected="a share, 0 or more", got=repr(matters))
    return matters


def _check_shard(spec: Spec, shard: Shard) -> None:
    """Raises `InputError` for a shard that is not i of n, and for a race without an identity, by which its parts find each other."""
    index, count = shard
    if not 0 <= index < count:
        raise InputError("shard", expected="i of n with 0 <= i < n", got=f"{index} of {count}")
    if count > 1 and (unknown := next(unknowns_in(spec.stated), None)):
        hint = "No shard could be told to be of this race; run it whole."
        raise InputError("shard", expected="what can be identified", got=unknown, hint=hint)


def _check_engine(name: str, workers: int | None) -> None:
    """Raises `StepruleError` for an engine or a number of workers that a race cannot have, also where nothing is left to train."""
    if name not in runner.ENGINES:
        raise unknown_name("engine", name, runner.ENGINES)
    if workers is not None:
        whole("workers", workers, 1)


def _check(spec: Spec) -> None:
    """Raises `InputError` where a problem cannot be raced: a first loss that is not finite, a metric that fails."""
    for task in spec.problems:
        for own in dict.fromkeys(entrant.trains(task) for entrant in spec.entrants):
            check_first_loss(own, spec.protocol.first_seed)
            check_metrics(own)


def _race(spec: Spec, found: runner.Ran, matters: float, began: float, table: Path | None, made: Made) -> Race:
    return Race(
        spec=spec,
        phases=found.phases,
        matters=matters,
        seconds=time.perf_counter() - began,
        train_seconds=found.train_seconds,
        trained=found.trained,
        kept=found.kept,
        hardware=made.hardware,
        results=table,
        made=made,
    )
