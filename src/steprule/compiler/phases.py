"""The phases of a step: a total over all tensors ends one of them, and the next begins when it is known.

A phase adds up what each tensor has for some totals. Then these are numbers like those of the step, known on the host in float64, and
so is what follows from them alone. The last phase is the step itself. Totals have names, their places in the author's code, so that
tensors of other groups, whose switches differ, add to the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from steprule.compiler.graph import Dims, Graph, Kind, Node, Way
from steprule.compiler.refusals import refuse
from steprule.compiler.split import Program, measuring, split
from steprule.compiler.stages import UnstagedError
from steprule.maths import OPERATIONS
from steprule.rules.parts import is_clipping_norm

Arg = Node | float | int | bool
Rounds = tuple[frozenset[str], ...]
"""Totals by their places, in the order in which they can be known: those of a round need the rounds before it."""


def totals_of(graph: Graph) -> dict[str, Node]:
    """The totals that a graph asks for, by place."""
    return {n.place: n for n in graph.live if n.place}


def rounds_of(graphs: Iterable[Graph]) -> Rounds:
    """The rounds in which the totals of some graphs of one rule become known together."""
    return _rounds_of(frozenset(graphs))


@lru_cache(maxsize=1024)
def _rounds_of(graphs: frozenset[Graph]) -> Rounds:
    needs: dict[str, set[str]] = {}
    for graph in graphs:
        for place, own in _needs(graph).items():
            needs.setdefault(place, set()).update(own)
    found: list[frozenset[str]] = []
    known: set[str] = set()
    while len(known) < len(needs):
        ready = frozenset(place for place, own in needs.items() if place not in known and own <= known)
        if not ready:
            hint = "Give the groups the same switches."
            refuse("two totals that each follow from the other in some group", "an order of totals", hint)
        found.append(ready)
        known |= ready
    return tuple(found)


def _needs(graph: Graph) -> dict[str, set[str]]:
    """By place, the totals that each total follows from."""
    above: dict[Node, set[str]] = {}
    found = {}
    for node in graph.live:
        own: set[str] = set()
        for arg in node.args:
            if isinstance(arg, Node):
                own |= above[arg] | ({arg.place} if arg.place else set())
        above[node] = own
        if node.place:
            found[node.place] = own
    return found


def clipping_places(graphs: Iterable[Graph]) -> frozenset[str]:
    """Where some graphs ask for the norm by which gradients are clipped: it is known first, as it follows from no other total."""
    return frozenset(place for places in rounds_of(graphs) for place in places if is_clipping_norm(place))


def stepping(graph: Graph, *, zero_grad: bool = False) -> Program:
    """The last phase: the step, where all totals are known."""
    if not totals_of(graph):
        return split(graph, zero_grad=zero_grad)
    return split(_known(graph, graph.outputs), zero_grad=zero_grad)


def with_totals(graph: Graph) -> Graph:
    """A graph traced for a shape, where all totals are known."""
    if not totals_of(graph):
        return graph
    # All ways at once, so that they have the totals and their ifs in common.
    asked = {f"if {k} {j}": n for k, way in enumerate(graph.ways) for j, n in enumerate(way.answers)}
    outputs = {f"{k} {name}": v for k, way in enumerate(graph.ways) for name, v in way.outputs.items()}
    known = _known(graph, {**graph.outputs, **asked, **outputs})
    ways = []
    for k, way in enumerate(graph.ways):
        answers = {known.outputs[f"if {k} {j}"]: told for j, told in enumerate(way.answers.values())}
        found = {name: known.outputs[f"{k} {name}"] for name in way.outputs}
        ways.append(Way({n: told for n, told in answers.items() if isinstance(n, Node)}, found))
    return replace(known, outputs={n: known.outputs[n] for n in graph.outputs}, ways=ways)


def measurement(graph: Graph, places: Collection[str]) -> Program:
    """The phase in which tensors add to the totals at these places; those that they follow from are known. Nothing is written."""
    parts = {place: node.args[0] for place, node in totals_of(graph).items() if place in places}
    sums: dict[str, Node | float | None] = {
        place: Node("sum", (part,), Kind.REDUCTION) if _is_element(part) else _number(part)
        for place, part in parts.items()
    }
    known = _known(graph, sums)
    if graph.sizes is not None and any(_is_of_shapes(n, graph.dims_of["p"]) for n in known.live):
        raise UnstagedError("a total of what is computed along an axis or of matrices")
    return measuring(split(known))


def _is_of_shapes(node: Node, dims: Dims) -> bool:
    """Whether a pass without regard to rows and columns cannot compute it."""
    return node.kind is Kind.ELEMENT and (node.dims != dims or (node.op != "input" and OPERATIONS[node.op].of_matrices))


def _is_element(arg: Arg) -> bool:
    return isinstance(arg, Node) and arg.kind is Kind.ELEMENT


def _number(arg: Arg) -> Node | float:
    return arg if isinstance(arg, Node) else float(arg)


def _known(graph: Graph, outputs: Mapping[str, Node | float | None]) -> Graph:
    """The graph of these outputs with totals as numbers of the step that are given by place, and so what follows from them alone."""
    whole = replace(
        graph, nodes=[*graph.nodes, *(n for n in outputs.values() if isinstance(n, Node))], outputs=dict(outputs)
    )
    inputs, nodes = dict(graph.inputs), []
    new: dict[Node, Node] = {}
    for node in dict.fromkeys(whole.live):
        if node.op == "input":
            new[node] = node
        elif node.place:
            new[node] = inputs[node.place] = Node("input", (), Kind.SCALAR, node.name or node.op)
        else:
            args = tuple(new[a] if isinstance(a, Node) else a for a in node.args)
            kind = Kind.SCALAR if node.kind is Kind.MODEL else node.kind
            new[node] = replace(node, args=args, kind=kind)
            nodes.append(new[node])
    found = {name: new[v] if isinstance(v, Node) else v for name, v in outputs.items()}
    return replace(graph, inputs=inputs, nodes=nodes, outputs=found)
