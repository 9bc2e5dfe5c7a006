"""Slips in what a rule keeps from step to step: averages, states, weight decay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from steprule.checking.places import Places, Slip, first, one, operation, second
from steprule.checking.probe import RATES, Formula
from steprule.checking.rewriting import (
    Arg,
    Copy,
    below,
    changed,
    contains,
    is_element,
    is_one,
    is_op,
    named,
    node_of,
    with_outputs,
)
from steprule.compiler.graph import Graph, Node

_DECAY = "weight_decay"


def averages(places: Places) -> Iterator[Slip]:
    """Decays exchanged with each other, or with their complements."""
    for a, b in itertools.combinations(places.decays, 2):
        yield f"{a} and {b} exchanged", _exchanged_decays(places, a, b)
        yield from _in_averages_or_corrections(places, a, b)
    for name in places.decays:
        yield from _of_one_decay(places, name)


def _exchanged_decays(places: Places, a: str, b: str) -> Formula:
    def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
        if named(node, a):
            return copy.inputs[b]
        if named(node, b):
            return copy.inputs[a]
        return None

    return changed(places.formula, change)


def _of_one_decay(places: Places, name: str) -> Iterator[Slip]:
    """A factor `name` or `1 - name` that is missing, or stands in the other's place."""
    rests = [n for n in places.nodes if n.op == "sub" and is_one(n.args[0]) and named(n.args[1], name)]
    kept = [n for n in places.nodes if n.op == "mul" and is_element(n) and any(named(a, name) for a in n.args)]

    def without(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        return args[1] if named(node.args[0], name) else args[0]

    def turned(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        if node.op == "sub":
            return args[1]
        factor = args[0] if named(node.args[0], name) else args[1]
        return copy.add("mul", copy.add("sub", 1.0, factor), without(copy, node, args))

    if rests:
        yield f"{name} in place of 1 - {name}", places.rewritten(rests, second)
        yield f"the factor 1 - {name} is missing", places.rewritten(rests, one)
    if rests and kept:
        yield f"{name} and 1 - {name} exchanged", places.rewritten([*rests, *kept], turned)
    if kept:
        yield f"the factor {name} is missing", places.rewritten(kept, without)


def _in_averages_or_corrections(places: Places, a: str, b: str) -> Iterator[Slip]:
    """Two decays mistaken for each other in some places only."""
    corrections = {places.text[node_of(n.args[1])] for n in places.corrections}

    def swap(pairs: dict[str, str], *, corrected: bool) -> Formula:
        def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
            if node.op not in ("mul", "sub", "pow") or (places.text[node] in corrections) is not corrected:
                return None
            new = list(args)
            for k, arg in enumerate(node.args):
                if named(arg, *pairs):
                    new[k] = copy.inputs[pairs[arg.name or ""]]
            return copy.add(node.op, *new, name=node.name) if new != list(args) else None

        return changed(places.formula, change)

    both = {a: b, b: a}
    if corrections:
        yield f"{a} and {b} exchanged in the averages", swap(both, corrected=False)
        yield f"{a} and {b} exchanged in the bias corrections", swap(both, corrected=True)
    yield f"{a} in place of {b} in the average", swap({b: a}, corrected=False)
    yield f"{b} in place of {a} in the average", swap({a: b}, corrected=False)


def states(places: Places) -> Iterator[Slip]:
    """States that are not kept, used too early, made of something else, or returned in another order."""
    yield "p is returned unchanged", with_outputs(places.formula, lambda graph: {"p": graph.inputs["p"]})
    new = places.formula.stages[-1].outputs
    changing = [s for s in places.slots if isinstance(new[s], Node) and not is_op(new[s], "input")]
    if len(changing) > 1:
        late = _in_p(places, {slot: slot for slot in changing})
        yield f"the step uses {' and '.join(changing)} from before their updates", late
    for slot in changing:
        yield from _of_one_state(places, slot, changing)
    yield from _in_another_order(places)


def _of_one_state(places: Places, slot: str, changing: Sequence[str]) -> Iterator[Slip]:
    """One state that is not kept, used too early, or made of something else."""
    forgotten = changed(places.formula, lambda copy, node, args: 0.0 if named(node, slot) else None)
    yield f"nothing is added up in {slot}: it is this step's alone", forgotten
    for other in changing:
        if other != slot:
            yield f"{slot} is made of {other}, not of g", _made_of(places, slot, other)
    new = places.formula.stages[-1].outputs[slot]
    if is_op(new, "add"):
        yield f"a minus in place of the plus in {slot}", places.rewritten([new], operation("sub", named=True))
    # A slot that is absent at this stage stays absent.
    kept = with_outputs(places.formula, lambda graph: {slot: graph.inputs.get(slot)})
    yield f"the new {slot} is not returned: it stays as it started", kept
    yield f"the step uses {slot} from before its update", _in_p(places, {slot: slot})
    yield f"the step uses g, not {slot}", _in_p(places, {slot: "g"})


def _in_another_order(places: Places) -> Iterator[Slip]:
    """Results in the wrong order: three or more of them, or two exchanged."""
    names = ["p", *places.slots]

    def ordered(pairs: Mapping[str, str]) -> Formula:
        return with_outputs(places.formula, lambda graph: {n: graph.outputs[other] for n, other in pairs.items()})

    orders = itertools.permutations(names) if 2 < len(names) < 5 else ()
    for order in orders:
        moved = {name: other for name, other in zip(names, order, strict=True) if name != other}
        if len(moved) > 2:
            yield f"the results are returned in the order {', '.join(order)}", ordered(moved)
    for a, b in itertools.combinations(names, 2):
        yield f"{a} and {b} are returned in each other's place", ordered({a: b, b: a})


def _made_of(places: Places, slot: str, other: str) -> Formula:
    """The formula whose new slot is computed from another new slot in place of the gradient."""

    def stage(graph: Graph) -> Graph:
        new, source = graph.outputs[slot], graph.outputs[other]
        if not isinstance(new, Node) or not isinstance(source, Node) or contains(source, slot):
            return graph
        own = below(new) - below(source)

        def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
            if node not in own or source not in copy.copies or not any(named(a, "g") for a in node.args):
                return None
            made = [copy.copies[source] if named(a, "g") else b for a, b in zip(node.args, args, strict=True)]
            return copy.add(node.op, *made, name=node.name)

        return Copy(graph, change).graph

    return replace(places.formula, stages=tuple(map(stage, places.formula.stages)))


def _in_p(places: Places, others: Mapping[str, str]) -> Formula:
    """The formula whose new p is computed from inputs in place of new slots, by the slots' names."""

    def stage(graph: Graph) -> Graph:
        inputs: dict[Node, Node] = {}
        for slot, name in others.items():
            new, old = graph.outputs[slot], graph.inputs.get(name)
            if isinstance(new, Node) and old is not None:
                inputs[new] = old
        copied = Copy(graph, lambda copy, node, args: inputs.get(node)).graph
        nodes = [*graph.nodes, *(n for n in copied.nodes if n not in graph.nodes)]
        return replace(graph, nodes=nodes, outputs={**graph.outputs, "p": copied.outputs["p"]})

    return replace(places.formula, stages=tuple(map(stage, places.formula.stages)))


def weight_decay(places: Places) -> Iterator[Slip]:
    """Weight decay that is missing, goes the other way, has the wrong sign or no learning rate."""
    products = [n for n in places.nodes if n.op == "mul" and named(n.args[0], "p")]
    shrunk = [n for n in products if is_op(n.args[1], "sub") and contains(n.args[1], _DECAY)]
    added = [n for n in places.nodes if n.op == "add" and named(n.args[0], "g") and _is_decay_of_p(n.args[1])]
    if shrunk or added:
        yield "no weight decay", places.rewritten([*shrunk, *added], first)
    if shrunk:
        yield from _decay_beside(places, shrunk)
    if added:
        yield from _decay_in_gradient(places, added)


def _is_decay_of_p(arg: Arg) -> bool:
    return is_op(arg, "mul") and any(named(a, _DECAY) for a in arg.args) and any(named(a, "p") for a in arg.args)


def _decay_beside(places: Places, shrunk: Sequence[Node]) -> Iterator[Slip]:
    """Slips where p itself shrinks, beside the gradient."""
    texts = {places.text[n] for n in shrunk}

    def through(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
        if named(node, "g"):
            return copy.add("add", node, copy.add("mul", copy.inputs[_DECAY], copy.inputs["p"]))
        return args[0] if places.text[node] in texts else None

    def without_rate(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        return copy.add("mul", args[0], copy.add("sub", 1.0, copy.inputs[_DECAY]))

    yield "weight decay goes through the gradient, not beside it", changed(places.formula, through)
    yield "weight decay without the learning rate", places.rewritten(shrunk, without_rate)


def _decay_in_gradient(places: Places, added: Sequence[Node]) -> Iterator[Slip]:
    """Slips where weight decay is added to the gradient."""
    texts = {places.text[n] for n in added}
    rate = next((n.name for n in places.nodes if named(n, *RATES)), None)

    def stage(graph: Graph) -> Graph:
        copied = Copy(graph, lambda copy, node, args: args[0] if places.text[node] in texts else None)
        new = copied.graph.outputs["p"]
        if not isinstance(new, Node) or new.op != "sub" or not named(new.args[0], "p"):
            return copied.graph
        share = copied.add("sub", 1.0, copied.add("mul", graph.inputs[rate or ""], graph.inputs[_DECAY]))
        stepped = copied.add("sub", copied.add("mul", new.args[0], share), new.args[1])
        return replace(copied.graph, outputs={**copied.graph.outputs, "p": stepped})

    if rate is not None:
        beside = replace(places.formula, stages=tuple(map(stage, places.formula.stages)))
        yield "weight decay goes beside the gradient, not through it", beside
    yield "weight decay with the wrong sign", places.rewritten(added, operation("sub"))
