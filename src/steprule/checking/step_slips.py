"""Slips in how the step is computed: bias correction, epsilon, squares, roots, signs, the step number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from steprule.checking.places import Places, Slip, all_and_each, first, one, operation, second
from steprule.checking.probe import EPSILONS, RATES, Formula
from steprule.checking.rewriting import Arg, Change, Copy, is_element, is_op, named, node_of, with_outputs
from steprule.compiler.graph import Graph, Node


def bias(places: Places) -> Iterator[Slip]:
    """Bias corrections that are missing, or wrong in their power."""
    if not places.corrections:
        return
    powers = [node_of(node.args[1]) for node in places.corrections]

    def decay(power: Node) -> str:
        return places.said(node_of(power.args[0]))

    yield "no bias correction", places.rewritten(places.corrections, one)
    for node, power in zip(places.corrections, powers, strict=True):
        yield f"no bias correction by 1 - {decay(power)}**t", places.rewritten([node], one)
    for nodes in all_and_each(powers):
        names = " and ".join(map(decay, nodes))
        yield f"bias correction without the power t of {names}", places.rewritten(nodes, first)
        by_t = places.rewritten(nodes, operation("mul"))
        yield f"{names} times t, not to the power t, in the bias correction", by_t
    for node in places.nodes:
        if node.op != "div" or node.args[1] not in places.corrections:
            continue
        for slot in places.slots:
            if node.args[0] is places.formula.stages[-1].outputs[slot]:
                yield f"the corrected {slot} is kept as the state", _kept(places, slot, node)
                break


def _kept(places: Places, slot: str, node: Node) -> Formula:
    """The formula whose new slot is what this operation gives."""
    text = places.text[node]

    def outputs(graph: Graph) -> dict[str, Node | float | None]:
        return {slot: next(n for n in graph.live if places.text[n] == text)}

    return with_outputs(places.formula, outputs)


def epsilon(places: Places) -> Iterator[Slip]:
    """Epsilons that stand elsewhere, or nowhere."""
    sums = [n for n in places.nodes if n.op == "add" and any(named(a, *EPSILONS) for a in n.args)]
    for node in sums:
        yield from _epsilon_moved(places, node)
    if sums:
        yield "epsilon is added to the new p: brackets are missing", _epsilon_behind_p(places, sums)
    for nodes in all_and_each(sums):
        alone = len(nodes) < len(sums)
        where = f" in {places.said(nodes[0])}" if alone else ""
        yield f"no epsilon{where}", places.rewritten(nodes, _without_epsilon)


def _without_epsilon(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
    return args[0] if named(node.args[1], *EPSILONS) else args[1]


def _epsilon_moved(places: Places, node: Node) -> Iterator[Slip]:
    """One sum with an epsilon: inside the root, before the bias correction, outside the root, after the division."""
    at = (
        0 if named(node.args[0], *EPSILONS) else 1
    )  # the place of the epsilon; the other argument is what it is added to
    rest = node.args[1 - at]

    def inside(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        return copy.add("sqrt", copy.add("add", node_of(args[1 - at]).args[0], args[at]))

    def before(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        quotient = node_of(node_of(args[1 - at]).args[0])
        root = copy.add("add", copy.add("sqrt", quotient.args[0]), args[at])
        return copy.add("div", root, copy.add("sqrt", quotient.args[1]))

    def inside_before(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        quotient = node_of(node_of(args[1 - at]).args[0])
        total = copy.add("add", quotient.args[0], args[at])
        return copy.add("sqrt", copy.add("div", total, quotient.args[1]))

    def outside(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        inner = node_of(args[0])
        return copy.add("add", copy.add("sqrt", inner.args[1 - at]), inner.args[at])

    def behind(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        below = node_of(args[1])
        return copy.add("add", copy.add("div", args[0], below.args[1 - at]), below.args[at])

    if is_op(rest, "sqrt") and is_element(rest):
        yield "epsilon inside the root", places.rewritten([node], inside)
        inner = rest.args[0]
        if is_op(inner, "div") and inner.args[1] in places.corrections:
            yield "epsilon added before the bias correction", places.rewritten([node], before)
            yield "epsilon inside the root, before the bias correction", places.rewritten([node], inside_before)
    roots = [n for n in places.nodes if n.op == "sqrt" and n.args[0] is node]
    if roots:
        yield "epsilon outside the root", places.rewritten(roots, outside)
    quotients = [n for n in places.nodes if n.op == "div" and n.args[1] is node]
    if quotients:
        yield "epsilon added to the quotient, not to its denominator", places.rewritten(quotients, behind)


def _epsilon_behind_p(places: Places, sums: Sequence[Node]) -> Formula:
    """The formula with the epsilon of these sums added to p at the end."""
    eps = next(a.name for n in sums for a in n.args if named(a, *EPSILONS))
    without = places.rewritten(sums, _without_epsilon)

    def stage(graph: Graph) -> Graph:
        p = graph.outputs["p"]
        if not isinstance(p, Node) or eps not in graph.inputs:
            return graph
        end = Node("add", (p, graph.inputs[eps]), p.kind)
        return replace(graph, nodes=[*graph.nodes, end], outputs={**graph.outputs, "p": end})

    return replace(without, stages=tuple(map(stage, without.stages)))


def squares_and_roots(places: Places) -> Iterator[Slip]:
    """Squares and roots that are missing, and doubles in place of squares."""
    for node in places.nodes:
        if node.op != "mul" or not is_element(node):
            continue
        a, b = node.args
        if not isinstance(b, Node):
            continue
        if a is b:
            base, write = 1, second
        elif is_op(a, "mul") and b in a.args and is_element(b):  # (x * b) * b
            base, write = 0, first
        else:
            continue
        yield f"{places.said(b)} is not squared", places.rewritten([node], write)
        yield f"2 * {places.said(b)}, not its square", places.rewritten([node], _doubled(base))
    roots = [n for n in places.nodes if n.op == "sqrt" and is_element(n)]
    for nodes in all_and_each(roots):
        alone = len(nodes) < len(roots)
        of = f" of {places.said(node_of(nodes[0].args[0]))}" if alone else ""
        yield f"no square root{of}", places.rewritten(nodes, first)


def _doubled(place: int) -> Change:
    def write(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        return copy.add("mul", 2.0, args[place])

    return write


def step(places: Places) -> Iterator[Slip]:
    """The step's sign, what is returned in its place, divisions and learning rates."""
    new = [g.outputs["p"] for g in places.formula.stages]
    steps = [n for n in new if is_op(n, "sub") and is_element(n)]
    if steps:

        def negated(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
            return copy.add("neg", args[1])

        yield "the sign of the step is reversed: it goes up", places.rewritten(steps, operation("add"))
        yield "the step is returned, not the new p", places.rewritten(steps, second)
        yield "the step is returned with a minus, not the new p", places.rewritten(steps, negated)
    for node in places.nodes:
        if node.op == "div" and is_element(node) and isinstance(node.args[1], Node):
            times = places.rewritten([node], operation("mul", named=True))
            yield f"multiplied by {places.said(node.args[1])}, not divided", times
    for name in RATES:
        rate = [n for n in places.nodes if named(n, name)]
        if not rate:
            continue
        yield "no learning rate", places.rewritten(rate, one)

        def twice(copy: Copy, node: Node, args: tuple[Arg, ...], name: str = name) -> Arg:
            return copy.add("sub", args[0], copy.add("mul", copy.inputs[name], args[1]))

        yield "the learning rate counts twice", places.rewritten(steps, twice)


def counting(places: Places) -> Iterator[Slip]:
    """The step number counted from elsewhere."""
    t = [n for n in places.nodes if named(n, "t")]
    for op, begin in (("sub", 0), ("add", 2)):

        def counted(copy: Copy, node: Node, args: tuple[Arg, ...], op: str = op) -> Arg:
            return copy.add(op, node, 1.0)

        if t:
            yield f"the steps are counted from {begin}, not from 1", places.rewritten(t, counted)


def functions(places: Places) -> Iterator[Slip]:
    """Absolute values, signs and maxima that are missing."""
    for node in places.nodes:
        if node.op in ("abs", "sign") and is_element(node):
            what = "absolute value" if node.op == "abs" else "sign"
            yield f"no {what} of {places.said(node_of(node.args[0]))}", places.rewritten([node], first)
    for node in places.nodes:
        if node.op == "maximum" and is_element(node):
            yield "no maximum: the second of the two", places.rewritten([node], second)
            yield "a sum in place of the maximum", places.rewritten([node], operation("add"))
