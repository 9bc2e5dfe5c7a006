"""`steprule show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from steprule import extras
from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import JsonOption, RuleArgument, SetOption
from steprule.cli.commands import rules as listed
from steprule.rules.load import rules_in
from steprule.rules.rule import Rule


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

    --set chooses the variant: --set amsgrad=true. Of a file with several rules: their list.
    """
    from steprule.cli import options, output
    from steprule.cli.tables import table
    from steprule.compiler import formula
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
    bound = found.bind(options.settings_for([options.taker_of(found, rule)], settings or [])[0])
    graph = variant_of(found, bound).graph()
    text, latex = formula.text(graph), formula.latex(graph)
    if json:
        output.as_json({**listed.record(found), "formula": {"text": text, "latex": latex}})
        return
    if form:
        from steprule.compiler import javascript

        printed = {"text": text, "latex": "\n".join(latex), "python": formula.python(graph)}
        printed["javascript"] = javascript.source(graph)
        output.say(printed[form] if form in printed else _kernel_source(graph, form))
        return
    output.say(f"{found.name}: {found.summary}\n")
    output.say("\n".join(f"    {line}" for line in text.splitlines()))
    output.say()
    output.say("\n".join(f"    {line}" for line in latex))
    letters = {name: letter for letter, name, _ in formula.where(graph)}
    output.say()
    shown = [
        (h.name, letters.get(h.name, ""), repr(h.default), h.range.removeprefix("a number in "), h.meaning)
        for h in found.hypers
    ]
    table("", ("hyperparameter", "letter", "default", "values", "meaning"), shown, left=(0, 1, 3, 4))
    if found.slots:
        output.say()
        held = [
            (s.name, letters.get(s.name, ""), s.starts, "tensor" if s.per_tensor else "element") for s in found.slots
        ]
        table("", ("state", "letter", "starts at", "one per"), held, left=(0, 1, 2, 3))
    if found.paper:
        output.say(f"\n{found.paper}")


def _list(file: str, found: Mapping[str, Rule], *, json: bool) -> None:
    """The rules of a file, by the names that show one of them."""
    from steprule.cli import output

    if json:
        output.as_json([listed.record(r) for r in found.values()])
        return
    listed.listing({f"{file}:{name}": r for name, r in found.items()})
    output.say(f"\nOne of them: steprule show {file}:{next(iter(found))}")


def _kernel_source(graph: Any, form: str) -> str:
    """The kernel for float32, Numba's parallel one, as it stands in the cache folder."""
    from steprule.compiler.split import split
    from steprule.optim.backends import compiler_of

    with extras.needed():
        compiler = compiler_of("triton" if form == "triton" else "numba")
    program = split(graph)
    return compiler.source_of(program, ["float32"] * len(program.columns), "float32")
