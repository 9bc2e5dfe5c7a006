"""What all pages share: frame, parts, formulas as MathML, which browsers draw themselves, style sheet."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from steprule.atomic import write_text
from steprule.compiler import formula
from steprule.compiler.variant import Variant, variant_of
from steprule.reports.mathml import mathml
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule

GROWN = 1.4
"""Pixels on the page of a point of a figure, at most: one panel is not blown up to the page's width."""
LEAST = 820
"""Pixels below which a figure of several panels does not shrink; a narrow window scrolls it."""


@dataclass(frozen=True)
class Part:
    """A part of a page: what stands under its heading, with a caption below."""

    title: str
    body: str
    """HTML."""
    caption: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """By name, without its ending, the SVG of each figure in it."""

    @classmethod
    def drawn(cls, title: str, name: str, svg: str, caption: str, *, narrow: bool = False) -> Part:
        """A part that is one figure; a `narrow` one is as wide as a phone."""
        kind = "figure narrow" if narrow else "figure"
        widest = GROWN * float(re.findall(r'\bwidth="([\d.]+)"', svg)[0])
        least = min(widest, LEAST) if widest > LEAST else 0
        size = f"--widest:{widest:.0f}px;--least:{least:.0f}px"
        return cls(title, f'<div class="{kind}" style="{size}">{svg}</div>', caption, {name: svg})

    def html(self) -> str:
        """The part, as text."""
        return section(self.title, self.body, self.caption)


def write_beside(path: Path, parts: Iterable[Part], text: str) -> list[Path]:
    """Write a page to `path` and each figure of its parts as SVG beside it; the figures' files come back. Raises `OutputError`."""
    files = []
    for name, svg in ((n, s) for part in parts for n, s in part.files.items()):
        files.append(path.parent / f"{name}.svg")
        write_text(files[-1], '<?xml version="1.0" encoding="utf-8"?>\n' + svg)
    write_text(path, text)
    return files


def document(title: str, body: str) -> str:
    """A whole page, as text."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    face = font_face() if "<math" in body else ""
    head = f"<head><title>{escape(title)}</title>{head}<style>{face}{_CSS}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}<body><main>{body}</main></body></html>\n'


def font() -> bytes:
    """The formulas' font as WOFF2; its table of mathematics lets a browser stretch roots, hats and braces."""
    return (resources.files("steprule.reports") / "fonts" / "rule-math.woff2").read_bytes()


def font_face() -> str:
    """The font as a rule of a style sheet; `math{font-family:"Rule Math",math}` uses it."""
    data = base64.b64encode(font()).decode()
    return f'@font-face{{font-family:"Rule Math";src:url(data:font/woff2;base64,{data}) format("woff2")}}'


def section(title: str, body: str, caption: str = "") -> str:
    """A part of a page: heading, body and a caption under it; empty where the body is empty."""
    shown = f'<p class="caption">{caption}</p>' if caption else ""
    return f"<section><h2>{escape(title)}</h2>{body}{shown}</section>" if body else ""


def facts(rows: Mapping[str, str]) -> str:
    """A list of names and values; an empty value is left out with its name."""
    shown = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)
    return f'<dl class="facts">{shown}</dl>'


def formulas(entries: Iterable[tuple[str, Rule, Mapping[str, Any]]]) -> str:
    """One card per formula, for entries (title, rule, hyperparameters)."""
    cards: dict[tuple[str, ...], str] = {}
    for title, rule, hypers in entries:
        whole = for_training(rule)
        variant = variant_of(whole, whole.bind(hypers))
        lines = tuple(formula.whole_latex(variant))
        if lines not in cards:
            cards[lines] = _formula_card(title, rule, variant, lines)
    return f'<div class="cards">{"".join(cards.values())}</div>' if cards else ""


def _formula_card(title: str, rule: Rule, variant: Variant, lines: Sequence[str]) -> str:
    shown = "".join(f"<div>{mathml(line)}</div>" for line in lines)
    legend = ""
    for letter, name, meaning in formula.where(variant.graph(), *(look.graph() for look in variant.looks)):
        legend += f"<dt>{mathml(letter)}</dt><dd><code>{escape(name)}</code> {escape(meaning)}</dd>"
    paper = f'<p class="caption">{escape(str(rule.paper))}</p>' if rule.paper else ""
    name = f"{title}: {rule.name}" if title != rule.name else title
    letters = f"<details><summary>Letters</summary><dl>{legend}</dl></details>"
    maths = f'<div class="maths">{shown}</div>'
    return f'<div class="card"><h3>{escape(name)}</h3>{maths}{letters}{paper}</div>'


