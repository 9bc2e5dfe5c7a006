"""`steprule show` prints a rule: its formula, hyperparameters, states and paper, or one of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from steprule import extras
from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import JsonOption, RuleArgument, SetOption
from steprule.cli.commands import rules as listed
from steprule.rules.load import rules_in
from steprule.rules.rule import Rule

if TYPE_CHECKING:
    from steprule.compiler.graph import Graph
    from steprule.compiler.variant import Variant


def show(
    rule: RuleArgument,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="FORM",
            help=f"Only the rule, as {', '.join(completion.FORMS)}.",
            autocompletion=completion.one_of(*completion.FORMS),
        ),
    ] = "",
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print a rule: formula, hyperparameters, states, paper.

    --set chooses the variant: --set amsgrad=true. A file with several rules gives their list.
    """
    from steprule.cli import options, output
    from steprule.compiler import formula
    from steprule.compiler.points import point_graph
    from steprule.compiler.variant import variant_of
    from steprule.errors import unknown_name
    from steprule.rules.parts import composed

    if form not in ("", *completion.FORMS):
        raise unknown_name("form", form, completion.FORMS, where=" for --as")
    in_file = rules_in(Path(rule)) if rule.endswith(".py") and not form and not settings else {}
    if len(in_file) > 1:
        _list(rule, in_file, json=json)
        return
    found = composed(next(iter(in_file.values()), None) or catalogue.resolve(rule))
    bound = found.bind(options.settings_for([options.walker_of(found, rule)], settings or [])[0])
    variant = variant_of(found, bound)
    graph, point = variant.graph(), point_graph(variant)
    if json:
        whole: dict[str, object] = {"text": formula.text(graph), "latex": formula.latex(graph)}
        if point is not None:
            whole["evaluated"] = {"text": formula.point_text(point), "latex": formula.point_latex(point)}
        output.as_json({**listed.record(found), "formula": whole})
    elif form:
        output.say(_printed(variant, form))
    else:
        _explain(found, variant)


def _explain(rule: Rule, variant: Variant) -> None:
    """Everything about a rule: its formula twice, what its letters are, its paper."""
    from steprule.cli import output
    from steprule.cli.tables import table
    from steprule.compiler import formula

    output.say(f"{rule.name}: {rule.summary}\n")
    output.say(indent(formula.whole(variant), "    "))
    output.say()
    output.say(indent("\n".join(formula.whole_latex(variant)), "    "))
    output.say()
    letters = {name: letter for letter, name, _ in formula.where(variant.graph())}
    rows = []
    for h in rule.hypers:
        values = h.range.removeprefix("a number in ")
        rows.append((h.name, letters.get(h.name, ""), repr(h.default), values, h.meaning))
    table("", ("hyperparameter", "letter", "default", "values", "meaning"), rows, left=(0, 1, 3, 4))
    if rule.slots:
        output.say()
        states = [(s.name, letters.get(s.name, ""), s.starts, s.of) for s in rule.slots]
        table("", ("state", "letter", "starts at", "one per"), states, left=(0, 1, 2, 3))
    if rule.paper:
        output.say(f"\n{rule.paper}")


def _printed(variant: Variant, form: str) -> str:
    """The rule in one form; behind it the point of evaluation where there is one."""
    from steprule.compiler import formula, javascript
    from steprule.compiler.points import point_graph

    graph, point = variant.graph(), point_graph(variant)
    if form == "text":
        return formula.whole(variant)
    if form == "latex":
        return "\n".join(formula.whole_latex(variant))
    if form == "python":
        return "\n\n\n".join([formula.python(graph), *([] if point is None else [formula.point_python(point)])])
    printed = javascript.source if form == "javascript" else partial(_kernel_source, form=form)
    return "\n\n".join(printed(own) for own in (graph, point) if own is not None)


def _list(file: str, found: Mapping[str, Rule], *, json: bool) -> None:
    """Print the rules of a file, by the names that show one of them."""
    from steprule.cli import output

    if json:
        output.as_json([listed.record(r) for r in found.values()])
        return
    listed.listing({f"{file}:{name}": r for name, r in found.items()})
    output.say(f"\nOne of them: steprule show {file}:{next(iter(found))}")


def _kernel_source(graph: Graph, form: str) -> str:
    """The float32 kernel as it stands in the cache folder; of Numba's two, the parallel one."""
    from steprule.compiler.split import split
    from steprule.optim.backends import TARGETS

    with extras.needed():
        kernel = TARGETS[form].load()
    program = split(graph)
    return kernel.of(program, dict.fromkeys(program.columns, "float32")).source()
