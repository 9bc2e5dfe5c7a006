"""`judge`: the race's referee for results that were trained anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypedDict, Unpack

import numpy as np

from steprule import extras
from steprule.errors import InputError, check_arguments
from steprule.keywords import shows
from steprule.races import power
from steprule.races.cell import CONFIDENCE
from steprule.races.judging.curves import WAYS
from steprule.races.judging.findings import Comparison, Pair, Standing
from steprule.races.judging.judgement import Judgement
from steprule.races.judging.overall import overall_of
from steprule.races.judging.own import runs_of_race
from steprule.races.judging.ranks import Shift
from steprule.races.judging.reading import runs_of
from steprule.races.judging.runs import Array, Runs
from steprule.races.judging.samples import APART, BY_RANKS, BY_SEEDS, BY_TUNING, Compared, Sample, compared
from steprule.races.judging.scale import Yardstick, outcomes_of
from steprule.races.luck import moderated
from steprule.races.raced import Race
from steprule.races.statistics import Difference, holm
from steprule.sizes import MATTERS

with extras.needed():
    from scipy import stats

ERROR = 1 - CONFIDENCE
JACKKNIFE = "The variance of tuning is the race's, a jackknife's over the batches of all its trials."
"""Said where it told the luck of two that were compared."""


class JudgeSettings(TypedDict, total=False):
    """Which columns hold what, guessed where None, and what is asked of them."""

    method: str | None
    """What is compared."""
    loss: str | None
    """The loss or score: one number per run, a list per run, or a number per step."""
    problem: str | None
    seed: str | None
    """Runs of one seed are paired."""
    group: str | None
    """Runs of one tuning: they share its luck."""
    cost: str | None
    step: str | None
    seconds: str | None
    run: str | None
    """Tells runs apart where there is a row per step and no seed."""
    by: str
    """final, steps or seconds: the loss at the end, or when the target is first reached."""
    target: float | None
    """The loss to reach."""
    higher: bool | None
    """Whether a higher number is better; by its name where None."""
    paired: bool | None
    """True: every pair of methods must have the same seeds. False: seeds are not paired. None: they are where they are the same."""
    matters: float
    """The smallest difference that matters, as a share."""
    margin: float | None
    """The same in the column's own units; then differences are compared, not ratios."""
    noise: float | None
    """The known standard deviation of one run: a share where ratios are compared, else in the column's units."""


DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(JudgeSettings.__annotations__), "by": "final", "matters": MATTERS,
}  # fmt: skip
COLUMNS = ("method", "loss", "problem", "seed", "group", "cost", "step", "seconds", "run")


@shows(JudgeSettings, DEFAULTS)
def judge(results: Any, **settings: Unpack[JudgeSettings]) -> Judgement:
    """Say which differences between methods are real, from a table with a row per run.

    On each problem every two methods are compared: by pairs of seeds, by Welch's t-test, by tuning groups as in a race, or where a
    run diverged by ranks. *Real* is a difference larger than what matters with Holm's correction over the problem's pairs: the
    chance of any wrong one is at most 5 %. *Same*: smaller, by two one-sided tests. *Open*: it cannot be told, and `runs_needed`
    says how many runs would.

    >>> table = {"method": ["a"] * 5 + ["b"] * 5, "loss": [1.0, 1.1, 0.9, 1.05, 0.95, 2.0, 2.1, 1.9, 2.2, 1.8]}
    >>> [(p.a, p.b, p.verdict) for p in judge(table).pairs]
    [('a', 'b', 'real')]

    Args:
        results: a file (.csv, .tsv, .parquet, .jsonl, .json), a table of pandas, polars or pyarrow, a mapping of columns, a list of
            records, or a `Race`.
        settings: of `JudgeSettings`.

    Raises:
        DataError: for a file that is missing, empty, cut off or of another kind.
        InputError: for a column that is missing or may be one of several, text among numbers, one method alone, one run per method
            without `noise`, a seed that stands twice.
    """
    check_arguments(settings, JudgeSettings, "judge")
    asked = {**DEFAULTS, **settings}
    _check(asked)
    if isinstance(results, Race):
        runs = runs_of_race(results)
    else:
        runs = runs_of(results, {k: asked[k] for k in COLUMNS}, asked["by"], asked["target"])
    if asked["higher"] is not None and asked["by"] == "final":
        runs = replace(runs, is_higher_better=bool(asked["higher"]))
    if asked["paired"] and runs.seed is None:
        raise InputError("--paired", expected="a column of seeds", got="none", hint="Name it: --seed COLUMN.")
    return judged(runs, asked["matters"], asked["margin"], asked["noise"], asked["paired"])