def spans(seeds: Sequence[int]) -> str:
    """Seeds in words: 0 to 19."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) and len(seeds) > 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


_CSS = """
:root{color-scheme:light dark;--ink:#1b1b1b;--ground:#fff;--quiet:#555;--line:#ddd;--hollow:#b9b9b9}
@media(prefers-color-scheme:dark){:root{--ink:#ececec;--ground:#16181d;--quiet:#b3b3b3;--line:#3c4046;--hollow:#5b626b}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--ground);margin:0}
main{max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2}h2{font-size:1.25rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:0 0 .4rem}
.lede{font-size:1.08rem;max-width:46rem}.caption{color:var(--quiet);overflow-wrap:anywhere;font-size:.88rem;max-width:48rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
code{white-space:nowrap}th,td{padding:.32rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:last-child{text-align:left}thead th{color:var(--quiet);font-weight:600}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.5em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:1rem}
.card{border:1px solid var(--line);border-radius:8px;padding:.9rem 1rem;overflow-x:auto}
.maths div{margin:.35rem 0}math{font-family:"Rule Math",math;font-size:1.12rem}math mtd[columnalign=left]{text-align:left}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem .9rem;margin:.5rem 0;font-size:.92rem}
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}summary{cursor:pointer;font-size:.9rem;color:var(--quiet)}
@media(max-width:560px){.facts{grid-template-columns:1fr}.facts dd{margin-bottom:.5rem}}
.figure{overflow-x:auto}.figure svg{min-width:var(--least);max-width:var(--widest);width:100%;height:auto}
.narrow svg{min-width:0;max-width:480px}
.pairs td,.pairs th{padding:.18rem .35rem;font-size:.8rem;text-align:center}.pairs th:first-child{text-align:left}
.kicker{color:var(--quiet);margin:0}.said{font-size:1.45rem;margin:.2rem 0 1rem;max-width:52rem}
.pairs td:not(:empty),.key{border-radius:4px}.pairs th{border:0}.pairs{border-collapse:separate;border-spacing:2px}.pairs td{border:0}
.square td{padding:.18rem .12rem}.square small{display:block;font-size:.68rem;white-space:nowrap}.square b{font-weight:600}
.square{width:auto}
.square thead th span{writing-mode:vertical-rl;transform:rotate(180deg);white-space:nowrap}.square thead th{vertical-align:bottom}
.standing thead th{white-space:normal;vertical-align:bottom}.standing{width:auto}.standing th,.standing td{padding:.3rem .45rem}
.standing .wide-words{min-width:18rem;max-width:34rem;font-size:.84rem}.standing th:last-child{text-align:left}
.wide th:first-child{position:sticky;left:0;z-index:1;background:var(--ground)}
.broad{width:calc(50% + 48vw)}
.real{color:#fff}.below{background:#0072B2}.above{background:#A34A00}.same{background:#d9e8d9;color:#1b1b1b}
.matrix{width:auto;margin:.4rem 0}.matrix td,.matrix th{font-size:.86rem;padding:.22rem .4rem}.matrix thead th{border:0}
.open{color:var(--quiet)}td.open,.key.open{box-shadow:inset 0 0 0 1.5px var(--hollow)}.key.open{border-color:transparent}
.pairs td.gap{padding:0 .35rem}
.matrix small{font-size:.72rem;opacity:.85}
.matrix .lowest{font-weight:700;outline:2px solid var(--ink);outline-offset:-2px}
.keys{display:flex;flex-wrap:wrap;gap:.3rem .8rem;align-items:center;max-width:none}
.key{padding:.05rem .5rem;border-radius:4px;border:1px solid var(--line)}
.mark{padding:.1rem .45rem;border-radius:4px;white-space:nowrap;justify-self:start}.no{background:#e3e3e3;color:#1b1b1b}
td.words,th.words{text-align:left}.wide-words{white-space:normal;min-width:14rem}
.stack th:first-child{overflow-wrap:anywhere;white-space:normal;min-width:8rem}
.stack td.words{white-space:normal}th code{font-weight:400;color:var(--quiet)}
@media(max-width:560px){.stack thead{display:none}.stack tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
.stack td,.stack th{display:grid;grid-template-columns:7.5rem 1fr;text-align:left;border:0;padding:.15rem .3rem;white-space:normal}
.stack th,.stack td{overflow-wrap:anywhere}.stack td:empty{display:none}
.stack [data-head]::before{content:attr(data-head);color:var(--quiet)}}
@media(max-width:560px){.square thead{display:none}.square tr{display:block;padding:.5rem 0}.square,.square tbody{display:block}
.square th{display:block;font-size:.95rem;white-space:normal}.square td::before{white-space:normal}
.matrix thead th{white-space:normal}.wide th:first-child{white-space:normal;min-width:5.2rem;max-width:7rem;overflow-wrap:break-word}
.wide .square th:first-child{max-width:none}.square td:empty{display:none}.broad{width:auto}
.square td{display:grid;grid-template-columns:1fr 3.6rem 8rem;gap:.3rem;text-align:right;margin:2px 0;font-size:.85rem}
.square td::before{content:attr(data-head);text-align:left;overflow-wrap:anywhere}.square small{font-size:.8rem}}
@media(max-width:560px){.matrix td,.matrix th{padding:.2rem .1rem;font-size:.68rem}.matrix td.gap{padding:0 .15rem}
.matrix th.upright{writing-mode:vertical-rl;padding:.2rem .05rem}.matrix .swatch{margin-right:.3em}}
@media print{section{break-inside:avoid}}
"""
