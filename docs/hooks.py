"""What the site's build adds: a page a rule, the lesson's chapters from its notebooks, the playground; and what it refuses.

A page asks for what is printed elsewhere: `{{ formula NAME }}` is a rule's formula, `{{ source FILE }}` a file of the repository,
`{{ output FILE }}` what that file prints.

It fails on a public name without a docstring or without a place in the reference, and on a formula that was typed: formulas
come from rules, by `{{ formula NAME }}`. Broken links fail by mkdocs's own strict mode.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

import steprule
from steprule import play, rules
from steprule.benching.steps import torchs_classes
from steprule.compiler import formula
from steprule.compiler.tracer import trace as graph_of
from steprule.compiler.variant import asks_for_shapes, variant_of
from steprule.paths import best_rate, trace
from steprule.play import luck, matrix, network
from steprule.reports import path_figure
from steprule.reports.document import font
from steprule.reports.mathml import mathml
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.surfaces import catalogue as surfaces

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
API = ROOT / "docs" / "api.md"
MICRORULE = (ROOT / "microrule.py", ROOT / "src" / "steprule" / "problems" / "data" / "airfoil_self_noise.dat")
PICTURED = ("quadratic", "rosenbrock", "saddle")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The published address, where there is one, stands in pyproject.toml alone."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    config.site_url = told["tool"]["steprule"]["hosted"] or config.site_url
    return config


def on_pre_build(config: MkDocsConfig) -> None:
    """Refuse public names that nobody would find."""
    reference = API.read_text()
    missing = []
    for name in steprule.__all__:
        places = (f"steprule.{name}", getattr(getattr(steprule, name), "__name__", ""))  # d2l has a home below
        if not any(f"::: {place}\n" in reference for place in places):
            missing.append(name)
    if missing:
        raise PluginError(f"docs/api.md: no place for {', '.join(missing)}")
    if bare := list(undocumented()):
        raise PluginError(f"public names without a docstring: {', '.join(bare)}")


def undocumented() -> Iterator[str]:
    """Public functions and classes of steprule and of every module in the reference that say nothing of themselves."""
    for name in ("steprule", *re.findall(r"^::: (\S+)$", API.read_text(), re.MULTILINE)):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue  # a name in a module that is there too
        for public in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
            found = getattr(module, public)
            if isinstance(found, Rule):
                if not found.summary:
                    yield f"{name}.{public}"
            elif getattr(found, "__module__", "").startswith("steprule") and not found.__doc__:
                yield f"{name}.{public}"


def typed_formula(markdown: str) -> str | None:
    """The first formula that somebody typed in a page, as LaTeX or MathML."""
    code = re.sub(r"```.*?```|`[^`\n]*`", "", markdown, flags=re.DOTALL)
    found = re.search(r"\$\$|<math|\\\[|\\begin\{|\$[^$\n]+\$", code)
    return code[found.start() : found.start() + 40] if found else None


def step_formula(markdown: str) -> str | None:
    """The first formula in a lesson's sentence that states a step: numbers and letters may be typed there, a rule may not."""
    formulas = re.findall(r"\$[^$\n]+\$", re.sub(r"`[^`\n]*`", "", markdown))
    return next((f for f in formulas if re.search(r"_\{?t|\\theta|\\leftarrow|\\gets", f)), None)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Print formulas, files and their output where a page asks for them; refuse typed formulas."""
    if page.file.generated_by is None and (typed := typed_formula(markdown)):
        raise PluginError(f"{page.file.src_uri}: a formula that was typed: {typed!r}; write {{{{ formula NAME }}}}")
    kinds = {"formula": lambda name: printed(rules.get(name)), "source": source, "output": output}
    return re.sub(r"\{\{ (formula|source|output) (\S+) \}\}", lambda m: kinds[m[1]](m[2]), markdown)


def source(name: str) -> str:
    """A file of the repository as highlighted code."""
    return f"```python\n{(ROOT / name).read_text(encoding='utf-8')}```"


def output(name: str) -> str:
    """What a file of the repository prints in a bare Python."""
    done = subprocess.run([sys.executable, "-I", "-S", name], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"{name}: {done.stderr.strip() or done.returncode}")
    return f"```text\n{done.stdout}```"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated."""

    def add(where: str, content: str | bytes, inclusion: InclusionLevel = InclusionLevel.UNDEFINED) -> None:
        files.append(File.generated(config, where, content=content, inclusion=inclusion))

    listed = []
    for rule in rules.CATALOGUE.values():
        add(f"rules/{rule.name}.md", rule_page(rule))
        listed.append(f"| [{rule.name}]({rule.name}.md) | {rule.summary} |")
        for surface in PICTURED:
            add(f"rules/{rule.name}-{surface}.png", picture(rule, surface))
    add(
        "rules/index.md",
        "# Rules\n\nSimplest first. Each page is printed from the rule.\n\n| rule | |\n|---|---|\n" + "\n".join(listed),
    )
    chapters = {"en": [], "zh": []}
    for book in [f for f in files if f.src_uri.startswith("lesson/") and f.src_uri.endswith(".ipynb")]:
        _, language, name = book.src_uri.split("/")
        text = (ROOT / "docs" / book.src_uri).read_text(encoding="utf-8")
        add(f"lesson/{language}/{name.removesuffix('.ipynb')}.md", chapter_page(text, language, name))
        chapters[language].append(name.removesuffix(".ipynb"))
    first = {n: re.search(r"# (.*)", cell_text("zh", n))[1] for n in sorted(chapters["zh"])}  # type: ignore[index]
    entries = {"microrule": "一个文件：microrule.py", **first}
    add("lesson/zh/index.md", "# 课程\n\n" + "\n".join(f"- [{title}]({n}.md)" for n, title in entries.items()))
    for path in MICRORULE:  # to download; what the site leaves out by its ending is told apart here
        add(f"lesson/{path.name}", path.read_bytes(), InclusionLevel.INCLUDED)
    links = {"lesson": "lesson/en/1_gradient_descent.html", "docs": "index.html", "race": "race.html"}
    links |= {"play": "play.html", "luck": "luck.html", "network": "network.html", "matrix": "matrix.html"}
    if made := files.get_file_from_path("play.html"):
        files.remove(made)  # which `steprule play --out docs/play.html` wrote, for a clone's notebooks
    add("fonts/rule-math.woff2", font())
    add("play.html", play.page(links=links))
    add("luck.html", luck.page(links))
    add("network.html", network.page(links))
    add("matrix.html", matrix.page(links=links))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Take the search's helper from this site and not from the network; say which pages are Chinese."""
    depth = page.file.dest_uri.count("/")
    if page.file.src_uri.startswith("lesson/zh/"):
        output = output.replace('<html lang="en"', '<html lang="zh-Hans"', 1)
        output = output.replace(WORDS["en"]["contents"], WORDS["zh"]["contents"])
    return output.replace("https://unpkg.com/iframe-worker/shim", f"{'../' * depth}search-shim.js")


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for 404.html."""
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "/search-shim.js")


def cell_text(language: str, name: str) -> str:
    """The first text of a chapter."""
    book = nbformat.read(ROOT / "docs" / "lesson" / language / f"{name}.ipynb", as_version=4)
    return str(next(c.source for c in book.cells if c.cell_type == "markdown"))


def rule_page(rule: Rule) -> str:
    """Everything that is known of a rule, from the rule and the recorded benchmarks."""
    whole = composed(rule)
    graph = graph_of(rule)
    graphs = [graph_of(rule, v) for v in rule.variants()]
    letters = {name: mathml(letter) for g in graphs for letter, name, _ in formula.where(g)}
    parts = [f"# {rule.name}", rule.summary, printed(rule)]
    if rule.paper:
        parts.append(f"Paper: {rule.paper.authors} ({rule.paper.year}). [{rule.paper.title}]({rule.paper.url}).")
    variants = [v for v in rule.variants() if switched(rule, v)]
    if variants:
        shown = []
        for variant in variants:
            name = ", ".join(switched(rule, variant))
            shown.append(f"<details><summary>with {escape(name)}</summary>{formula_html(rule, variant)}</details>")
        parts.append('<div markdown="0">' + "".join(shown) + "</div>")
    rows = [
        f"| {letters.get(h.name, '')} | `{h.name}` | {h.default!r} | {h.range.replace(', ', ',&nbsp;')} | {h.meaning} |"
        for h in whole.hypers
    ]
    parts.append(
        "## Hyperparameters\n\n| letter | name | default | values | meaning |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
    )
    states = [
        f"| {letters.get(s.name, '')} | `{s.name}` | {s.starts} | {s.of} | {kept(rule, s.name)} |" for s in rule.states
    ]
    head = "| letter | name | starts at | one per | kept |\n|---|---|---|---|---|\n"
    held = head + "\n".join(states) if states else "None."
    slots = [s for s in rule.states if s.name in graph.inputs and not s.per_tensor]
    moved = 4 * (3 + 2 * len(slots))
    memory = (
        f"With its defaults it keeps {4 * len(slots)} bytes per element in float32, and a step moves at least {moved}: the gradient"
        " read, the parameter and each state read and written."
    )
    parts.append(f"## States\n\n{held}\n\n{memory}")
    shown = "\n\n".join(f"![{rule.name} on {s}]({rule.name}-{s}.png)" for s in PICTURED)
    parts.append(f"## Paths\n\nAt the best of 141 learning rates for each surface, 40 steps.\n\n{shown}")
    parts += [parity(rule), speed(rule)]
    address = walked(rule)
    frame = f'<iframe class="playground" src="{address}" title="Playground: {rule.name}" loading="lazy"></iframe>'
    link = f'<a href="{address}">Open it in full</a>'
    parts.append("## Walk it\n\n" + (f"{frame}\n\n{link}" if address else "No page walks it: it factorizes matrices."))
    return "\n\n".join(p for p in parts if p)


def walked(rule: Rule) -> str:
    """Where a page walks it, beside Adam if it is a rule of matrices; none for one that no page walks."""
    if not asks_for_shapes(rule):
        rate = ",lr=0.1" if "lr" in rule.defaults else ""
        return f"../play.html#rule={rule.name}{rate}&surface=quadratic&start=-5,-2&steps=40"
    known = {r.name: r.lr for r in matrix.RUNNERS}
    return f"../matrix.html#{rule.name}={known[rule.name]}&adam={known['adam']}" if rule.name in known else ""


def printed(rule: Rule) -> str:
    """The formula of a rule with its defaults."""
    return f'<div class="rule-formula" markdown="0">{formula_html(rule, None)}</div>'


def formula_html(rule: Rule, variant: Any) -> str:
    """A variant's formula, a line a statement."""
    supplied = formula.look_latex(variant_of(rule, rule.bind(variant or {}))) if rule.looked else []
    lines = [*chain.from_iterable(supplied), *formula.latex(graph_of(rule, variant))]
    return "".join(f"<div>{mathml(line)}</div>" for line in lines)