def judged(
    runs: Runs,
    matters: float = MATTERS,
    margin: float | None = None,
    noise: float | None = None,
    paired: bool | None = None,
) -> Judgement:
    """The judgement of runs, as `judge` makes it of a table."""
    methods = list(dict.fromkeys(runs.method.tolist()))
    if len(methods) < 2:
        got = f"{methods[0]!r} alone" if methods else "none"
        hint = (
            f"The methods are those of column {runs.columns.get('method')!r}: name another with --method."
            if methods
            else ""
        )
        raise InputError("methods", expected="two or more", got=got, hint=hint)
    comparisons, outcomes, notes = [], {}, list(runs.notes)
    for problem in dict.fromkeys(runs.problem.tolist()):
        here = runs.where(runs.problem == problem)
        if len(set(here.method.tolist())) < 2:
            notes.append(f"{problem} has runs of one method only, and is left out.")
            continue
        yardstick, y = outcomes_of(here, matters, margin)
        samples = _samples(here, y)
        if noise is None and max(s.runs for s in samples) < 2:
            hint = "Run each with more seeds, or give the noise of one run with --noise."
            raise InputError("runs", expected="two or more of a method", got="one of each" + _on(problem), hint=hint)
        comparisons.append(_comparison(problem, here, yardstick, samples, noise, paired))
        outcomes[problem] = {s.method: _position(s, samples) for s in samples}
    if runs.tunings and any(pair.how == BY_TUNING for c in comparisons for pair in c.pairs):
        notes.append(JACKKNIFE)
    if not comparisons:
        raise InputError("methods", expected="two or more on one problem", got="one on each")
    if not all(c.yardstick.is_ratio and not c.by_median for c in comparisons):
        outcomes = {problem: _ranks(own) for problem, own in outcomes.items()}
    return Judgement(
        tuple(comparisons), overall_of(comparisons, outcomes), runs.measure, runs.is_higher_better, matters, margin, noise, runs.columns,
        tuple(notes), len(runs),
    )  # fmt: skip


def _samples(runs: Runs, y: Array) -> list[Sample]:
    def part(values: Array | None, rows: Array) -> Array | None:
        return None if values is None else values[rows]

    masks = {m: runs.method == m for m in dict.fromkeys(runs.method.tolist())}
    found = [Sample(m, y[rows], part(runs.seed, rows), part(runs.group, rows)) for m, rows in masks.items()]
    tunings = [runs.tunings.get((str(runs.problem[0]), s.method)) for s in found]
    known = [t.luck(s.y.reshape(-1, len(s.seeds))) for s, t in zip(found, tunings, strict=True) if t is not None]
    if len(known) < len(found):
        return found
    return [replace(s, luck=luck) for s, luck in zip(found, moderated(known), strict=True)]


def _comparison(
    problem: str, runs: Runs, yardstick: Yardstick, samples: Sequence[Sample], noise: float | None, paired: bool | None
) -> Comparison:
    by_median = any(s.gone for s in samples)
    ordered = sorted(samples, key=lambda s: _position(s, samples))
    standings = tuple(_standing(runs, s, yardstick, noise, by_median=by_median) for s in ordered)
    both = list(combinations(ordered, 2))
    found = [compared(a, b, noise, paired) for a, b in both]
    learnt = {s.method: s.learnt for s in standings}
    # Two that learnt nothing still stand where they began, which does not make them alike.
    blank = [not yardstick.tells or (learnt[a.method] is False and learnt[b.method] is False) for a, b in both]
    real = holm([1.0 if no else c.difference.p_beyond(yardstick.least) for c, no in zip(found, blank, strict=True)])
    no_margin = yardstick.margin is None or yardstick.margin == 0
    same = holm(
        [1.0 if no or no_margin else c.difference.p_within(yardstick.least) for c, no in zip(found, blank, strict=True)]
    )
    tail = ERROR / len(both) / 2
    needed = _needed(found, real, same, blank, yardstick.least, tail)
    pairs = tuple(
        _pair(problem, a, b, c, yardstick, float(r), float(s), n)
        for (a, b), c, r, s, n in zip(both, found, real, same, needed, strict=True)
    )
    middle, smallest = _middle(found, yardstick), math.inf
    spread, freedom, per_method = None, math.inf, math.nan
    if middle is not None:
        spread, freedom, per_method = _spread(middle), _freedom(middle), middle.runs
        gap = power.smallest_found(spread, per_method, freedom, tail)
        smallest = abs(yardstick.shown(yardstick.sign * (gap + yardstick.least)))
    return Comparison(problem, yardstick, standings, pairs, smallest, by_median, spread, freedom, per_method)


def _ranks(outcomes: Mapping[str, float]) -> dict[str, float]:
    return dict(zip(outcomes, stats.rankdata(list(outcomes.values())).tolist(), strict=True))


