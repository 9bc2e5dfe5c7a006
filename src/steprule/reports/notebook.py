"""Shows results in notebooks: results as pictures, rules as formulas, a step taken apart as a table.

`show(a, b, ...)` draws results of one kind in one picture; a single result shows itself. Formulas and tables are Markdown with LaTeX,
which every notebook draws, trusted or not; pictures are SVG.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from steprule import extras
from steprule.atomic import write_aside
from steprule.compiler import anatomy, formula
from steprule.compiler.points import point_graph
from steprule.compiler.variant import variant_of
from steprule.counts import counted
from steprule.display import Shown
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.hyper import said
from steprule.paths import Trace
from steprule.reports import themed, training_charts
from steprule.reports.address import address
from steprule.reports.panels import WIDTH, Panel, curves, heights, one_surface, paths, stack
from steprule.reports.style import LOOK, style_of
from steprule.reports.walked import ground, note, what_is_compared
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.sweeps import Sweep
from steprule.training import Run
from steprule.tutorial.rules import with_numbers

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure

LONGEST_TITLE = 46
LARGEST_SVG = 250_000  # bytes


class Picture:
    """HTML that a notebook shows; `svg` holds its picture, if any."""

    def __init__(self, html: str, words: str, svg: str = "") -> None:
        self.html, self.words, self.svg = html, words, svg

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return self.html


class Text:
    """Markdown that a notebook shows; `latex` holds its formula, if any."""

    def __init__(self, markdown: str, words: str, latex: str = "") -> None:
        self.markdown, self.words, self.latex = markdown, words, latex

    def __repr__(self) -> str:
        return self.words

    def _repr_markdown_(self) -> str:
        return self.markdown

    def _repr_latex_(self) -> str | None:
        return self.latex or None


def show(*results: Any, says: str = "", **settings: Any) -> Picture | Text:
    """Results of one kind in one picture: traces on a surface, runs on a problem; or a rule's formula.

    `settings` choose a rule's variant, as in `show(rules.sgd, momentum=0.5)`; a setting that chooses no variant is written as its number,
    and a factor 1 is left out: `show(rules.adadelta, lr=1)`. `says` describes the picture to readers who cannot see it; the first line of
    each result if empty.

    >>> import steprule
    >>> show(steprule.trace("sgd", lr=0.4), steprule.trace("adam", lr=0.4)).svg[:4]
    '<svg'

    Raises `InputTypeError` for nothing, for results of several kinds, and for settings without a rule.
    """
    kinds = {type(r) for r in results}
    if len(kinds) != 1:
        got = ", ".join(sorted(k.__name__ for k in kinds)) or "nothing"
        raise InputTypeError("show", expected="results of one kind", got=got)
    first = results[0]
    if settings and not isinstance(first, Rule):
        got = f"{settings} for a {type(first).__name__}"
        raise InputTypeError("show", expected="settings for a rule alone", got=got)
    if isinstance(first, Rule):
        written = [_written(rule, settings) for rule in results]
        return Text(*("\n\n".join(part) for part in zip(*written, strict=True)))
    reprs = [repr(result) for result in results]
    first_lines = [text.splitlines()[0] for text in reprs]
    return _picture(_figure(first, results), says or "; ".join(first_lines), "\n".join(reprs))


def figure(*panels: Panel, says: str, playground: str = "") -> Picture:
    """Panels of `steprule.reports.panels` as one picture.

    Args:
        says: a description for readers who cannot see the picture.
        playground: the address of the playground's page; a link under the picture opens it in the state of these paths.

    Raises `InputError` where there is no panel.
    """
    link = ""
    walks = list({id(t): t for panel in panels for t in panel.traces}.values())
    if playground and walks:
        where = escape(f"{playground}#{address(walks)}")
        link = f'<p><a href="{where}">Walk these paths in the playground</a></p>'
    return _picture(stack(*panels), says, says, link)


def _written(rule: Rule, settings: Any) -> tuple[str, str, str]:
    """A rule's formula as Markdown with letters and paper, as text in the code's names, and as LaTeX."""
    whole = for_training(rule)
    bound = whole.bind(settings)
    numbers = {n: bound[n] for n in settings if n in bound and not whole.setting(n).switches}
    variant = variant_of(with_numbers(whole, numbers), bound)
    graph = variant.graph()
    step = [*chain.from_iterable(formula.look_latex(variant)), *formula.latex(graph)]
    aligned = [re.sub(r" (=|\\leftarrow) ", r" &\1 ", line, count=1) for line in step]
    point = point_graph(variant)
    if point is not None:
        aligned += [f"&{line}" for line in formula.point_latex(point)]
    lines = " \\\\\n".join(aligned)
    latex = f"$$\n\\begin{{aligned}}\n{lines}\n\\end{{aligned}}\n$$"
    explained = formula.where(graph, *(look.graph() for look in variant.looks))
    rows = [f"| ${letter}$ | `{name}` | {meaning} |" for letter, name, meaning in explained]
    letters = "\n".join(["| letter | in code | meaning |", "|---|---|---|", *rows])
    paper = ""
    # A variant without a state, as plain descent, is older than the paper of the rule.
    if rule.paper and any(s.name in graph.inputs for s in rule.states):
        paper = f"\n\n[{rule.paper.title}]({rule.paper.url}). {rule.paper.authors}, {rule.paper.year}"
    return f"{latex}\n\n{letters}{paper}", formula.whole(variant), latex


def html(result: Any) -> str:
    """A result as a notebook's cell shows it: its picture, if it has one, and its words below."""
    try:
        image = _image(_figure(result, [result]))
    except StepruleError:
        image = ""
    words = _races().words(result) if _is_race(result) else result.in_words()
    below = _best_points(result) if isinstance(result, Sweep) else ""
    return f"{image}<p style='white-space:pre-line;max-width:60rem'>{escape(words)}</p>{below}"