def picture(rule: Rule, surface: str) -> bytes:
    """Its path at its best learning rate there."""
    import io

    walked = trace(rule, surfaces.get(surface), steps=40, lr=best_rate(rule, surface, steps=40))
    buffer = io.BytesIO()
    path_figure.draw([walked]).savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


SHAPES = {"matrices": (2, 3), "vectors": (3,)}
"""What a rule that asks for shapes is asked about."""
LARGE = (5000, 5000)


def switched(rule: Rule, variant: Mapping[str, Any]) -> list[str]:
    """What a variant has on; a whole number stays at its default."""
    return [name for name, on in variant.items() if on and not rule.hyper(name).is_whole]


def kept(rule: Rule, slot: str) -> str:
    """With which settings a state is kept: the fewest that do. Of a rule that asks for shapes, whether of matrices or of vectors alone."""
    if asks_for_shapes(rule):
        of = {name: slot in variant_of(rule, rule.bind({}), shape).slots for name, shape in SHAPES.items()}
        if slot in variant_of(rule, rule.bind({}), LARGE).slots and not any(of.values()):
            return "for large matrices"
        if any(of.values()):
            return "always" if all(of.values()) else f"for {next(name for name, on in of.items() if on)}"
    having = [switched(rule, v) for v in rule.variants() if slot in graph_of(rule, v).inputs]
    fewest = min(map(len, having))
    alone = [" and ".join(f"`{n}`" for n in names) for names in having if len(names) == fewest]
    return f"with {' or '.join(alone)}" if fewest else "always"


