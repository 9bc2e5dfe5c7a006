"""`steprule show` prints a rule: its formula, hyperparameters, states and paper, or one of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from steprule import extras, rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import JsonOption, RuleArgument, SetOption
from steprule.cli.commands import rules as listed
from steprule.rules.load import rules_in
from steprule.rules.rule import Rule

if TYPE_CHECKING:
    from steprule.compiler.split import Program
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
        if variant.looks:
            whole["looks"] = {"text": formula.look_text(variant), "latex": formula.look_latex(variant)}
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
    shown = formula.where(variant.graph(), *(look.graph() for look in variant.looks))
    letters = {name: letter for letter, name, _ in shown}
    rows = []
    for h in rule.hypers:
        if h.given is not None:  # no setting
            continue
        values = h.range.removeprefix("a number in ")
        rows.append((h.name, letters.get(h.name, ""), repr(h.default), values, h.meaning))
    table("", ("hyperparameter", "letter", "default", "values", "meaning"), rows, left=(0, 1, 3, 4))
    if rule.states:
        output.say()
        states = [(s.name, letters.get(s.name, ""), s.starts, s.of) for s in rule.states]
        table("", ("state", "letter", "starts at", "one per"), states, left=(0, 1, 2, 3))
    if rule.paper:
        output.say(f"\n{rule.paper}")


def _printed(variant: Variant, form: str) -> str:
    """The rule in one form; before it the points to which it looks, behind it the point of evaluation, where there are such."""
    from steprule.compiler import formula, javascript
    from steprule.compiler.points import point_graph, point_program

    graph, point = variant.graph(), point_graph(variant)
    own = variant.looks[variant.rule.draws :]
    looks = [look.graph() for look in own]
    if form == "text":
        return formula.whole(variant)
    if form == "latex":
        return "\n".join(formula.whole_latex(variant))
    if form == "python":
        points = [formula.point_python(look) for look in looks]
        return "\n\n\n".join(
            [*points, formula.python(graph), *([] if point is None else [formula.point_python(point)])]
        )
    if graph.sizes is not None and form != "javascript":
        return "\n\n".join(_stages_source(one, form) for one in (*own, variant))
    if form == "javascript":
        return "\n\n".join(javascript.source(one) for one in (*looks, graph, point) if one is not None)
    programs = [q for one in (*own, variant) for q in (*one.measurements(), one.program())]
    at_end = point_program(variant)
    return "\n\n".join(_kernel_source(q, form) for q in (*programs, *([] if at_end is None else [at_end])))


def _list(file: str, found: Mapping[str, Rule], *, json: bool) -> None:
    """Print the rules of a file, by the names that show one of them."""
    from steprule.cli import output

    if json:
        output.as_json([listed.record(r) for r in found.values()])
        return
    listed.listing({f"{file}:{name}": r for name, r in found.items()})
    output.say(f"\nOne of them: steprule show {file}:{next(iter(found))}")


def _stages_source(variant: Variant, form: str) -> str:
    """The stages of a rule of matrices, of each way through its ifs on the step: the calls in words, then the kernels of the passes."""
    from steprule.compiler.stages import Staged
    from steprule.errors import InputError
    from steprule.optim.backends import TARGETS

    load = TARGETS[form].of_matrices
    if load is None:
        hint = "On a GPU such a rule runs as torch's own operations; --as numba shows its stages on the CPU."
        raise InputError(f"--as {form}", expected="a rule that asks for no shape", got=variant.rule.name, hint=hint)
    with extras.needed():
        kernel = load()
    program = variant.program()
    assert isinstance(program, Staged)
    head = f"# For a matrix of {' x '.join(map(str, variant.shape or ()))}; another shape may take other stages."
    return f"{head}\n{kernel.of(program, dict.fromkeys(program.columns, 'float32')).source()}"


def _kernel_source(program: Program, form: str) -> str:
    """The float32 kernel as it stands in the cache folder; of Numba's two, the parallel one."""
    from steprule.optim.backends import TARGETS

    with extras.needed():
        kernel = TARGETS[form].load()
    return kernel.of(program, dict.fromkeys(program.columns, "float32")).source()