def _position(sample: Sample, samples: Sequence[Sample]) -> float:
    """Where a method stands among all: by its mean outcome, or where runs diverged by the mean rank of its runs."""
    if not any(s.gone for s in samples):
        return float(sample.mean(None).estimate)
    ranks = stats.rankdata(np.concatenate([s.y for s in samples]))
    start = sum(s.runs for s in samples[: [id(s) for s in samples].index(id(sample))])
    return float(ranks[start : start + sample.runs].mean())


def _standing(runs: Runs, sample: Sample, yardstick: Yardstick, noise: float | None, *, by_median: bool) -> Standing:
    rows = runs.method == sample.method
    if by_median:
        middle, low, high = _median(sample.y)
    else:
        mean = sample.mean(noise)
        middle = mean.estimate
        low, high = mean.interval(CONFIDENCE)
    low, high = sorted(float(yardstick.value(v)) for v in (low, high))
    cost = runs.cost[rows] if runs.cost is not None else np.array([])
    known = cost[np.isfinite(cost)]
    return Standing(
        method=sample.method, value=float(yardstick.value(middle)), low=low, high=high, runs=sample.runs,
        gone=int(runs.is_gone[rows].sum()), cost=float(known.mean()) if len(known) else None,
        learnt=None if runs.learnt is None else bool(runs.learnt[rows].any()), values=np.asarray(yardstick.value(sample.y)),
    )  # fmt: skip


def _median(y: Array) -> tuple[float, float, float]:
    """The lower median, and its interval by order statistics."""
    ordered, n = np.sort(y), len(y)
    k = int(stats.binom.ppf(ERROR / 2, n, 0.5))
    low, high = (ordered[k - 1], ordered[n - k]) if k > 0 else (-np.inf, np.inf)
    return float(ordered[(n - 1) // 2]), float(low), float(high)


def _pair(
    problem: str, a: Sample, b: Sample, found: Compared, yardstick: Yardstick, real: float, same: float, needed: float
) -> Pair:
    low, high = -math.inf, math.inf
    if found.difference.known and yardstick.tells:
        low, high = sorted(yardstick.shown(end) for end in found.difference.interval(CONFIDENCE))
    return Pair(
        problem=problem, a=a.method, b=b.method, difference=yardstick.shown(found.difference.estimate),
        low=low, high=high, unit=yardstick.unit, p_real=real, p_same=same, how=found.how, runs=(a.runs, b.runs),
        runs_needed=int(needed) if np.isfinite(needed) else None,
    )  # fmt: skip


def _needed(
    found: Sequence[Compared], real: Array, same: Array, blank: Sequence[bool], least: float, tail: float
) -> Array:
    """The runs that each open pair needs, at the level of Holm's first step; inf for the others."""
    needed = np.full(len(found), np.inf)
    open_ = [k for k, no in enumerate(blank) if not no and min(real[k], same[k]) >= ERROR]
    told = []
    for k in open_:
        difference = found[k].difference
        if isinstance(difference, Shift):
            needed[k] = power.runs_needed_by_ranks(difference.chance, tail, paired=difference.paired)
        elif difference.known and difference.error > 0:
            told.append(k)
    if told:
        differences = [d for d in (found[k].difference for k in told) if isinstance(d, Difference)]
        beyond = np.array([abs(d.estimate) - least for d in differences])
        spread = np.array([_spread(found[k]) for k in told])
        freedom = np.array([_freedom(found[k]) for k in told])
        needed[told] = power.runs_needed(np.abs(beyond), spread, freedom, np.where(beyond > 0, tail, 2 * tail))
    return needed


def _middle(found: Sequence[Compared], yardstick: Yardstick) -> Compared | None:
    """The pair whose error is in the middle of all that are known; None where none is."""
    known = [c for c in found if c.how != BY_RANKS and c.difference.known and _spread(c) > 0]
    return sorted(known, key=_spread)[len(known) // 2] if known and yardstick.tells else None


def _spread(found: Compared) -> float:
    assert isinstance(found.difference, Difference)
    return float(found.difference.error * np.sqrt(found.runs))


def _freedom(found: Compared) -> float:
    """Degrees of freedom for each run of a method beyond the first."""
    assert isinstance(found.difference, Difference)
    if found.how in (BY_SEEDS, BY_TUNING, APART):
        return float(found.difference.freedom / max(found.runs - 1, 1))
    return math.inf


def _on(problem: str) -> str:
    return f" on {problem}" if problem else ""


def _check(asked: dict[str, Any]) -> None:
    if asked["by"] not in WAYS:
        raise InputError("by", expected=f"one of {', '.join(WAYS)}", got=repr(asked["by"]))
    for name, least in (("matters", 0.0), ("margin", 0.0), ("noise", 0.0)):
        value = asked[name]
        if value is None:
            continue
        try:
            fine = math.isfinite(value) and value >= least
        except TypeError:
            fine = False
        if not fine:
            raise InputError(name, expected="a number, 0 or more", got=repr(value))
