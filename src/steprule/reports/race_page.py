"""The page of a race: one self-contained HTML file, its figures as SVG beside it. Every name a user chose is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from steprule.files import write_aside
from steprule.hyper import said
from steprule.problems import airfoil
from steprule.races import Cell, Race, in_words
from steprule.reports import race_charts
from steprule.reports.document import document, facts, formulas, section, spans
from steprule.reports.style import style_of

FIGURES = {
    "standings": (
        "Who stands where",
        race_charts.standings,
        "Test loss on seeds that no tuning saw. Bold: cannot be told apart from the lowest, or differs by less than what matters."
        " The interval holds the luck of the tuning and of the seeds. Hollow: the rule's own defaults, nothing tuned.",
    ),
    "best-of-k": (
        "What tuning is worth",
        race_charts.best_of_k,
        "The test loss to be expected from the best of k trials, chosen by the validation loss; mean over the studies, each on"
        " its own seed. Where lines cross, who is ahead depends on how much one tunes.",
    ),
    "curves": (
        "How the loss falls",
        race_charts.curves,
        "Training loss of a batch, mean of each thirtieth of the steps; median over all winners' fresh runs, and for the three"
        " lowest the middle half. The target is the loss at which the middle competitor ends.",
    ),
    "sensitivity": (
        "How much the learning rate matters",
        race_charts.sensitivity,
        "All else as the winner in the middle has it; mean over five fresh seeds. A wide, flat valley forgives a bad guess.",
    ),
    "profiles": (
        "Over all problems",
        race_charts.profiles,
        "Performance profiles (Dolan and Moré, 2002) of the steps until the training loss is below the target; a target that most"
        " runs miss counts as never reached. Further up and left is better.",
    ),
}


def write(race: Race, path: Path, *, command: Sequence[str] = ()) -> list[Path]:
    """Write the page to `path` and each figure as SVG beside it. Raises `OutputError` where it cannot."""
    drawn = {name: race_charts.svg(draw(race)) for name, (_, draw, _) in FIGURES.items()}
    files = []
    for name, text in drawn.items():
        files.append(path.parent / f"{name}.svg")
        with write_aside(files[-1]) as aside:
            aside.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + text, encoding="utf-8")
    with write_aside(path) as aside:
        aside.write_text(_page(race, drawn, command), encoding="utf-8")
    return files


def page(race: Race, command: Sequence[str] = ()) -> str:
    """The page as text."""
    return _page(race, {name: race_charts.svg(draw(race)) for name, (_, draw, _) in FIGURES.items()}, command)


def _page(race: Race, drawn: dict[str, str], command: Sequence[str]) -> str:
    names = ", ".join(p.name for p in race.spec.problems)
    title = f"{len(race.spec.runners)} optimizers on {names}"
    words = "".join(f"<p>{escape(text)}</p>" for text in in_words(race))
    figures = [
        section(heading, f'<div class="figure">{drawn[name]}</div>', escape(caption))
        for name, (heading, _, caption) in FIGURES.items()
    ]
    body = [
        f"<h1>{escape(title)}</h1>",
        section("The verdict", words),
        figures[0],
        section("Tables", "".join(_table(race, cell) for cell in race.cells), _READING),
        section("Two by two", "".join(_pairs(cell) for cell in race.cells), _reading_pairs(race)),
        *figures[1:],
        section("What each does", formulas((r.label, r.what, r.shown) for r in race.spec.runners if r.is_rule)),
        section("How this was made", _provenance(race, command)),
    ]
    return document(title, "".join(body))


_READING = (
    "Test loss: geometric mean over all studies' winners on all fresh seeds, with its 95 % interval. Untuned: the rule's own"
    " defaults. lr: median of the studies' winners. To target: share of the training until the loss is below the target, median."
    " Good lr: over how many decades of the learning rate the loss is within 10 % of its best."
)


def _reading_pairs(race: Race) -> str:
    return escape(
        f"By how much the row's test loss is above the column's, in per cent. Coloured: real, that is beyond {race.threshold} with"
        " Holm's correction over all pairs of the table (5 % for any wrong one); green: the difference is smaller than that; plain:"
        " cannot be told apart."
    )


def _table(race: Race, cell: Cell) -> str:
    heads = (
        "",
        "test loss",
        "95 %",
        "untuned",
        "lr",
        "diverged trials",
        "to target",
        "good lr, decades",
        "a setting to begin with",
    )
    lines = []
    for s in cell.standings:
        numbers = [
            f"{s.loss:.5g}",
            f"[{s.low:.4g}, {s.high:.4g}]" if race.spec.studies > 1 else "–",
            f"{s.default:.4g}" if s.default is not None else "–",
            f"{s.lr:.3g}" if s.lr is not None else "–",
            f"{s.diverged_trials:.0%}",
            f"{s.to_target:.0%}" if s.missed < 0.5 else "missed",
            f"{s.good_decades:.2g}" if s.good_decades is not None else "–",
            ", ".join(f"{n}={said(v, '.3g')}" for n, v in s.hypers.items()),
        ]
        swatch = f'<span class="swatch" style="background:{style_of(s.label).colour}"></span>'
        cells = "".join(f"<td>{escape(n)}</td>" for n in numbers)
        lines.append(f"<tr><th>{swatch}{escape(s.label)}</th>{cells}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    return f"<h3>{escape(cell.problem)}, {escape(cell.schedule)} learning rate</h3>{table}"


def _pairs(cell: Cell) -> str:
    labels = [s.label for s in cell.standings]
    found = {(p.first, p.second): p for p in cell.pairs}
    lines = []
    for row in labels:
        cells = []
        for column in labels:
            pair = found.get((row, column)) or found.get((column, row))
            if pair is None:
                cells.append("<td></td>")
                continue
            percent, low, high = pair.percent
            if pair.second != row:
                percent, low, high = (_the_other_way(x) for x in (percent, high, low))
            verdict = pair.verdict()
            kind = f"real {'above' if percent > 0 else 'below'}" if verdict == "real" else verdict
            text = f"p = {pair.p_real:.2g} (Holm); 95 % [{low:+.1f}, {high:+.1f}] %"
            cells.append(f'<td class="{kind}" title="{text}">{_percent(percent)}</td>')
        lines.append(f"<tr><th>{escape(row)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(n)}</th>" for n in labels)
    table = f'<div class="wide"><table class="pairs"><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
    return f"<details open><summary>{escape(cell.problem)}, {escape(cell.schedule)} learning rate</summary>{table}</details>"


def _the_other_way(percent: float) -> float:
    """How much more the first is than the second, from how much more the second is; of one that is nothing, without end."""
    return 100 * (1 / (1 + percent / 100) - 1) if percent > -100 else float("inf")


def _percent(value: float) -> str:
    return f"{value:+.1f}" if abs(value) < 100 else f"{value:+.2g}" if abs(value) > 9_999 else f"{value:+.0f}"


def _provenance(race: Race, command: Sequence[str]) -> str:
    spec = race.spec
    plans = "; ".join(
        f"{p.name}: {p.summary}; batch {spec.plans[p.name].batch_size}, {spec.plans[p.name].epochs} epochs, {spec.plans[p.name].engine}"
        for p in spec.problems
    )
    spaces = "; ".join(
        f"{r.label}: " + ", ".join([*(f"{n} {s.low:.3g}..{s.high:.3g} {s.scale}" for n, s in r.space.items()),
                                    *(f"{n}={v}" for n, v in r.fixed.items())])
        for r in spec.runners
    )  # fmt: skip
    moved = [f"{s.label} on {c.problem}, {c.schedule}" for c in race.cells for s in c.standings if s.moved]
    return facts(
        {
            "Problems": plans,
            "Tuning": f"{spec.studies} independent studies, seeds {spans(spec.study_seeds)}, each {spec.trials} scrambled Sobol points;"
            " chosen by the validation loss",
            "Confirmation": f"every study's winner on seeds {spans(spec.fresh_seeds)}; the same weights and batches for all",
            "Searched": spaces,
            "Ranges moved": "; ".join(moved),
            "Smallest difference that matters": f"{race.threshold}",
            "Versions": ", ".join(f"{k} {v}" for k, v in spec.stated["versions"].items()),
            "Hardware": race.hardware,
            "Trainings": f"{race.lanes:,}" + (f", {race.kept:,} of them were there already" if race.kept else ""),
            "Wall time": f"{race.seconds:.1f} s; {race.train_seconds:.1f} s of training, added over workers",
            "Repeat with": shlex.join(command) if command else "",
            "Data": airfoil.CREDIT if any("airfoil" in p.name for p in spec.problems) else "",
        }
    )
