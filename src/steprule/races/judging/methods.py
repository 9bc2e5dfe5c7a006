"""The methods of a judgement as a paragraph for a paper: runs, tests, what matters, and the correction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from steprule.counts import counted
from steprule.provenance import Made
from steprule.races.cell import CONFIDENCE
from steprule.races.citing.sources import FRIEDMAN, HOLM, NOETHER, SATTERTHWAITE, SCHUIRMANN, WELCH, WILCOXON, cited
from steprule.races.judging.findings import Comparison, Findings
from steprule.races.judging.samples import APART, BY_NOISE, BY_RANKS, BY_SEEDS, BY_TUNING, SIGNED
from steprule.races.judging.words import threshold
from steprule.races.power import MOST, POWER
from steprule.races.verdict import listed
from steprule.rules.rule import Paper

TESTS = {
    BY_SEEDS: "Student's t-test on the differences of runs with one seed",
    APART: f"Welch's t-test ({cited(WELCH)})",
    BY_TUNING: f"a t-test whose error holds the variance of tuning, with degrees of freedom after {cited(SATTERTHWAITE)}",
    BY_RANKS: f"ranks, in which a run that diverged is the worst (the rank sum, or signed ranks from {SIGNED} pairs of seeds on; exact)",
    BY_NOISE: "the normal distribution with the known noise of one run",
}
"""How two methods are compared, in a paper's words."""


def papers_of(judged: Findings) -> Iterator[Paper]:
    """The papers of what the paragraph names."""
    ways = {pair.how for pair in judged.pairs}
    yield from (paper for way, paper in ((APART, WELCH), (BY_TUNING, SATTERTHWAITE)) if way in ways)
    yield from (HOLM, *([SCHUIRMANN] if _thresholds(judged) else []), *([NOETHER] if BY_RANKS in ways else []))
    if judged.overall is not None:
        yield from (
            *([FRIEDMAN] if judged.overall.p_any is not None else []),
            *([WILCOXON] if judged.overall.p_pairs else []),
        )


def of_judgement(judged: Findings, made: Made) -> str:
    """The paragraph."""
    parts = (_runs, _scale, _tests, _over_problems)
    return " ".join([*(text for part in parts for text in part(judged)), made.in_words()])


def _runs(judged: Findings) -> Iterator[str]:
    methods = judged.compared
    problems = [c.problem for c in judged.comparisons if c.problem]
    where = f" on {counted(len(problems), 'problem')} ({listed(problems)})" if problems else ""
    yield f"We compared {counted(len(methods), 'method')} ({listed(methods)}){where} in {counted(judged.runs, 'run')}: {_each(judged)}."
    better = "higher" if judged.is_higher_better else "lower"
    yield f"The measure is the {judged.measure}; {better} is better."
    gone = [f"{s.method}{_on(c)} ({s.gone} of {s.runs})" for c in judged.comparisons for s in c.standings if s.gone]
    if gone:
        word = "missed the target" if " until " in judged.measure else "diverged"
        yield f"Runs that {word} are the worst there are, and means are medians where there was one: {listed(gone)}."
    yield from judged.notes


def _each(judged: Findings) -> str:
    """How many runs of each method: one number where it is the same for all."""
    numbers = sorted({s.runs for c in judged.comparisons for s in c.standings})
    if len(numbers) == 1:
        return f"{numbers[0]} of each method" + (" on each problem" if len(judged.comparisons) > 1 else "")
    return f"{numbers[0]} to {numbers[-1]} of each method" + (" on each problem" if len(judged.comparisons) > 1 else "")


def _scale(judged: Findings) -> Iterator[str]:
    by_ratio = [c for c in judged.comparisons if c.yardstick.is_ratio]
    by_fall = [c for c in judged.comparisons if c.yardstick.scale is not None and not c.yardstick.is_ratio]
    plain = [c for c in judged.comparisons if c.yardstick.scale is None]
    for own, text in (
        (by_ratio, "Values were compared by their ratios, in per cent; means are geometric"),
        (
            by_fall,
            "Values were compared by differences, in per cent of the fall from the mean before the first step to the best mean",
        ),
        (plain, "Values were compared by differences in their own units"),
    ):
        if own:
            yield text + (f" ({listed([c.problem for c in own])})." if len(own) < len(judged.comparisons) else ".")


def _tests(judged: Findings) -> Iterator[str]:
    ways = Counter(pair.how for pair in judged.pairs)
    sure, error = 100 * CONFIDENCE, 100 * (1 - CONFIDENCE)
    told = [f"{counted(count, 'pair')} by {TESTS[way]}" for way, count in ways.most_common()]
    yield f"Compared were {listed(told)}."
    if judged.noise is not None:
        yield f"The known standard deviation of one run is {judged.noise:g}."
    yield f"Intervals are {sure:.0f} % intervals and are not corrected for many pairs."
    matters = _thresholds(judged)
    beyond = f"is larger than {listed(matters)}" if matters else "is not zero"
    same = f", and the same where it is smaller by two one-sided tests ({cited(SCHUIRMANN)})" if matters else ""
    pairs = sorted({len(c.pairs) for c in judged.comparisons})
    count = f"the {counted(pairs[0], 'pair')}" if len(pairs) == 1 else f"all {pairs[0]} to {pairs[-1]} pairs"
    of = "" if len(judged.comparisons) == 1 else " of each problem"
    yield (
        f"A difference is called real where it {beyond}{same}, each at a level of {error:.0f} % with Holm's correction ({cited(HOLM)}) over"
        f" {count}{of}; else it is open."
    )
    if any(pair.runs_needed is not None for pair in judged.pairs):
        ranks = f" (for ranks after {cited(NOETHER)})" if BY_RANKS in ways else ""
        yield f"The runs that an open pair needs are those of a test of {100 * POWER:.0f} % power, {MOST:,} at most{ranks}."


def _thresholds(judged: Findings) -> list[str]:
    """What matters, in words, each once; none where nothing is stated."""
    return list(dict.fromkeys(text for c in judged.comparisons if (text := threshold(judged, c))))


def _over_problems(judged: Findings) -> Iterator[str]:
    own = judged.overall
    if own is None:
        return
    told = []
    if own.p_any is not None:
        told.append(f"Friedman's test of mean ranks ({cited(FRIEDMAN)})")
    if own.p_pairs:
        told.append(
            f"Wilcoxon's signed-rank test of pairs ({cited(WILCOXON)}) with Holm's correction over"
            f" {counted(len(own.p_pairs), 'pair')}"
        )
    if told:
        yield f"Over the {own.problems} problems the methods were compared by {listed(told)}."


def _on(c: Comparison) -> str:
    return f" on {c.problem}" if c.problem else ""