def parity(rule: Rule) -> str:
    """How far from torch, as measured; where torch lacks the rule, from its own function."""
    record = json.loads((RESULTS / "parity.json").read_text())
    found = record["rules"].get(rule.name)
    if found is None:
        return "## Parity\n\nNot measured yet: `python benchmarks/parity.py`."
    theirs = found.get("torch")
    against = f"`{theirs}` {record['versions']['torch']}" if theirs else "the function itself"
    options = ", ".join(f"`{o}`" for o in found["options"])
    cells = [
        against,
        found["settings"],
        options,
        found["steps"],
        f"{found['largest']:.1e}" if found["largest"] else "0, to the bit",
    ]
    return (
        "## Parity\n\n"
        + ("" if theirs else "torch has no such class: here the compiled step is held to the author's function.\n\n")
        + "| against | settings | options away from neutral | steps | largest relative difference |\n|---|---|---|---|---|\n"
        f"| {' | '.join(map(str, cells))} |\n\nfloat64, parameters and all states, after every step ({record['date']},"
        " `python benchmarks/parity.py`)."
    )


def speed(rule: Rule) -> str:
    """Whole steps against torch's forms, as measured; where torch lacks the rule, against its function on tensors."""
    ours_alone = rule.name not in torchs_classes()
    record = json.loads((RESULTS / f"cpu-2-cores{'-own' if ours_alone else ''}.json").read_text())
    rows = [r for r in record["steps"] if r["optimizer"].lower() == rule.name]
    if not rows:
        return f"## Speed\n\nNot measured yet: `steprule bench {rule.name}`."
    peer, command = ("the function's", "") if ours_alone else ("torch's", " --compile")
    missing = (
        "torch has no such class; the peer is what one would write by hand: a loop that calls the function on each parameter's"
        " tensors. "
    )
    forms = list(dict.fromkeys(f for r in rows for f in r["ratios"]))
    lines = [
        f"| {r['workload']} | {r['microseconds']['steprule']:,.0f} | "
        + " | ".join(f"{r['ratios'][f]:.2f}x" if f in r["ratios"] else "" for f in forms)
        + " |"
        for r in rows
    ]
    machine = record["machine"]
    return (
        f"## Speed\n\n{missing if ours_alone else ''}A whole `step()`, float32; {peer} time over ours, median of rounds in turn.\n\n"
        f"| workload | microseconds | {' | '.join(forms)} |\n|---|---|{'---|' * len(forms)}\n" + "\n".join(lines)
        + f"\n\n{machine['hardware']}, torch {machine['torch']}, {machine['date']}; `steprule bench {rule.name}{command}`."
    )  # fmt: skip


