"""A judgement in words: who is best, what is real and by how much, what is open and how many runs it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from steprule.counts import counted
from steprule.races.cell import CONFIDENCE
from steprule.races.citing.records import by_how_much, number, within
from steprule.races.judging.findings import Comparison, Findings, Pair
from steprule.races.judging.samples import APART, BY_NOISE, BY_RANKS, BY_SEEDS, BY_TUNING
from steprule.races.verdict import listed

BY = {
    BY_SEEDS: "by pairs of runs with one seed",
    APART: "by Welch's t-test",
    BY_TUNING: "by tuning groups",
    BY_RANKS: "by ranks, in which a run that diverged is the worst",
    BY_NOISE: "by the noise that was given",
}
FEW = 8
"""Names of one verdict that a sentence lists; of more it says how many."""


def in_words(judged: Findings) -> list[str]:
    """A paragraph per problem, one over all of them, then what was done to the table."""
    parts = [" ".join(_of_problem(judged, c)) for c in judged.comparisons]
    if judged.overall is not None:
        parts.append(" ".join(_over_problems(judged)))
    return [*parts, " ".join([*judged.notes, *_made(judged)])]


def threshold(judged: Findings, comparison: Comparison) -> str:
    """The smallest difference that matters, in words: "1 %"; empty where none is stated."""
    if comparison.yardstick.scale is None:
        return f"{judged.margin:g}" if judged.margin else ""
    return f"{100 * judged.matters:g} {comparison.yardstick.unit}" if judged.matters else ""


def _of_problem(judged: Findings, c: Comparison) -> Iterator[str]:
    best = c.standings[0]
    where = f"{c.problem}: " if c.problem else ""
    if not c.yardstick.tells or all(s.learnt is False for s in c.standings):
        yield f"{where}nobody ended below the first loss, so nothing is compared."
        return
    what = f"{'highest' if judged.is_higher_better else 'lowest'} {'median ' if c.by_median else ''}{judged.measure}"
    ends = within(best.low, best.high)
    yield f"{where}{best.method} has the {what}, {number(best.value)}{'' if ends == '–' else ' ' + ends}."
    against = [p for p in c.pairs if p.a == best.method]
    idle = {s.method for s in c.standings if s.learnt is False}
    named: dict[str, list[Pair]] = {"real": [], "same": [], "open": []}
    for pair in against:
        if pair.b not in idle:
            named[pair.verdict].append(pair)
    matters, side = threshold(judged, c), "below" if judged.is_higher_better else "above"
    if named["same"]:
        yield f"No more than {matters} from it: {_some([p.b for p in named['same']])}."
    if named["open"]:
        yield f"Cannot be told apart from it: {_some([_needing(p) for p in named['open']])}."
    if named["real"]:
        yield f"Really {side} it: {_some([f'{p.b} {by_how_much(p)}' for p in named['real']])}."
    if idle:
        yield f"Learnt nothing: {_some(sorted(idle))}."
    real = sum(p.verdict == "real" for p in c.pairs)
    by = f" by more than {matters}" if matters else ""
    if len(c.pairs) == 1:
        yield f"The one pair {'really differs' if real else 'does not really differ'}{by}."
    else:
        yield f"Of all {len(c.pairs)} pairs {real} really {'differs' if real == 1 else 'differ'}{by}."
    yield from _cautions(judged, c)


def _needing(pair: Pair) -> str:
    what = "tuning groups" if pair.how == BY_TUNING else "runs"
    return pair.b if pair.runs_needed is None else f"{pair.b} ({pair.runs_needed:,} {what} of each would tell)"


def _cautions(judged: Findings, c: Comparison) -> Iterator[str]:
    gone = [f"{s.method} in {s.gone} of {counted(s.runs, 'run')}" for s in c.standings if s.gone]
    if gone:
        missed = " until " in judged.measure
        yield f"{'Missed the target' if missed else 'Diverged'}: {_some(gone)}."
    if (
        len(alike := [s.method for s in c.standings if s.runs > 1 and not s.gone and (s.values == s.values[0]).all()])
        > 1
        and judged.noise is None
    ):
        yield f"All runs are equal to the bit of: {_some(alike)}. If training is deterministic, say so with a noise of 0."
    if any(s.runs < 2 for s in c.standings) and judged.noise is None:
        yield f"One run tells nothing of luck: {_some([s.method for s in c.standings if s.runs < 2])}."
    if not threshold(judged, c):
        hint = (
            ""
            if c.yardstick.scale is not None
            else " Values of 0 and less have no ratios: state one in their own units (margin)."
        )
        yield f"No difference that matters is stated, so nothing is called the same.{hint}"
    if math.isfinite(c.found):
        runs = sorted(s.runs for s in c.standings)
        each = counted(runs[0], "run") if runs[0] == runs[-1] else f"{runs[0]} to {runs[-1]} runs"
        if any(p.how == BY_TUNING for p in c.pairs):
            each = counted(round(c.per_method), "tuning group")
        unit = f" {c.yardstick.unit}" if c.yardstick.unit else ""
        yield f"With {each} each, a difference of {c.found:.3g}{unit} is found in four of five such tables."


def _over_problems(judged: Findings) -> Iterator[str]:
    own = judged.overall
    assert own is not None
    ranks = [f"{m} {r:.2g} (first on {own.best_on[m]})" for m, r in own.ranks.items()]
    yield f"Over {own.problems} problems the mean ranks are: {_some(ranks)}."
    if own.p_any is not None:
        yield f"Friedman's p of all ranking alike: {own.p_any:.2g}."
    real = [f"{b} behind {a}" for (a, b), p in own.p_pairs.items() if p < 1 - CONFIDENCE]
    if own.p_pairs:
        yield f"Real over problems like these (signed ranks, Holm): {_some(real) if real else 'nothing'}."
    else:
        yield "Fewer than six problems rank nobody over problems like these."


def _made(judged: Findings) -> Iterator[str]:
    ways = Counter(p.how for p in judged.pairs)
    yield f"{counted(judged.runs, 'run')}, compared {listed([BY[way] for way, _ in ways.most_common()])}."
    read = [f"{kind} from {name!r}" for kind, name in judged.columns.items() if kind != name]
    if read:
        yield f"Columns: {listed(read)}."
    better = "higher" if judged.is_higher_better else "lower"
    yield f'A {better} {judged.measure} is better. The chance of any wrong "real" on a problem is {100 * (1 - CONFIDENCE):.0f} %.'


def _some(names: Sequence[str]) -> str:
    return listed(names) if len(names) <= FEW else f"{', '.join(names[:FEW])} and {len(names) - FEW} more"
