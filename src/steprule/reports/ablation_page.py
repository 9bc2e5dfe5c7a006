"""The page of an ablation as one HTML file: verdicts, picture, tables, formulas without each part."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from steprule.counts import counted
from steprule.races.ablation import Findings, Panel, headline, in_words
from steprule.races.ablation.words import SAID, effect_in_words, seen_from
from steprule.reports import ablation_charts, themed, tuned_parts
from steprule.reports.document import Part, document, facts, formulas, write_beside

KINDS = {"helps": "real above", "hurts": "real below", "nothing": "same", "open": "open"}
"""How the style sheet calls each verdict: blue is lower without the part, brown higher."""


def write(found: Findings, path: Path, *, command: Sequence[str] = ()) -> list[Path]:
    """Write the page to `path` and its figure as SVG beside it. Raises `OutputError` where it cannot."""
    parts = list(_parts(found, command))
    return write_beside(path, parts, _page(found, parts))


def page(found: Findings, command: Sequence[str] = ()) -> str:
    """The page as text; `command` is what repeats the ablation."""
    return _page(found, list(_parts(found, command)))


def _page(found: Findings, parts: Sequence[Part]) -> str:
    title = f"{found.label} without each of {counted(len(found.parts), 'part')}"
    lede = f'<p class="lede">{escape(headline(found))}</p>'
    return document(title, "".join([f"<h1>{escape(title)}</h1>", lede, *(part.html() for part in parts)]))


def _parts(found: Findings, command: Sequence[str]) -> Iterator[Part]:
    figure = ablation_charts.effects(found)
    narrow = figure.get_figwidth() <= ablation_charts.NARROW
    said = "By how much the loss is higher without each part"
    caption = (
        "By how much the loss is higher without each part, with its 95 % interval, which is not corrected for several parts: to the"
        " right the part helps. Within the grey bar an effect is found in fewer than four of five such ablations."
    )
    yield Part.drawn(
        "What each part does", "parts", themed.svg(figure, said, compact=True), escape(caption), narrow=narrow
    )
    told = in_words(found)[len(found.panels) == 1 :]  # one panel's verdict stands above already
    yield Part("The verdict", "".join(f"<p>{escape(text)}</p>" for text in told))
    yield Part("Tables", "".join(_table(found, panel) for panel in found.panels), escape(_reading(found)))
    entrants = found.race.spec.entrants
    yield Part("The formula with each part off", formulas((e.label, e.what, e.shown) for e in entrants if e.has_formula),
               "A number that is off at its neutral value leaves the formula as it is, and has no card of its own.")  # fmt: skip
    yield Part("How this was made", facts(_made(found, command)))


def _reading(found: Findings) -> str:
    return (
        f"helps, hurts: without the part the loss is really higher or lower by more than {found.race.threshold}, with Holm's correction"
        " over the parts (5 % for any wrong one). nothing measurable: the difference is smaller than that, by two one-sided tests. found"
        " from: the smallest effect that so many studies find with 80 % power. would decide: with so many studies, and as many times the"
        " fresh seeds, an open part would be decided in four of five cases, were difference and spread as they are here."
    )


def _table(found: Findings, panel: Panel) -> str:
    heads = ("part", "off", f"{panel.cell.measure.loss} without it, 95 %", "p", "found from", "would decide", "verdict")
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    rows = []
    for part, effect in zip(found.parts, panel.effects, strict=True):
        needed = "" if effect.needed is None else counted(effect.needed, "study", "studies")
        cells = (part.off, effect_in_words(effect), f"{effect.pair.p_real:.2g}", seen_from(effect), needed)
        shown = "".join(f"<td>{escape(c)}</td>" for c in cells)
        kind, word = KINDS[effect.verdict], SAID[effect.verdict]
        rows.append(
            f'<tr><th title="{escape(part.meaning)}">{escape(part.name)}</th>{shown}<td class="{kind}">{word}</td></tr>'
        )
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    return f"<h3>{escape(panel.cell.problem)}, {escape(panel.cell.schedule)} learning rate</h3>{table}"


def _made(found: Findings, command: Sequence[str]) -> dict[str, str]:
    race = found.race
    means = "; ".join(f"{p.name}: {p.off}" + (f" ({p.meaning})" if p.meaning else "") for p in found.parts)
    return {
        "Parts": means,
        "Change nothing": ", ".join(found.idle),
        **tuned_parts.made(race),
        "Points": "the same in every study for the rule with and without a part, without that number",
        "Versions": ", ".join(f"{k} {v}" for k, v in race.spec.stated["versions"].items()),
        "Hardware": race.hardware,
        "Trainings": f"{race.lanes:,}" + (f", {race.kept:,} of them were there already" if race.kept else ""),
        "Wall time": f"{race.seconds:.1f} s; {race.train_seconds:.1f} s of training, added over workers",
        "Repeat with": shlex.join(command) if command else "",
    }
