"""A judgement as text for papers and programs: Markdown, CSV, LaTeX, JSON."""

from __future__ import annotations

import csv as csv_
import io
import json
import math
from collections.abc import Sequence

from steprule.races.judging.findings import Comparison, Findings, Standing
from steprule.races.judging.words import by_how_much, in_words, number, within

PAIR = ("problem", "a", "b", "difference", "low", "high", "unit", "verdict", "runs_needed", "p_real", "p_same", "by")
"""The columns of the pairs as CSV."""
SIGNS = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "≤": r"$\leq$", "≥": r"$\geq$"}  # fmt: skip


def heads(judged: Findings) -> tuple[str, ...]:
    """The columns of a problem's table."""
    cost = ("cost",) if any(s.cost is not None for c in judged.comparisons for s in c.standings) else ()
    gone = ("diverged",) if any(s.gone for c in judged.comparisons for s in c.standings) else ()
    return ("method", judged.measure, "95 %", "runs", *gone, *cost, "against the best")


def rows(judged: Findings, c: Comparison) -> list[tuple[str, ...]]:
    """A problem's table in words, the best first."""
    gone, costs = ("diverged" in heads(judged), "cost" in heads(judged))
    found = []
    for s in c.standings:
        cost = (number(s.cost) if s.cost is not None else "–",) if costs else ()
        found.append(
            (
                s.method,
                number(s.value),
                within(s.low, s.high),
                str(s.runs),
                *([str(s.gone or "")] if gone else []),
                *cost,
                against(c, s),
            )
        )
    return found


def against(c: Comparison, s: Standing) -> str:
    """How a method stands to the best, in words."""
    if s.method == c.standings[0].method:
        return "best"
    if s.learnt is False:
        return "learnt nothing"
    pair = c.pair(c.standings[0].method, s.method)
    if pair.verdict == "open" and pair.runs_needed is not None:
        return f"open, {pair.runs_needed:,} needed"
    return f"{by_how_much(pair).split(' [')[0]} real" if pair.verdict == "real" else pair.verdict


def markdown(judged: Findings) -> str:
    """The verdict and the tables as Markdown."""
    own = heads(judged)
    parts = []
    for c in judged.comparisons:
        if c.problem:
            parts.append(f"### {_cell(c.problem)}\n")
        parts += [_line(own), f"|---|{'--:|' * (len(own) - 2)}---|", *(_line(row) for row in rows(judged, c)), ""]
    return "\n".join([*parts, *(f"{_cell(text)}\n" for text in in_words(judged))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(c) for c in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def csv(judged: Findings) -> str:
    """Every pair, a line each; what is not known is empty."""
    text = io.StringIO()
    lines = csv_.DictWriter(text, PAIR, lineterminator="\n", extrasaction="ignore")
    lines.writeheader()
    for pair in judged.pairs:
        lines.writerow({k: "" if v is None else v for k, v in pair.to_dict().items()})
    return text.getvalue()


def latex(judged: Findings) -> str:
    """A tabular with booktabs: a row per method, a column per problem; bold cannot be told apart from the best of its column."""
    methods = dict.fromkeys(s.method for c in judged.comparisons for s in c.standings)
    order = list(judged.overall.ranks) if judged.overall else []
    methods = dict.fromkeys([*order, *methods])
    names = [_tex(c.problem or judged.measure) for c in judged.comparisons]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["method", *names]) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join([_tex(m), *(_entry(c, m) for c in judged.comparisons)]) + r" \\" for m in methods]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _entry(c: Comparison, method: str) -> str:
    own = next((s for s in c.standings if s.method == method), None)
    if own is None:
        return "--"
    value = _tex(number(own.value))
    half = (own.high - own.low) / 2
    shown = rf"{value} $\pm$ {half:.2g}" if math.isfinite(half) else value
    return rf"\textbf{{{shown}}}" if method in c.level_with_best else shown


def _tex(text: str) -> str:
    return "".join(SIGNS.get(sign, sign) for sign in text)


def as_json(judged: Findings) -> str:
    """All of it."""
    return json.dumps(judged.to_dict(), indent=2, allow_nan=False) + "\n"