def drawn(result: Any) -> Figure:
    """One result as a matplotlib figure; for a training and a sweep the picture that `--out` draws.

    Raises `InputError` where there is nothing to draw, `InputTypeError` for a result without a picture.
    """
    return training_charts.of_run(result) if isinstance(result, Run) else _figure(result, [result])


def write_picture(result: Any, path: Path, of: str) -> None:
    """Write the picture of a race or a judgement, or its picture `of` that name: SVG with real text, PDF with whole fonts, PNG.

    Raises `UnknownNameError`, `OutputError` where it cannot be written, and as `drawn` does.
    """
    if of:
        pictures = _judged() if _is_judged(result) else _races()
        figure: Figure = pictures.figure_of(result, of)
    else:
        figure = drawn(result)
    ending = path.suffix.lower()
    about = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {"Software": None})
    whole = io.BytesIO()  # matplotlib's PDF writer loses a full disk's error on the way
    with mpl.rc_context(LOOK):
        figure.savefig(whole, format=ending[1:], dpi=200, metadata=about)
    with write_aside(path) as aside:
        aside.write_bytes(whole.getvalue())


def _best_points(sweep: Sweep) -> str:
    heads = "".join(f"<th>{escape(n)}</th>" for n in (*sweep.hypers, sweep.chosen_by))
    rows = []
    for k in sweep.order[:5]:
        numbers = [said(values[k].item()) for values in sweep.hypers.values()]
        numbers.append(f"{sweep.scores[k].mean():.5g}")
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        rows.append(f"<tr>{cells}</tr>")
    return f"<table><caption>The best points</caption><tr>{heads}</tr>{''.join(rows)}</table>" if rows else ""


def apart(trace: Trace, step: int) -> Text:
    """Step `step` of a path taken apart: every quantity of the formula with its number for x and y."""
    graph, _ = trace.at_work(step)
    before = formula.inputs(graph)
    after = {row.key: row.left or row.right for row in anatomy.rows(graph)}
    lines = [f"| step {step} | in code | x | y |", "|---|---|--:|--:|"]
    words = []
    for name, value in trace.anatomy(step):
        columns = np.atleast_2d(value).T  # of a matrix, all numbers of a column in its cell
        cells = [", ".join(f"{v:.6g}" for v in column) for column in columns]
        key = name.removeprefix("new ")
        letter = (
            before[name] if name in before else after.get(key) or before[key].replace("t-1", "t")
        )  # if it stays as it was
        letter = letter.replace("|", r"\vert ").replace(r"\\vert", r"\Vert")  # a bar ends a table's cell
        words.append(f"{name:24s} {'  '.join(f'{c:>12s}' for c in cells)}")
        if len(cells) == 1:  # one number for x and y
            cells.append("")
        lines.append(f"| ${letter}$ | `{name}` | {' | '.join(cells)} |")
    return Text("\n".join(lines), "\n".join(words))