WORDS = {
    "en": {
        "solution": "Solution {}",
        "lead": "The code of this picture",
        "contents": "Table of contents",
        "notebook": "notebook",
    },
    "zh": {"solution": "解答 {}", "lead": "这幅图的代码", "contents": "目录", "notebook": "笔记本"},
}


def chapter_page(text: str, language: str, name: str) -> str:
    """A notebook as a page: text, code, outputs; solutions fold, figures are part of the page."""
    book = nbformat.reads(text, as_version=4)
    other = {"en": ("zh", "简体中文"), "zh": ("en", "English")}[language]
    head = f"[{other[1]}](../{other[0]}/{name.removesuffix('.ipynb')}.md) · [{WORDS[language]['notebook']}]({name})"
    solutions = 0
    title = next(c.source for c in book.cells if c.cell_type == "markdown").splitlines()[0].removeprefix("# ")
    parts = [f"---\ntitle: {title}\n---", head]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            if typed := step_formula(cell.source):
                raise PluginError(f"{name}: a rule's formula that was typed: {typed!r}; print it by show(rule)")
            parts.append(with_formulas(cell.source))
            continue
        code, shown = f"```python\n{cell.source}\n```", list(filter(None, map(output_shown, cell.outputs)))
        if "solution" in (tags := cell.metadata.get("tags", [])):
            solutions += 1
            parts.append(folded(WORDS[language]["solution"].format(solutions), code, *shown))
        elif "lead" in tags:
            parts += [*shown, folded(WORDS[language]["lead"], code)]
        else:
            parts += [code, *shown]
    # What neighbours() of the lesson's build.py wrote for a notebook.
    parts[-1] = parts[-1].replace(".ipynb)", ".md)")
    return "\n\n".join(parts)


def folded(summary: str, *parts: str) -> str:
    """What a reader unfolds."""
    return "\n\n".join([f'<details markdown="1">\n<summary>{summary}</summary>', *parts, "</details>"])


def output_shown(output: Any) -> str:
    """An output as Markdown; nothing for what a page does not show."""
    data = output.get("data", {})
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```"
    if "text/markdown" in data:
        return with_formulas(data["text/markdown"])
    return (
        f'<div class="cell-output" markdown="0">{flat(drawn(data["text/html"]))}</div>' if "text/html" in data else ""
    )


def with_formulas(markdown: str) -> str:
    """Markdown with its LaTeX as MathML: `$$` formulas a line a statement, `$` formulas in their sentence."""
    lines = re.sub(r"\$\$\n\\begin\{aligned\}\n(.*?)\n\\end\{aligned\}\n\$\$", statements, markdown, flags=re.DOTALL)
    return re.sub(r"\$([^$\n]+)\$(?=([，。；：？、）]?))", inline, lines)


def statements(found: re.Match[str]) -> str:
    """The lines of a rule's formula."""
    shown = "".join(f"<div>{mathml(line.replace(' &', ' '))}</div>" for line in found[1].split(" \\\\\n"))
    return f'<div class="rule-formula" markdown="0">{shown}</div>'


def drawn(html: str) -> str:
    """HTML with its SVG images as elements of the page, whose colours they then follow."""
    return re.sub(
        r'<img style="([^"]*)"[^>]*src="data:image/svg\+xml;base64,([^"]+)"[^>]*>',
        lambda m: base64.b64decode(m[2]).decode().replace("<svg ", f'<svg style="{m[1]}" ', 1),
        html,
    )


def inline(found: re.Match[str]) -> str:
    """A formula in a sentence; in a span, for Markdown takes a line that begins with another tag for a block.

    No line begins with the mark that closes a Chinese sentence: a browser would break there after a formula.
    """
    return (
        "<span>" + mathml(found[1]).replace('displaystyle="true" ', "") + "</span>" + ("&NoBreak;" if found[2] else "")
    )


def flat(html: str) -> str:
    """HTML without empty lines, at which Markdown would end it."""
    return re.sub(r"\n\s*\n", "\n", html)
