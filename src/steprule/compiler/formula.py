"""A rule's formula: text with the code's names, or LaTeX with the paper's letters, printed from its graph.

Each quantity that the author named is a line of its own. What has no name stands where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from steprule.compiler.formula_latex import LatexPrinter, PointPrinter
from steprule.compiler.formula_text import TextPrinter
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.points import point_graph
from steprule.compiler.statements import Line, StatementPrinter
from steprule.compiler.variant import Variant


def text(graph: Graph) -> str:
    """The formula with the code's names, one statement a line; it runs as Python with `steprule.maths` in scope.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(text(trace(rules.rmsprop_eps_inside)))
    square_avg = alpha * square_avg + (1 - alpha) * g * g
    p = p - lr * g / sqrt(square_avg + eps)
    """
    return "\n".join(f"{line.left} = {line.right}" for line in TextPrinter(graph).lines())


def expression(graph: Graph, node: Node) -> str:
    """One quantity of the graph with the code's names: `1 - beta1**t`."""
    return TextPrinter(graph).expression(node)


def python(graph: Graph) -> str:
    """The variant as a Python function on numbers of any kind, with `steprule.maths` in scope.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(python(trace(rules.sgd)))
    def sgd(p, g, *, lr):
        p = p - lr * g
        return p
    """
    slots = [s.name for s in graph.rule.slots if s.name in graph.inputs]
    return _function(graph, ["p", "g", *slots], [name for name, value in graph.outputs.items() if value is not None])


def point_python(graph: Graph) -> str:
    """A point of evaluation, or one to which a step looks, from its own graph, as such a function, which gives the point alone."""
    live = set(graph.live)
    named = ["g", *(s.name for s in graph.rule.slots)]
    return _function(graph, ["p", *(n for n in named if graph.inputs.get(n) in live)], ["p"])


def _function(graph: Graph, arguments: Sequence[str], results: Sequence[str]) -> str:
    live, known = set(graph.live), {"p", "g", *(s.name for s in graph.rule.slots)}
    shape = graph.values_of_shape  # `rows(p)` is written where it is used
    hypers = [n for n, node in graph.inputs.items() if n not in known and n not in shape and node in live]
    head = f"def {graph.rule.name}({', '.join([*arguments, *(['*', *hypers] if hypers else [])])}):"
    lines = text(graph).splitlines()
    modules = ["from steprule import maths", ""] if any("maths." in line for line in lines) else []
    return "\n".join([*modules, head, *(f"    {line}" for line in lines), f"    return {', '.join(results)}"])


def latex(graph: Graph) -> list[str]:
    """The formula in LaTeX with the paper's letters, one statement an entry."""
    signs = {True: r"\leftarrow", False: "="}
    printer = LatexPrinter(graph)
    return [*(f"{line.left} {signs[line.again]} {line.right}" for line in printer.lines()), *printer.definitions()]


EVALUATED = "evaluated at"
"""What stands before the point at which the model is read."""


def point_text(graph: Graph) -> str:
    """The point of evaluation, from its own graph, with the code's names; what it is computed from stands in lines before it.

    >>> from steprule import rules
    >>> from steprule.compiler.points import point_graph
    >>> from steprule.compiler.variant import variant_of
    >>> rule = rules.schedule_free_sgd
    >>> print(point_text(point_graph(variant_of(rule, rule.defaults))))
    evaluated at: lerp(p, z, 1 - 1 / momentum)
    """
    lines, point = _point(TextPrinter(graph))
    return "\n".join([*(f"{line.left} = {line.right}" for line in lines), f"{EVALUATED}: {point}"])


def point_latex(graph: Graph) -> list[str]:
    """The same in LaTeX with the paper's letters, one statement an entry."""
    lines, point = _point(PointPrinter(graph))
    return [*(f"{line.left} = {line.right}" for line in lines), rf"\text{{{EVALUATED}: }} {point}"]


def point_letters(graph: Graph) -> str:
    """The point alone in LaTeX, without words."""
    return _point(PointPrinter(graph))[1]


def whole(variant: Variant) -> str:
    """The formula of a variant's step: behind what it sees where it looks, and before the point at which its model is read."""
    point = point_graph(variant)
    return "\n".join([*look_text(variant), text(variant.graph()), *([] if point is None else [point_text(point)])])


def whole_latex(variant: Variant) -> list[str]:
    """The same in LaTeX, one statement an entry."""
    point = point_graph(variant)
    return [
        *chain.from_iterable(look_latex(variant)),
        *latex(variant.graph()),
        *([] if point is None else point_latex(point)),
    ]


