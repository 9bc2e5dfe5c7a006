"""What a notebook's cell shows: results as pictures, rules as formulas, a step taken apart as a table.

`show(a, b, ...)` puts results of one kind into one picture; a result alone shows itself.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.hyper import said
from steprule.paths import Trace
from steprule.races import Race
from steprule.races.as_given import Comparison
from steprule.races.verdict import in_words
from steprule.reports import paths as path_pictures
from steprule.reports import race_charts, training_charts
from steprule.reports.document import formulas
from steprule.reports.style import style_of, styles_of
from steprule.rules.rule import Rule
from steprule.sweeps import Sweep
from steprule.training import Run

LARGEST_SVG = 60_000  # bytes
_CELL = "padding:.2em .8em;text-align:right"


class Picture:
    """HTML that a notebook shows; `svg` is the picture in it, where there is one."""

    def __init__(self, html: str, words: str, svg: str = "") -> None:
        self.html, self.words, self.svg = html, words, svg

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return self.html


def show(*results: Any, **settings: Any) -> Picture:
    """Results of one kind in one picture: traces on a surface, runs on a problem; or a rule's formula.

    `settings` choose a rule's variant: `show(rules.sgd, momentum=0.5)`.

    >>> import steprule
    >>> show(steprule.trace("sgd", lr=0.4), steprule.trace("adam", lr=0.4)).svg[:4]
    '<svg'

    Raises `InputTypeError` where there is nothing, or things of several kinds, or settings for what is no rule.
    """
    kinds = {type(r) for r in results}
    if len(kinds) != 1:
        got = ", ".join(sorted(k.__name__ for k in kinds)) or "nothing"
        raise InputTypeError("show", expected="results of one kind", got=got)
    first = results[0]
    if settings and not isinstance(first, Rule):
        raise InputTypeError(
            "show", expected="settings for a rule alone", got=f"{settings} for a {type(first).__name__}"
        )
    if isinstance(first, Rule):
        # Fractions of neighbouring lines would touch without a page's style sheet.
        drawn = formulas((r.name, r, settings) for r in results).replace("<div>", '<div style="margin:.7em 0">')
        return Picture(drawn, ", ".join(r.name for r in results))
    figure = _figure(first, results)
    words = "\n".join(repr(r) for r in results)
    # For who cannot see it: what each result says first.
    said = "; ".join(repr(r).splitlines()[0] for r in results)
    return Picture(_image(figure, said), words, race_charts.svg(figure))


def html(result: Any) -> str:
    """A result as a notebook's cell shows it: its picture, where it has one, and under it its words."""
    try:
        image = _image(_figure(result, [result]))
    except StepruleError:
        image = ""
    words = "\n".join(in_words(result)) if isinstance(result, Race) and result.whole else result.in_words()
    below = _best_points(result) if isinstance(result, Sweep) else ""
    return f"{image}<p style='white-space:pre-line;max-width:60rem'>{escape(words)}</p>{below}"


def drawn(result: Any) -> Figure:
    """One result as a matplotlib figure; of a training and of a sweep the picture that `--out` draws.

    Raises `InputError` where there is nothing to draw, `InputTypeError` for what has no picture.
    """
    return training_charts.of_run(result) if isinstance(result, Run) else _figure(result, [result])


def _best_points(sweep: Sweep) -> str:
    heads = "".join(f"<th>{escape(n)}</th>" for n in (*sweep.hypers, sweep.chosen_by))
    rows = []
    for k in sweep.order[:5]:
        numbers = (*(said(v[k].item()) for v in sweep.hypers.values()), f"{sweep.scores[k].mean():.5g}")
        rows.append(f"<tr>{''.join(f'<td>{v}</td>' for v in numbers)}</tr>")
    return f"<table><caption>The best points</caption><tr>{heads}</tr>{''.join(rows)}</table>" if rows else ""


