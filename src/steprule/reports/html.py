"""The page of a race: one self-contained HTML file that opens offline.

The drawing library is plotly's own copy of plotly.js, written into the page; formulas are MathML, which browsers draw
themselves. Every name that a user may have chosen is escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

import latex2mathml.converter
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from steprule.compiler import formula
from steprule.compiler.graph import trace as trace_graph
from steprule.files import write_aside
from steprule.paths import Trace
from steprule.problems import airfoil, surfaces
from steprule.races import TUTORIAL, Race, in_words
from steprule.reports import charts
from steprule.reports.style import style_of
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.training import resolve


def write_report(race: Race, path: Path, *, command: Sequence[str] = ()) -> None:
    """Write the page of `race` to `path`; `command` is what repeats it. Raises `OutputError` where it cannot."""
    with write_aside(path) as aside:
        aside.write_text(page(race, command), encoding="utf-8")


def page(race: Race, command: Sequence[str] = ()) -> str:
    """The page as text."""
    title = f"Optimizers on {race.problem.name}: {len(race.seeds)} seeds"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lede">{escape(in_words(race.rows))}</p>',
        _section("Result", _table(race), _reading_the_table(race)),
        _section("How far one seed is from another", _chart(charts.distributions(race)), _reading_the_dots(race)),
        _section("How the loss falls", _chart(charts.curves(race)), _reading_the_curves(race)),
        _section("The path each takes", _chart(charts.paths_figure(charts.paths_of(race))), _reading_the_paths(race)),
        _section("What each does", _formulas(race), ""),
        _section("How this was made", _provenance(race, command), ""),
    ]
    return _document(title, "".join(parts))


def paths_page(traces: Sequence[Trace]) -> str:
    """A page with the paths alone, as text."""
    surface = surfaces.get(traces[0].surface)
    title = f"{', '.join(t.label or t.rule for t in traces)} on {surface.name.replace('_', ' ')}"
    body = f"<h1>{escape(title)}</h1><p>{mathml('f = ' + surface.latex)}</p>{_chart(charts.paths_figure(traces))}"
    return _document(title, body)


def _document(title: str, body: str) -> str:
    script = f"<script>{get_plotlyjs()}</script>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{script}'
    head = f"<head><title>{escape(title)}</title>{head}<style>{_CSS}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}<body><main>{body}</main></body></html>\n'


def mathml(latex: str) -> str:
    """A formula as browsers draw it."""
    return str(latex2mathml.converter.convert(latex)).replace("<math ", '<math displaystyle="true" ', 1)


def _section(title: str, body: str, caption: str) -> str:
    shown = f'<p class="caption">{caption}</p>' if caption else ""
    return f"<section><h2>{escape(title)}</h2>{body}{shown}</section>" if body else ""


def _chart(figure: go.Figure | None) -> str:
    if figure is None:
        return ""
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 20, "t": 50, "b": 60}, font={"size": 13})
    figure.update_yaxes(automargin=True)
    config = {"responsive": True, "displaylogo": False}
    return str(plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=config))


def _table(race: Race) -> str:
    heads = ("", "mean", "sd", "middle 95 % of seeds", "s a run", "diverged", "printed by the book")
    lines = []
    for row in race.rows:
        book = "; ".join(
            f"{b:.6f} {'inside' if inside else '<b>outside</b>'}"
            for b, inside in zip(row.book, row.book_inside, strict=True)
        )
        colour = style_of(row.method).colour
        cells = [
            f"{row.mean:.5f}",
            f"{row.sd:.5f}",
            f"[{row.low:.5f}, {row.high:.5f}]",
            f"{row.seconds:.3f}",
            str(row.diverged),
            book or "–",
        ]
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        lines.append(f"<tr><th>{swatch}{escape(row.label)}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _reading_the_table(race: Race) -> str:
    text = (
        "Loss on the full data after the last step. Mean and standard deviation over the seeds that did not diverge. "
    )
    text += "Seconds: the training steps of one run, median over the seeds, without evaluation."
    if race.floor is not None:
        text += f" No linear model can go below {race.floor:.8f} (least squares)."
    return text


def _reading_the_dots(race: Race) -> str:
    books = [inside for row in race.rows for inside in row.book_inside]
    if not books:
        return "Each mark is one seed."
    outside = [row.label for row in race.rows if not all(row.book_inside)]
    text = f"Each mark is one seed. Of the book's {len(books)} printed figures, {sum(books)} lie among the middle 95 % of seeds"
    text += f"; outside: {escape(', '.join(outside))}." if outside else "."
    return text + (
        " A gap between a formula and its class may be attributed only after varying one thing at a time: here they differ in"
        " the initial weights and in epsilon. <code>steprule train … --init same</code> takes the first away."
    )


def _reading_the_curves(race: Race) -> str:
    text = "Loss on the full data. Line: median over the seeds. Band: the middle 95 % of them."
    if race.floor is not None:
        text += f" The axis counts from the least-squares floor {race.floor:.6f}, so that the last digits can be seen."
    return text


def _reading_the_paths(race: Race) -> str:
    how = "each rule at its best learning rate here"
    if race.entries == TUTORIAL:
        how = (
            "at the tutorial's settings; AdaDelta and Adam, for which it draws none, with their formulas' (Adam lr 0.4)"
        )
    return f"f = x²/10 + 2y², 20 steps from (-5, -2), {how}. Contours are logarithmic."


def _formulas(race: Race) -> str:
    cards, seen = [], set()
    for entry in race.entries:
        rule = resolve(entry.optimizer)
        if not isinstance(rule, Rule):
            continue
        whole = composed(rule)
        bound = whole.bind(entry.hypers)
        graph = trace_graph(whole, {h.name: bound[h.name] for h in whole.hypers if h.switches})
        lines = formula.latex(graph)
        if (key := tuple(lines)) in seen:
            continue
        seen.add(key)
        shown = "".join(f"<div>{mathml(line)}</div>" for line in lines)
        legend = "".join(
            f"<dt>{mathml(letter)}</dt><dd><code>{escape(name)}</code> {escape(meaning)}</dd>"
            for letter, name, meaning in formula.where(graph)
        )
        paper = f'<p class="caption">{escape(str(rule.paper))}</p>' if rule.paper else ""
        name = f"{entry.method or entry.label}: {rule.name}"
        letters = f"<details><summary>Letters</summary><dl>{legend}</dl></details>"
        maths = f'<div class="maths">{shown}</div>'
        cards.append(f'<div class="card"><h3>{escape(name)}</h3>{maths}{letters}{paper}</div>')
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _provenance(race: Race, command: Sequence[str]) -> str:
    spec = race.spec
    rows = {
        "Problem": f"{race.problem.name}: {race.problem.summary}",
        "Protocol": f"{spec['epochs']} epochs, batch {spec['batch_size']}, init {spec['init']}, "
        f"seeds {_spans(race.seeds)}; the same batches for all",
        "Settings": "; ".join(
            f"{e.label}: " + (", ".join(f"{k}={v}" for k, v in e.hypers.items()) or "defaults") for e in race.entries
        ),
        "Versions": ", ".join(f"{k} {v}" for k, v in spec["versions"].items()),
        "Hardware": race.hardware,
        "Wall time": f"{race.seconds:.1f} s" + (f", {race.kept} runs were there already" if race.kept else ""),
        "Repeat with": shlex.join(command) if command else "",
        "Data": airfoil.CREDIT if race.problem.name == "airfoil" else "",
    }
    shown = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)
    return f'<dl class="facts">{shown}</dl>'


def _spans(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) and len(seeds) > 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


_CSS = """
:root{color-scheme:light}
body{font:16px/1.55 system-ui,sans-serif;color:#1b1b1b;background:#fff;margin:0}
main{max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2}h2{font-size:1.25rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:0 0 .4rem}
.lede{font-size:1.08rem;max-width:46rem}.caption{color:#555;overflow-wrap:anywhere;font-size:.88rem;max-width:48rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
code{white-space:nowrap}th,td{padding:.32rem .6rem;text-align:right;border-bottom:1px solid #e3e3e3;white-space:nowrap}
th:first-child,td:last-child{text-align:left}thead th{color:#555;font-weight:600}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.5em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:1rem}
.card{border:1px solid #ddd;border-radius:8px;padding:.9rem 1rem;overflow-x:auto}
.maths div{margin:.35rem 0}math{font-size:1.08rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem .9rem;margin:.5rem 0;font-size:.92rem}
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}summary{cursor:pointer;font-size:.9rem;color:#555}
@media(max-width:560px){.facts{grid-template-columns:1fr}.facts dd{margin-bottom:.5rem}}
@media print{section{break-inside:avoid}}
"""