def look_text(variant: Variant) -> list[str]:
    """The noise that a step draws; then, by look that it takes, what it sees, and the point, with the code's names.

    What a point is computed from stands in lines before it.

    >>> from steprule import rules
    >>> from steprule.compiler.variant import variant_of
    >>> rule = rules.sam(rules.sgd)
    >>> look_text(variant_of(rule, rule.defaults))
    ['gradient = the gradient at: p + sam_rho * g / (sqrt(total(g**2)) + 1e-12)']
    """
    drawn, draws = _drawn(variant)
    found = [f"{name} ~ N(0, 1), a draw for each element" for name in drawn]
    for name, look in zip(variant.rule.looked[draws:], variant.looks[draws:], strict=False):
        lines, point = _point(TextPrinter(look.graph()))
        found += [*(f"{line.left} = {line.right}" for line in lines), f"{name} = the gradient at: {point}"]
    return found


def supplied(variant: Variant) -> list[str]:
    """By entry of `look_latex` the name of what the step is given."""
    drawn, draws = _drawn(variant)
    return [*drawn, *variant.rule.looked[draws : len(variant.looks)]]


def _drawn(variant: Variant) -> tuple[list[str], int]:
    """The noise that a step or one of its looks reads, by name; and how often the rule draws at all."""
    draws = variant.rule.draws
    graphs = [variant.graph(), *(look.graph() for look in variant.looks[draws:])]
    read = {node.name for graph in graphs for node in graph.live if node.op == "input"}
    return [name for name in variant.rule.looked[:draws] if name in read], draws


def look_latex(variant: Variant) -> list[list[str]]:
    """The same in LaTeX with the paper's letters: per look one statement per entry, and last what it sees."""
    drawn, draws = _drawn(variant)
    letters = LatexPrinter(variant.graph())
    found = [[rf"{letters.seen(name)} \sim N\left(0, 1\right)"] for name in drawn]
    for name, look in zip(variant.rule.looked[draws:], variant.looks[draws:], strict=False):
        printer = LatexPrinter(look.graph())
        lines, point = _point(printer)
        seen = rf"{printer.seen(name)} = \nabla f\left({point}\right)"
        found.append([*(f"{line.left} = {line.right}" for line in lines), seen])
    return found


def _point(printer: StatementPrinter) -> tuple[list[Line], str]:
    """The statements before the point, and the point itself."""
    point = printer.graph.outputs["p"]
    if not isinstance(point, Node):
        return [], printer.number(float(point or 0.0))
    if point.op == "input":
        return [], printer.name(point)
    before = [node for node in printer.statements if node is not point]
    return [Line(printer.defined(node), printer.expression(node)) for node in before], printer.expression(point)


def where(graph: Graph, *looks: Graph) -> list[tuple[str, str, str]]:
    """What each letter stands for: (LaTeX, the code's name, the meaning), for p, g, the slots and hyperparameters.

    `looks` are the graphs of the points to which the step looks.
    """
    printer = LatexPrinter(graph)
    rows = [(r"\theta", "p", "parameter"), ("g_t", "g", "gradient")]
    rows += [
        (printer.letters[s.name], s.name, f"state, {'' if s.absent_at_first else 'starts at '}{s.starts}")
        for s in graph.rule.states
        if s.name in graph.inputs
    ]
    live = {n.name for g in (graph, *looks) for n in g.live if n.op == "input"}
    supplied = "a standard normal number for each element", "gradient at the point to which the step looks"
    rows += [
        (printer.seen(n), n, supplied[k >= graph.rule.draws])
        for k, n in enumerate(graph.rule.looked)
        if n in (live if k < graph.rule.draws else graph.inputs)
    ]
    rows += [(printer.letters[h.name], h.name, h.meaning) for h in graph.rule.hypers if h.name in live]
    return rows


def inputs(graph: Graph) -> dict[str, str]:
    """What goes into a step, by the code's names, as LaTeX, each with its index t-1 or t."""
    printer = LatexPrinter(graph)
    return {name: printer.name(node) for name, node in graph.inputs.items()}


def parts(graph: Graph) -> list[tuple[Node, str, str, str]]:
    """Each statement, and before it each unnamed number that its elements share: (node, code's name, left, right in LaTeX)."""
    latex, names = LatexPrinter(graph), TextPrinter(graph)
    read = {a for n in graph.live if n.kind is not Kind.SCALAR for a in n.args if isinstance(a, Node)}
    shared = {n for n in read if n.kind is Kind.SCALAR and n.op != "input"} - set(latex.statements)
    found = []
    for node in graph.live:
        if node in shared:
            found.append((node, names.expression(node), "", latex.expression(node)))
        elif node in latex.called:
            found.append((node, latex.called[node], latex.defined(node), latex.expression(node)))
    return found + [(v, name, line.left, line.right) for name, v, line in latex.handed_on() if isinstance(v, Node)]
