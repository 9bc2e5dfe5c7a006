"""The parts of a tuned race's page: figures, verdicts, tables, and all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from matplotlib.figure import Figure

from steprule.counts import counted
from steprule.hyper import said
from steprule.races import Cell, Pair, Race, headline, in_words
from steprule.races.cell import interval, known, placed
from steprule.races.competitor import Entrant
from steprule.races.measure import Measure
from steprule.reports import race_charts, themed
from steprule.reports.document import Part, spans
from steprule.reports.race_matrix import broken, swatch
from steprule.reports.race_styles import FEW, FIRST, styles_in

BROAD = 9
"""Competitors up to which all pairs have room in the page's column; a larger square is as wide as the window."""
FIGURES: dict[str, tuple[str, Callable[[Race], Figure], Callable[[Race], str]]] = {
    "standings": (
        "Who stands where",
        race_charts.standings,
        lambda race: f"{_measured(race)} on seeds that no tuning saw. {_order(race)} Bold: cannot be told apart from the lowest, or"
        f" differs by less than what matters. {_interval(race)} Hollow: the rule's own defaults, nothing tuned; a number with an arrow"
        f" where they lie beyond the panel.{_cautions(race)}",
    ),
    "best-of-k": (
        "What tuning is worth",
        race_charts.best_of_k,
        lambda race: f"{_measured(race)} to be expected from the best of k trials, chosen by {_choice(race)}; mean over"
        " all choices of k of all trials, each on its own seed. Where lines cross, who is ahead depends on how much one tunes."
        f"{_quiet(race)}",
    ),
    "curves": (
        "How the loss falls",
        race_charts.curves,
        lambda race: "Training loss of a batch, mean of each thirtieth of the steps; median over all winners' fresh runs, and for"
        f" three the middle half. The target is the loss at which the middle competitor ends.{_quiet(race)}",
    ),
    "sensitivity": (
        "How much the learning rate matters",
        race_charts.sensitivity,
        lambda race: f"{_measured(race)} of each learning rate, above the rule's own best, which is the white mark: a long dark strip"
        " forgives a bad guess. All else as the winner in the middle has it; mean over"
        f" {counted(race.tuning.around, 'fresh seed')}. {_order(race)}",
    ),
    "profiles": (
        "Over all problems",
        race_charts.profiles,
        lambda race: "Performance profiles (Dolan and Moré, 2002) of the steps until the training loss is below the target; a"
        f" target that most runs miss counts as never reached. Further up and left is better.{_quiet(race)}",
    ),
}  # fmt: skip


def _order(race: Race) -> str:
    return "Every panel has the order of the mean rank over all." if len(race.cells) > 1 else "The lowest stands first."


def _quiet(race: Race) -> str:
    """Who stands out of many lines."""
    if len(race.spec.entrants) <= FEW:
        return ""
    return f" Coloured: the {FIRST} of the lowest mean rank, and in black your own; all others are grey."