def apart(trace: Trace, step: int) -> Picture:
    """Step `step` of a path taken apart: every quantity of the formula with its number for x and y."""
    rows = trace.anatomy(step)
    lines, words = [], []
    for name, value in rows:
        pair = np.atleast_1d(value)
        cells = [f"{v:.6g}" for v in pair]
        columns = "".join(f"<td style='{_CELL}'>{c}</td>" for c in (cells if len(cells) == 2 else [*cells, ""]))
        lines.append(f"<tr><th style='text-align:left'><code>{escape(name)}</code></th>{columns}</tr>")
        words.append(f"{name:24s} {'  '.join(f'{c:>12s}' for c in cells)}")
    head = f"<tr><th>step {step}</th><th style='{_CELL}'>x</th><th style='{_CELL}'>y</th></tr>"
    return Picture(f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>", "\n".join(words))


def _image(figure: Figure, said: str = "") -> str:
    # As an image: two pictures on one page would share the names inside their SVG. Filled contours are smaller as pixels.
    drawn, kind = race_charts.svg(figure).encode(), "svg+xml"
    if len(drawn) > LARGEST_SVG:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        drawn, kind = buffer.getvalue(), "png"
    return f'<img style="max-width:100%" alt="{escape(said)}" src="data:image/{kind};base64,{base64.b64encode(drawn).decode()}">'


@singledispatch
def _figure(result: Any, results: Sequence[Any]) -> Figure:
    expected = "traces, runs, a sweep, a race, a comparison or rules"
    raise InputTypeError("a picture", expected=expected, got=type(result).__name__)


@_figure.register
def _(result: Trace, results: Sequence[Trace]) -> Figure:
    return path_pictures.draw(results)


@_figure.register
def _(result: Run, results: Sequence[Run]) -> Figure:
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    styles = styles_of([run.optimizer for run in results])
    for k, (run, style) in enumerate(zip(results, styles, strict=True)):
        # A class that does what a rule does would have the rule's colour, and lie on its line: black dots over it.
        colour, dash = ("#111111", ":") if run.optimizer.startswith("torch.") else (style.colour, "-")
        label = f"{', '.join([run.optimizer, *_set_apart(run, results)])}: {run.final_loss:#.6g}"
        width = 2.4 - 0.5 * min(k, 2)
        axes.plot(run.samples, run.losses, color=colour, linestyle=dash, linewidth=width, label=label)
    axes.set(xlabel="samples seen", ylabel="loss on the full data", title=f"{result.problem}, seed {result.seed}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _set_apart(run: Run, results: Sequence[Run]) -> list[str]:
    """What tells a run from the others of its optimizer."""
    alike = [dict(r.hypers, seed=r.seed) for r in results if r.optimizer == run.optimizer]
    own = dict(run.hypers, seed=run.seed)
    return [f"{n} {v}" for n, v in own.items() if any(other.get(n) != v for other in alike)]


@_figure.register
def _(result: Sweep, results: Sequence[Sweep]) -> Figure:
    if len(results) == 1 and training_charts.varied(result.hypers):
        return training_charts.of_sweep(result)
    for sweep in results:
        if not sweep.hypers:
            raise InputError("a picture of a sweep", expected="a number that varies", got="none")
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    for sweep in results:
        varied = [n for n, v in sweep.hypers.items() if len(np.unique(v)) > 1] or list(sweep.hypers)[:1]
        name, style = varied[0], style_of(sweep.optimizer)
        values, alive = np.repeat(sweep.hypers[name][:, None], len(sweep.seeds), axis=1), np.isfinite(sweep.scores)
        axes.plot(values[alive], sweep.scores[alive], ".", color=style.colour, alpha=0.5, label=sweep.optimizer)
        axes.plot(values[~alive], np.full((~alive).sum(), 1.0), "x", color=style.colour, alpha=0.5,
                  transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        if (best := sweep.best) is not None:
            at = sweep.hypers[name][best], sweep.scores[best].mean()
            axes.plot(*at, "*", ms=14, color="#FFD700", mec="black", zorder=5)
    seen = np.concatenate([sweep.scores[np.isfinite(sweep.scores)] for sweep in results])
    axes.set(xscale="log" if (values > 0).all() else "linear", yscale="log" if len(seen) and (seen > 0).all() else "linear",
             xlabel=name, ylabel=result.chosen_by)  # fmt: skip
    star = "star: best; " if any(sweep.best is not None for sweep in results) else ""
    axes.set_title(f"{result.problem}: {result.lanes:,} trainings; {star}cross: diverged")
    axes.grid(alpha=0.3)
    if len(results) > 1:
        axes.legend(frameon=False)
    return figure


@_figure.register
def _(result: Race, results: Sequence[Race]) -> Figure:
    if not result.whole:
        hint = "Merge all shards: steprule.races.merge."
        raise InputError("a picture of a race", expected="a whole race", got="one shard of several", hint=hint)
    return race_charts.standings(result)


@_figure.register
def _(result: Comparison, results: Sequence[Comparison]) -> Figure:
    """Every seed's final loss, the middle 95 % of them, and the book's figures."""
    rows = result.rows[::-1]
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for height, row in enumerate(rows):
        style = style_of(row.method)
        losses = np.array([run.final_loss for (label, _), run in result.runs.items() if label == row.label])
        lift = height + 0.28 * np.sin(np.arange(len(losses)) * 2.4)
        hollow = row.form == "class"
        axes.plot(
            losses, lift, style.marker, ms=4.5, alpha=0.6, color=style.colour, mfc="none" if hollow else style.colour
        )
        axes.plot([row.low, row.high], [height, height], color=style.colour, linewidth=3, alpha=0.6)
        axes.plot(row.book, [height] * len(row.book), "D", ms=9, color="#FFD700", mec="black", zorder=5)
    if result.floor is not None:
        axes.axvline(result.floor, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    books = "; diamond: printed by the book" if any(row.book for row in rows) else ""
    floor = f"; dotted: the {result.floor_name}" if result.floor is not None else ""
    many = f"{len(result.seeds)} seeds each; bar: the middle 95 %" if len(result.seeds) > 1 else "One seed each"
    axes.set_title(f"{many}{books}{floor}", fontsize=10)
    axes.set(xlabel="final loss on all training samples")
    axes.grid(alpha=0.3, axis="x")
    return figure
