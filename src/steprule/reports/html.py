"""The page of settings as given: one self-contained HTML file that opens offline.

The drawing library is plotly's own copy of plotly.js, written into the page. Every name that a user may have chosen is
escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from steprule.atomic import write_aside
from steprule.paths import Trace
from steprule.problems.credits import credits_of
from steprule.races.as_given import TUTORIAL, Comparison, in_words
from steprule.reports import charts
from steprule.reports.document import document, facts, formulas, section, spans
from steprule.reports.mathml import mathml
from steprule.reports.style import style_of
from steprule.rules.rule import Rule
from steprule.trainable import Trainable


def write_report(race: Comparison, path: Path, *, command: Sequence[str] = ()) -> None:
    """Write the page of `race` to `path`; `command` is what repeats it. Raises `OutputError` where it cannot."""
    with write_aside(path) as aside:
        aside.write_text(page(race, command), encoding="utf-8")


def page(race: Comparison, command: Sequence[str] = ()) -> str:
    """The page as text."""
    title = f"Optimizers on {race.problem.name}: {len(race.seeds)} seed{'s' if len(race.seeds) > 1 else ''}"
    walked = charts.paths_of(race)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lede">{escape(in_words(race.rows))}</p>',
        section("Result", _table(race), _reading_the_table(race)),
        section("How far one seed is from another", _chart(charts.distributions(race)), _reading_the_dots(race)),
        section("How the loss falls", _chart(charts.curves(race)), _reading_the_curves(race)),
        section("The path each takes", _chart(charts.paths_figure(walked)), _reading_the_paths(race, walked)),
        section("What each does", formulas(_rules_of(race)), ""),
        section("How this was made", _provenance(race, command), ""),
    ]
    return document(title, "".join(parts), get_plotlyjs())


def paths_page(traces: Sequence[Trace]) -> str:
    """A page with the paths alone, as text."""
    surface = traces[0].ground
    title = f"{', '.join(t.label or t.rule for t in traces)} on {surface.name.replace('_', ' ')}"
    body = f"<h1>{escape(title)}</h1><p>{mathml('f = ' + surface.latex)}</p>{_chart(charts.paths_figure(traces))}"
    return document(title, body, get_plotlyjs())


def _chart(figure: go.Figure | None) -> str:
    if figure is None:
        return ""
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 20, "t": 50, "b": 60}, font={"size": 13})
    figure.update_yaxes(automargin=True)
    config = {"responsive": True, "displaylogo": False}
    return str(plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=config))


_INSIDE = {True: "inside", False: "<b>outside</b>", None: ""}


def _table(race: Comparison) -> str:
    books = any(row.book for row in race.rows)
    heads = (
        "",
        "mean ± sd",
        "middle 95 % of seeds",
        "s a run",
        "diverged",
        *(["printed by the book"] if books else []),
    )
    lines = []
    for row in race.rows:
        book = "; ".join(f"{b:.6f} {_INSIDE[inside]}".strip() for b, inside in row.beside_book)
        colour = style_of(row.method).colour
        cells = [
            row.spread,
            row.middle,
            f"{row.seconds:.3f}",
            f"{row.diverged} of {row.seeds}" if row.diverged else "0",
            *([book or "–"] if books else []),
        ]
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        lines.append(f"<tr><th>{swatch}{escape(row.label)}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _reading_the_table(race: Comparison) -> str:
    text = "Loss on all training samples after the last step. Mean and standard deviation over the seeds that did not diverge. "
    text += "Seconds: the training steps of one run, median over the seeds, without evaluation."
    if race.floor is not None:
        text += f" The {race.floor_name} is {race.floor:.8g}."
    return text


def _reading_the_dots(race: Comparison) -> str:
    books = [inside for row in race.rows for inside in row.book_inside]
    if not books:
        return "Each mark is one seed." + (
            "" if len(race.seeds) > 1 else " One seed tells nothing of how far seeds lie apart."
        )
    outside = [row.label for row in race.rows if not all(row.book_inside)]
    text = f"Each mark is one seed. Of the book's {len(books)} printed figures, {sum(books)} lie among the middle 95 % of seeds"
    text += f"; outside: {escape(', '.join(outside))}." if outside else "."
    if race.entries != TUTORIAL:
        return text
    return text + (
        " A gap between a formula and its class may be attributed only after varying one thing at a time: here they differ in"
        " the initial weights and in epsilon. <code>steprule train</code> with both on one problem takes the first away."
    )


def _reading_the_curves(race: Comparison) -> str:
    text = "Loss on all training samples. Line: median over the seeds. Band: the middle 95 % of them."
    if race.floor is not None:
        text += f" The axis counts from the {race.floor_name}, {race.floor:.6g}, so that the last digits can be seen."
    return text


def _reading_the_paths(race: Comparison, walked: Sequence[Trace]) -> str:
    how = "each rule at its best learning rate here"
    odd = [f"{t.label or t.rule}: {', '.join(t.cautions) or 'as it is'}" for t in walked if t.cautions or not t.tuned]
    if odd:
        how = f"each rule at the best learning rate of those tried ({escape('; '.join(odd))})"
    if race.entries == TUTORIAL:
        how = (
            "at the tutorial's settings; AdaDelta and Adam, for which it draws none, with their formulas' (Adam lr 0.4)"
        )
    return f"f = x²/10 + 2y², 20 steps from (-5, -2), {how}. Contours are logarithmic."


def _provenance(race: Comparison, command: Sequence[str]) -> str:
    spec = race.spec
    rows = {
        "Problem": f"{race.problem.name}: {race.problem.summary}",
        "Protocol": f"{spec['epochs']} epochs, batch {spec['batch_size']}, "
        f"{spec.get('schedule', 'constant')} learning rate, "
        f"seeds {spans(race.seeds)}; the same batches for all",
        "Settings": "; ".join(
            f"{e.label}: " + (", ".join(f"{k}={v}" for k, v in e.hypers.items()) or "defaults") for e in race.entries
        ),
        "Versions": ", ".join(f"{k} {v}" for k, v in spec["versions"].items()),
        "Hardware": race.hardware,
        "Wall time": f"{race.seconds:.1f} s" + (f", {race.kept} runs were there already" if race.kept else ""),
        "Repeat with": shlex.join(command) if command else "",
        "Data": credits_of([race.problem.name]),
    }
    return facts(rows)


def _rules_of(race: Comparison) -> Iterator[tuple[str, Rule, Mapping[str, Any]]]:
    for entry in race.entries:
        rule = Trainable.of(entry.optimizer).what
        if isinstance(rule, Rule):
            yield entry.method or entry.label, rule, entry.hypers
