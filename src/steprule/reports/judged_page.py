"""The page of a judgement as one HTML file: verdict, matrix, pictures, tables, pairs; names are escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from steprule.atomic import write_text
from steprule.counts import counted
from steprule.errors import named
from steprule.races.citing.records import within
from steprule.races.judging import Comparison, Judgement, Pair
from steprule.races.judging.export import table_of
from steprule.races.judging.words import BY, in_words, threshold
from steprule.reports import judged_charts, themed
from steprule.reports.document import Part, document, facts

WIDEST = 24
"""Methods up to which all pairs are a square; of more methods each pair is a line in the CSV file."""


def write(judgement: Judgement, path: Path) -> None:
    """Write the page. Raises `OutputError` where it cannot."""
    write_text(path, page(judgement))


def figure_of(judgement: Judgement, name: str) -> Figure:
    """The picture of that name. Raises `UnknownNameError`."""
    figures = {
        "standings": judged_charts.standings,
        "differences": judged_charts.differences,
        "power": judged_charts.power,
    }
    return named("picture", name, figures)(judgement)


def page(judgement: Judgement) -> str:
    """The page as text."""
    methods = judgement.compared
    where = counted(len(judgement.comparisons), "problem")
    title = f"{counted(len(methods), 'method')} on {where}, {counted(judgement.runs, 'run')}"
    # Several problems have a line each; then stands what holds over all of them.
    words = in_words(judgement)
    over_all = len(judgement.comparisons) > 1 and judgement.overall is not None
    lede = words[len(judgement.comparisons)] if over_all else words[0]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lede">{escape(lede)}</p>',
        _matrix(judgement, methods),
        *(part.html() for part in _parts(judgement)),
    ]
    return document(title, "".join(body))


def _parts(judgement: Judgement) -> Iterator[Part]:
    measure = escape(judgement.measure)

    def drawn(title: str, draw: Callable[[Judgement], Figure], caption: str) -> Part:
        figure = draw(judgement)
        svg = themed.svg(figure, title, compact=True)
        return Part.drawn(title, "", svg, caption, narrow=figure.get_figwidth() <= judged_charts.NARROW)

    less = " The first twelve problems." if len(judgement.comparisons) > judged_charts.MOST else ""
    yield drawn("Who stands where", judged_charts.standings,
                f"The {measure} of every run. Bold: cannot be told apart from the best.{less}")  # fmt: skip
    yield drawn("How far from the best", judged_charts.differences,
                f"Each method's difference to the best of its problem, with its 95 % interval, not corrected.{less}")  # fmt: skip
    told = in_words(judgement)[len(judgement.comparisons) == 1 :]  # one problem's verdict stands above already
    yield Part("The verdict", "".join(f"<p>{escape(text)}</p>" for text in told))
    yield Part("Tables", "".join(_table(judgement, c) for c in judgement.comparisons), _reading(judgement))
    if max(len(c.standings) for c in judgement.comparisons) <= WIDEST:
        yield Part("Two by two", "".join(_square(c) for c in judgement.comparisons), _reading_pairs())
    if any(c.spread is not None for c in judgement.comparisons):
        yield drawn("How many runs it takes", judged_charts.power,
                    "The smallest difference that a table with so many runs finds with 80 % power, at the level of Holm's first step and "
                    "with the spread of the middle pair. The mark is this table.")  # fmt: skip
    yield Part("How this was made", facts(_made(judgement)))


def _reading(judgement: Judgement) -> str:
    mean = "geometric mean" if all(c.yardstick.is_ratio for c in judgement.comparisons) else "mean"
    median = (
        " Where a run diverged: the median, in which that run is the worst."
        if any(c.by_median for c in judgement.comparisons)
        else ""
    )
    return escape(
        f"{judgement.measure}: {mean} over the runs, with its 95 % interval.{median} needed: with so many runs of each an open pair "
        "would be decided, in four of five cases, were difference and spread as they are here."
    )


def _reading_pairs() -> str:
    return escape(
        "By how much the row is above the column. Coloured: real, with Holm's correction over all pairs of the table (5 % for any wrong "
        "one); green: the same; plain: cannot be told apart. Point at a number for its interval and p-value."
    )


def _matrix(judgement: Judgement, methods: list[str]) -> str:
    """A row per method, a column per problem: its difference to the best."""
    if len(judgement.comparisons) < 2:
        return ""
    order = [*(judgement.overall.ranks if judgement.overall else {}), *methods]
    head, lines = "", ""
    for c in judgement.comparisons:
        unit = f"<br><small>{c.yardstick.unit}</small>" if c.yardstick.unit else ""
        head += f"<th>{escape(c.problem)}{unit}</th>"
    for method in dict.fromkeys(order):
        entries = "".join(_entry(judgement, c, method) for c in judgement.comparisons)
        lines += f'<tr><th scope="row">{escape(method)}</th>{entries}</tr>'
    table = f'<div class="wide"><table class="pairs matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    side = "below" if judgement.is_higher_better else "above"
    matters = next((t for c in judgement.comparisons if (t := threshold(judgement, c))), "")
    by = f", by more than {matters}" if matters else ""
    keys = [(f"real {_worse(judgement)}", f"really {side} the best{by}"), ("open", "cannot be told apart from it")]
    if matters:
        keys.append(("same", f"shown to be within {matters} of it"))
    key = "".join(f'<span class="key {kind}">{word}</span>' for kind, word in keys)
    return f'{table}<p class="caption keys">{key}</p>'


def _worse(judgement: Judgement) -> str:
    return "below" if judgement.is_higher_better else "above"


def _entry(judgement: Judgement, c: Comparison, method: str) -> str:
    if method not in {s.method for s in c.standings} or not c.yardstick.tells:
        return "<td>–</td>"
    if method == c.standings[0].method:
        return '<td class="lowest">best</td>'
    return _shown(c.pair(c.standings[0].method, method), f"real {_worse(judgement)}", 1.0)


def _shown(pair: Pair, real: str, sign: float) -> str:
    kind = real if pair.verdict == "real" else pair.verdict
    ends = sorted((sign * pair.low, sign * pair.high))
    unit = f" {pair.unit}" if pair.unit else ""
    about = f"p = {pair.p_real:.2g} (Holm, {pair.how}); 95 % {within(ends[0], ends[1], '+.3g')}{unit}"
    return f'<td class="{kind}" title="{escape(about)}">{_number(sign * pair.difference)}</td>'


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+.1f}" if 0.05 <= abs(value) < 1000 else f"{value:+.2g}"


def _table(judgement: Judgement, c: Comparison) -> str:
    shown = table_of(judgement, c)
    head = "".join(f"<th>{escape(n if k else '')}</th>" for k, n in enumerate(shown.heads))
    body = ""
    for first, *more in shown.rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in more)
        body += f"<tr><th>{escape(first)}</th>{cells}</tr>"
    title = f"<h3>{escape(c.problem)}</h3>" if c.problem else ""
    return f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _square(c: Comparison) -> str:
    """All pairs: by how much the row is above the column."""
    found = {(p.a, p.b): p for p in c.pairs}
    lines = []
    for row in c.standings:
        cells = []
        for column in c.standings:
            pair, sign = found.get((column.method, row.method)), 1.0
            if pair is None:
                pair, sign = found.get((row.method, column.method)), -1.0
            if pair is None:
                cells.append("<td></td>")
                continue
            up = sign * pair.difference > 0
            cells.append(_shown(_turned(pair) if sign < 0 else pair, f"real {'above' if up else 'below'}", 1.0))
        lines.append(f"<tr><th>{escape(row.method)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(s.method)}</th>" for s in c.standings)
    table = f'<div class="wide"><table class="pairs"><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
    return f"<details open><summary>{escape(c.problem or 'All pairs')}</summary>{table}</details>"


def _turned(pair: Pair) -> Pair:
    """The first against the second: the inverse of a ratio, else the negative."""

    def turn(value: float) -> float:
        if pair.unit != "%":
            return -value
        if not math.isfinite(value):
            return -100.0 if value > 0 else math.inf
        return 100 / (1 + value / 100) - 100 if value > -100 else math.inf

    low, high = sorted((turn(pair.low), turn(pair.high)))
    return replace(pair, a=pair.b, b=pair.a, difference=turn(pair.difference), low=low, high=high)


def _made(judgement: Judgement) -> dict[str, str]:
    how: dict[str, int] = {}
    for pair in judgement.pairs:
        how[pair.how] = how.get(pair.how, 0) + 1
    noise = "" if judgement.noise is None else f"{judgement.noise:g}, as it was given"
    return {
        "Columns": ", ".join(f"{kind}: {name}" for kind, name in judgement.columns.items()),
        "Better": f"a {'higher' if judgement.is_higher_better else 'lower'} {judgement.measure}",
        "Compared": ", ".join(f"{counted(n, 'pair')} {BY[name]}" for name, n in how.items()),
        "Smallest difference that matters": next(
            (t for c in judgement.comparisons if (t := threshold(judgement, c))), "none stated"
        ),
        "Noise of one run": noise,
        "Notes": " ".join(judgement.notes),
        "Made": judgement.made.in_words(),
        "Versions": ", ".join(f"{k} {v}" for k, v in judgement.made.versions.items()),
    }