def _picture(drawn: Figure, said: str, words: str, below: str = "") -> Picture:
    svg = themed.svg(drawn, said)
    return Picture(_image(drawn, said, svg) + below, words, svg)


def _image(drawn: Figure, said: str = "", svg: str = "") -> str:
    # As an image, since an untrusted notebook shows no SVG element; a figure that is too large as SVG is smaller as pixels.
    data, kind = (svg or themed.svg(drawn, said)).encode(), "svg+xml"
    if len(data) > LARGEST_SVG:
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        data, kind = buffer.getvalue(), "png"
    look = f"width:100%;max-width:{96 * max(WIDTH, drawn.get_figwidth()):.0f}px"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img style="{look}" alt="{escape(said)}" src="{source}">'


def write_page(result: Any, path: Path) -> None:
    """Write the page of a race, a judgement or an ablation. Raises `InputTypeError` for a result that has none of this kind."""
    if _is_ablation(result):
        _ablations().write(result, path)
    elif _is_judged(result):
        _judged().write(result, path)
    elif _is_race(result):
        from steprule.reports import race_page

        race_page.write(result, path)
    else:
        raise InputTypeError("a page", expected="a race, a judgement or an ablation", got=type(result).__name__)


def _is_judged(result: Any) -> bool:
    return isinstance(result, Shown) and type(result).__module__.startswith("steprule.races.judging")


def _judged() -> ModuleType:
    """What draws a judgement, which needs more packages than a path."""
    from steprule.reports import judged_page

    return judged_page


def _is_ablation(result: Any) -> bool:
    return isinstance(result, Shown) and type(result).__module__.startswith("steprule.races.ablation")


def _ablations() -> ModuleType:
    """What draws an ablation, which needs more packages than a path."""
    from steprule.reports import ablation_page

    return ablation_page


def _is_race(result: Any) -> bool:
    of_races = isinstance(result, Shown) and type(result).__module__.startswith("steprule.races")
    return of_races and not _is_judged(result) and not _is_ablation(result)


def _races() -> ModuleType:
    """What draws a race, which needs more packages than a path."""
    from steprule.reports import race_cells

    return race_cells


@singledispatch
def _figure(result: Any, results: Sequence[Any]) -> Figure:
    if _is_judged(result):
        standing: Figure = _judged().judged_charts.standings(result)
        return standing
    if _is_ablation(result):
        effects: Figure = _ablations().ablation_charts.effects(result)
        return effects
    if _is_race(result):
        drawn: Figure = _races().figure(result)
        return drawn
    expected = "traces, runs, a sweep, a race, a judgement, an ablation or rules"
    raise InputTypeError("a picture", expected=expected, got=type(result).__name__)


@_figure.register
def _(result: Trace, results: Sequence[Trace]) -> Figure:
    surface = one_surface(results)
    walks = {note(t, surface, results): t for t in results}
    compared = what_is_compared(results) if all(t.tuned for t in results) else ""
    title = "\n".join(filter(None, ["value above the minimum", compared]))
    return stack(paths(walks, title=_cut(ground(result))), heights(walks, title=title))


@_figure.register
def _(result: Run, results: Sequence[Run]) -> Figure:
    lines = {}
    for run in results:
        name = ", ".join([run.optimizer, *_set_apart(run, results)])
        lines[f"{name}, at the end {run.final_loss:#.5g}"] = (run.samples, run.losses)
    return stack(curves("loss on all training samples", lines, x="samples seen", height=2.2))


def _cut(title: str) -> str:
    """A title that fits the width of a figure."""
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"


def _set_apart(run: Run, results: Sequence[Run]) -> list[str]:
    """The settings that tell a run from others of its optimizer."""
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
    axes.set_title(f"{result.problem}: {counted(result.lanes, 'training')}; {star}cross: diverged")
    axes.grid(alpha=0.3)
    if len(results) > 1:
        axes.legend(frameon=False)
    return figure