def _each(race: Race, word: Callable[[Measure], str]) -> str:
    """What holds of the race's problems: once where it is the same for all, else for each."""
    said = {name: word(measure) for name, measure in race.measures.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{name}: {text}" for name, text in said.items() if text)


def _measured(race: Race) -> str:
    """The loss that judges, at the head of a sentence."""
    found = _each(race, lambda measure: measure.loss)
    return found.capitalize() if ": " not in found else f"Loss ({found})"


def _choice(race: Race) -> str:
    found = _each(race, lambda measure: measure.choice)
    return found if ": " not in found else f"a loss ({found})"


def _cautions(race: Race) -> str:
    found = _each(race, lambda measure: measure.caution)
    return f" {found}" if found else ""


def _interval(race: Race) -> str:
    if race.tells_luck:
        return "The interval holds the luck of the tuning and of the seeds."
    few = (
        "study cannot tell the luck of tuning"
        if race.tuning.studies < 2
        else "fresh seed cannot tell the luck of seeds"
    )
    return f"There is no interval: one {few}."


def parts(race: Race) -> Iterator[Part]:
    """The parts in reading order, without what every race's page has."""
    first, *others = (
        Part.drawn(title, name, themed.svg(draw(race), compact=True), escape(caption(race)))
        for name, (title, draw, caption) in FIGURES.items()
        if name != "profiles" or len(race.cells) > 1  # one problem with one schedule has no shares
    )
    yield first
    yield Part("The verdict", _verdict(race))
    yield Part("Tables", "".join(_table(race, cell) for cell in race.cells), _reading(race))
    yield Part("Two by two", "".join(_pairs(race, cell) for cell in race.cells), _reading_pairs(race))
    yield from others


def _verdict(race: Race) -> str:
    """In words: all of it in a paragraph, then each problem with each schedule, folded where there are several."""
    words, count = in_words(race), len(race.cells)
    told = [f"<p>{escape(text)}</p>" for text in words]
    if count == 1:
        return "".join(told)
    folded = f"<details><summary>Each problem with each schedule</summary>{''.join(told[:count])}</details>"
    return f"<p>{escape(headline(race))}</p>{''.join(told[count:])}{folded}"


def _reading(race: Race) -> str:
    ratios = [cell.scale.ratios for cell in race.cells]
    mean = "geometric mean" if all(ratios) else "mean"
    if any(ratios) and not all(ratios):
        mean = "mean, geometric where ratios are compared,"
    return escape(
        f"{_measured(race)}: {mean} over all choices of {race.tuning.trials} trials, on all fresh seeds. {_interval(race)} Untuned: the"
        f" rule's own defaults. lr: median of the batches' best.{_metrics(race)} Diverged: of the trials, and of the runs on fresh"
        " seeds, which then count with the loss before the first step. To target: share of the training until the loss is below the"
        " target, median."
        f" Good lr: over how many decades of the learning rate the loss is within {_near(ratios)} of its best."
    )


def _metrics(race: Race) -> str:
    if not any(p.metrics for p in race.spec.problems):
        return ""
    return " Metrics: plain means over the winners' runs on fresh seeds; they judge nothing."


def _near(ratios: Sequence[bool]) -> str:
    if all(ratios):
        return "10 %"
    return "10 %, of itself or of its fall," if any(ratios) else "10 % of the fall"


def _reading_pairs(race: Race) -> str:
    differences = [cell for cell in race.cells if not cell.scale.ratios]
    of = (
        " Where a loss is 0 or less: in per cent of the fall from the loss before the first step to the lowest."
        if differences
        else ""
    )
    return escape(
        f"By how much the row's loss is above the column's, in per cent.{of} In brackets: the 95 % interval, not corrected."
        f" Filled: real, that is beyond {race.threshold} with Holm's correction over all pairs of the table (5 % for any wrong one), orange"
        " above and blue below; green: the difference is smaller than that; hollow: cannot be told apart. A dash: nothing to compare."
    )


def _table(race: Race, cell: Cell) -> str:
    heads = (
        "",
        cell.measure.loss,
        "95 %",
        "untuned",
        "lr",
        *(escape(f"{cell.measure.of} {name}") for name in cell.standings[0].metrics),
        "diverged trials",
        "diverged runs",
        "to target",
        "good lr, decades",
        "a setting to begin with",
    )
    lines, styles = [], styles_in(race)
    for s in map(cell.standing, race.order):
        entrant = race.spec.entrant(s.label)
        numbers = [
            f"{s.loss:.5g}",
            interval(s.low, s.high, unknown="–"),
            known(s.default, ".4g", "–"),
            known(s.lr, ".3g", "–"),
            *(f"{v:.4g}" if math.isfinite(v) else "–" for v in s.metrics.values()),
            _share(s.diverged_trials),
            _share(s.diverged),
            f"{s.to_target:.0%}" if s.missed < 0.5 else "missed",
            known(s.good_decades, ".2g", "–"),
            ", ".join(f"{n}={said(v, 3, entrant.known.get(n))}" for n, v in s.hypers.items()),
        ]
        cells = "".join(f"<td>{escape(n)}</td>" for n in numbers[:-1])
        cells += f'<td class="wide-words">{escape(numbers[-1])}</td>'
        lines.append(f"<tr><th>{swatch(styles[s.label].colour)}{broken(s.label)}</th>{cells}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    table = f'<div class="wide broad"><table class="standing"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    return _folded(race, cell, table)


def _folded(race: Race, cell: Cell, body: str) -> str:
    """What is said of one problem with one schedule, under its name; the first stands open."""
    opened = " open" if cell is race.cells[0] else ""
    name = f"{escape(cell.problem)}, {escape(cell.schedule)} learning rate"
    return f"<details{opened}><summary>{name}</summary>{body}</details>"


def _pairs(race: Race, cell: Cell) -> str:
    """All pairs as a square; as wide as a phone each row is a card with a line per pair."""
    labels, found = race.order, {frozenset((p.first, p.second)): p for p in cell.pairs}
    lines = []
    for row in labels:
        cells = [_pair(found.get(frozenset((row, column))), row, column) for column in labels]
        lines.append(f'<tr><th scope="row">{broken(row)}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col"><span>{escape(n)}</span></th>' for n in labels)
    square = (
        f'<table class="pairs square"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )
    wide = "wide broad" if len(labels) > BROAD else "wide"
    return _folded(race, cell, f'<div class="{wide}">{square}</div>')


def _pair(pair: Pair | None, row: str, column: str) -> str:
    """By how much the row is above the column, with its interval."""
    if pair is None:
        return "<td></td>"
    own = pair if pair.second == row else pair.turned
    percent, low, high = own.percent
    kind = own.verdict()
    if kind == "real":
        kind += " above" if percent > 0 else " below"
    within = f"<small>[{_end(low)}, {_end(high)}]</small>" if low is not None and high is not None else ""
    said = f"{own.p_in_words}{'' if within else '; no interval is known'}"
    return (
        f'<td class="{kind}" data-head="above {escape(column)}" title="{said}"><b>{_percent(percent)}</b> {within}</td>'
    )


def _share(share: float) -> str:
    """A share in per cent, where 0 and 100 mean none and all."""
    if share in (0, 1) or 0.005 <= share < 0.995:
        return f"{share:.0%}"
    return "<1%" if share < 0.5 else ">99%"


def _percent(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if abs(value) < 100:
        return f"{value:+.1f}"
    return f"{value:+.0f}" if abs(value) <= 9_999 else f"{value:+.2g}"


def _end(value: float) -> str:
    """An end of an interval, short: whole per cent from ten on."""
    return f"{value:+.0f}" if 10 <= abs(value) <= 9_999 else _percent(value)


def _searched(entrant: Entrant) -> str:
    """The ranges that are searched, then what is fixed."""
    ranges = [f"{n} {said(s.low, 3)}..{said(s.high, 3)} {s.scale}" for n, s in entrant.space.items()]
    return ", ".join([*ranges, *(f"{n}={v}" for n, v in entrant.fixed.items())])


def _stages(race: Race) -> str:
    """How often a race until decided was run, for each problem with each schedule."""
    if race.tuning.stages == 1:
        return ""
    cells = "; ".join(f"{c.problem}, {c.schedule}: {c.stages}" for c in race.cells)
    return f"all of it again on other seeds, at most {race.tuning.stages} times, until it is known who is really above the lowest: {cells}"


def _tuned_by(race: Race) -> str:
    return (
        f"every choice of {race.tuning.trials} of them is a tuning" if race.tuning.pools else "each batch is a tuning"
    )


def _shared_out(race: Race) -> str:
    by_weight = f"shared out by how often a trial is the best of {race.tuning.trials}"
    return by_weight if race.tuning.pools else "each batch's winner on every seed"


def made(race: Race) -> dict[str, str]:
    """How everyone was tuned and confirmed, for the page's last part."""
    spec, tuning = race.spec, race.tuning
    spaces = "; ".join(f"{e.label}: {_searched(e)}" for e in spec.entrants)
    moved, at_end = [], []
    for where, s in placed(race.cells):
        if s.moved:
            still = ", and its best is still at an end" if "lr" in s.at_end else ""
            moved.append(f"{s.label} on {where}{still}")
        at_end += [f"{s.label}'s {name} ({end}) on {where}" for name, end in s.at_end.items()]
    return {
        "Tuning": f"{counted(tuning.batches * tuning.batch, 'trial')}: {counted(tuning.batches, 'batch', 'batches')} of"
        f" {counted(tuning.batch, 'scrambled Sobol point')}, seeds {spans(tuning.tuning_seeds)}; chosen by"
        f" {_choice(race)}; {_tuned_by(race)}",
        "Confirmation": f"{counted(tuning.studies * tuning.fresh, 'run')}, {_shared_out(race)}, on seeds"
        f" {spans(tuning.fresh_seeds)}; judged by"
        f" {_each(race, lambda measure: 'the ' + measure.loss)}; the same weights and batches for all",
        "Stages": _stages(race),
        "Searched": spaces,
        "Ranges moved": "; ".join(moved),
        "Best at an end of its range": "; ".join(at_end),
        "Smallest difference that matters": f"{race.threshold}",
    }
