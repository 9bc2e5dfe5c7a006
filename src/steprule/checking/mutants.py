"""Known slips: what pupils and ports get wrong, made of a rule's graph by changing one operation at a time.

Nothing here knows a rule by name. Each slip is a pattern in the graph (a bias correction is `1 - x**t`, an average has a `1 - decay`)
and what is written in its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from annotated_types import Lt

from steprule.checking.probe import EPSILONS, RATES, Formula
from steprule.checking.rewriting import (
    Arg,
    Change,
    Copy,
    below,
    changed,
    contains,
    is_element,
    is_one,
    is_op,
    named,
    node_of,
    spelled_out,
    text_in,
    text_of,
    with_outputs,
)
from steprule.compiler.formula import expression
from steprule.compiler.graph import Graph, Node

_DECAY = "weight_decay"


@dataclass(frozen=True)
class Mutant:
    """A rule with a slip in it, and the slip in a pupil's words."""

    words: str
    formula: Formula


def mutants(formula: Formula) -> Iterator[Mutant]:
    """Each slip that the formula has room for, the commonest first; no two give the same formula."""
    ground = spelled_out(formula)
    seen = {text_of(ground)}
    for words, found in _Slips(ground).all():
        text = text_of(found)
        if text not in seen:
            seen.add(text)
            yield Mutant(words, found)


class _Slips:
    """The slips of one formula. A place is known by its text, so that all stages are changed alike."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula
        self.text: dict[Node, str] = {}
        self.places: dict[str, Node] = {}
        for graph in formula.stages:
            for node in graph.live:
                self.text[node] = text_in(node, self.text)
                self.places.setdefault(self.text[node], node)
        self.nodes = list(self.places.values())
        rule = formula.rule
        used = {n.name for n in self.nodes if n.op == "input"}
        numbers = [h for h in rule.hypers if not h.is_plain and h.name in used]
        self.decays = [h.name for h in numbers if any(isinstance(b, Lt) and b.lt == 1 for b in h.bounds)]
        self.slots = [s.name for s in rule.slots if s.name in formula.slots and not s.per_tensor]
        self.corrections = [
            n
            for n in self.nodes
            if n.op == "sub" and is_one(n.args[0]) and is_op(n.args[1], "pow") and named(n.args[1].args[1], "t")
        ]

    def all(self) -> Iterator[tuple[str, Formula]]:
        """(words, formula) of each."""
        yield from self._bias()
        yield from self._epsilon()
        yield from self._squares_and_roots()
        yield from self._step()
        yield from self._averages()
        yield from self._states()
        yield from self._weight_decay()
        yield from self._counting()
        yield from self._functions()

    def said(self, node: Node) -> str:
        """A quantity by the author's name for it, else as it is written."""
        return node.name or expression(next(g for g in reversed(self.formula.stages) if node in g.live), node)

    def _at(self, nodes: Sequence[Node], write: Change) -> Formula:
        """The formula with something else at these places."""
        places = {self.text[n] for n in nodes}
        return changed(
            self.formula, lambda copy, node, args: write(copy, node, args) if self.text[node] in places else None
        )

    def _bias(self) -> Iterator[tuple[str, Formula]]:
        def by(node: Node) -> str:
            return self.said(node_of(node_of(node.args[1]).args[0]))

        if not self.corrections:
            return
        yield "no bias correction", self._at(self.corrections, lambda copy, node, args: 1.0)
        for node in self.corrections:
            yield f"no bias correction by 1 - {by(node)}**t", self._at([node], lambda copy, node, args: 1.0)
        powers = [node_of(node.args[1]) for node in self.corrections]
        for nodes in ([powers] if len(powers) > 1 else []) + [[power] for power in powers]:
            names = " and ".join(self.said(node_of(n.args[0])) for n in nodes)
            yield f"bias correction without the power t of {names}", self._at(nodes, lambda copy, node, args: args[0])
            by_t = self._at(nodes, lambda copy, node, args: copy.add("mul", *args))
            yield f"{names} times t, not to the power t, in the bias correction", by_t
        for node in [n for n in self.nodes if n.op == "div" and n.args[1] in self.corrections]:
            slot = next((s for s in self.slots if node.args[0] is self.formula.stages[-1].outputs[s]), None)
            if slot is not None:
                yield f"the corrected {slot} is kept as the state", self._kept(slot, self.text[node])

    def _kept(self, slot: str, place: str) -> Formula:
        """The formula that keeps what is at this place as its new slot."""

        def outputs(graph: Graph) -> dict[str, Node | float | None]:
            found: Node | None = next(node for node in graph.live if self.text[node] == place)
            return dict.fromkeys([slot], found)

        return with_outputs(self.formula, outputs)

    def _epsilon(self) -> Iterator[tuple[str, Formula]]:
        for node in [n for n in self.nodes if n.op == "add" and any(named(a, *EPSILONS) for a in n.args)]:
            at = next(k for k, a in enumerate(node.args) if named(a, *EPSILONS))
            rest = node.args[1 - at]

            def inside(copy: Copy, node: Node, args: tuple[Arg, ...], at: int = at) -> Arg:
                return copy.add("sqrt", copy.add("add", node_of(args[1 - at]).args[0], args[at]))

            def before(copy: Copy, node: Node, args: tuple[Arg, ...], at: int = at) -> Arg:
                quotient = node_of(node_of(args[1 - at]).args[0])
                root = copy.add("add", copy.add("sqrt", quotient.args[0]), args[at])
                return copy.add("div", root, copy.add("sqrt", quotient.args[1]))

            def inside_before(copy: Copy, node: Node, args: tuple[Arg, ...], at: int = at) -> Arg:
                quotient = node_of(node_of(args[1 - at]).args[0])
                return copy.add("sqrt", copy.add("div", copy.add("add", quotient.args[0], args[at]), quotient.args[1]))

            if is_op(rest, "sqrt") and is_element(rest):
                yield "epsilon inside the root", self._at([node], inside)
                inner = rest.args[0]
                if is_op(inner, "div") and inner.args[1] in self.corrections:
                    yield "epsilon added before the bias correction", self._at([node], before)
                    yield "epsilon inside the root, before the bias correction", self._at([node], inside_before)

            def outside(copy: Copy, node: Node, args: tuple[Arg, ...], at: int = at) -> Arg:
                inner = node_of(args[0])
                return copy.add("add", copy.add("sqrt", inner.args[1 - at]), inner.args[at])

            def behind(copy: Copy, node: Node, args: tuple[Arg, ...], at: int = at) -> Arg:
                below = node_of(args[1])
                return copy.add("add", copy.add("div", args[0], below.args[1 - at]), below.args[at])

            roots = [n for n in self.nodes if n.op == "sqrt" and n.args[0] is node]
            if roots:
                yield "epsilon outside the root", self._at(roots, outside)
            quotients = [n for n in self.nodes if n.op == "div" and n.args[1] is node]
            if quotients:
                yield "epsilon added to the quotient, not to its denominator", self._at(quotients, behind)
        here = [n for n in self.nodes if n.op == "add" and any(named(a, *EPSILONS) for a in n.args)]
        if here:
            yield "epsilon is added to the new p: brackets are missing", self._behind_p(here)
        for nodes in ([here] if here else []) + ([[n] for n in here] if len(here) > 1 else []):
            names = " and ".join(self.said(n) for n in nodes) if len(here) > 1 and len(nodes) == 1 else ""
            yield (
                f"no epsilon{' in ' + names if names else ''}",
                self._at(nodes, lambda copy, n, args: args[0] if named(n.args[1], *EPSILONS) else args[1]),
            )

    def _behind_p(self, sums: Sequence[Node]) -> Formula:
        """The formula with the epsilon of these sums added to p at the end."""
        eps = next(a.name for n in sums for a in n.args if named(a, *EPSILONS))
        without = self._at(sums, lambda copy, n, args: args[0] if named(n.args[1], *EPSILONS) else args[1])

        def stage(graph: Graph) -> Graph:
            p = graph.outputs["p"]
            if not isinstance(p, Node) or eps not in graph.inputs:
                return graph
            end = Node("add", (p, graph.inputs[eps]), p.kind)
            return replace(graph, nodes=[*graph.nodes, end], outputs={**graph.outputs, "p": end})

        return replace(without, stages=tuple(stage(g) for g in without.stages))

    def _squares_and_roots(self) -> Iterator[tuple[str, Formula]]:
        for node in [n for n in self.nodes if n.op == "mul" and is_element(n)]:
            a, b = node.args
            if not isinstance(b, Node):
                continue
            if a is b:
                yield f"{self.said(b)} is not squared", self._at([node], lambda copy, n, args: args[1])
                yield (
                    f"2 * {self.said(b)}, not its square",
                    self._at([node], lambda copy, n, args: copy.add("mul", 2.0, args[1])),
                )
            elif is_op(a, "mul") and b in a.args and is_element(b):
                yield f"{self.said(b)} is not squared", self._at([node], lambda copy, n, args: args[0])
                yield (
                    f"2 * {self.said(b)}, not its square",
                    self._at([node], lambda copy, n, args: copy.add("mul", 2.0, args[0])),
                )
        roots = [n for n in self.nodes if n.op == "sqrt" and is_element(n)]
        for nodes in ([roots] if roots else []) + ([[n] for n in roots] if len(roots) > 1 else []):
            of = "" if len(nodes) == len(roots) else f" of {self.said(node_of(nodes[0].args[0]))}"
            yield f"no square root{of}", self._at(nodes, lambda copy, n, args: args[0])

    def _step(self) -> Iterator[tuple[str, Formula]]:
        new = [g.outputs["p"] for g in self.formula.stages]
        steps = [n for n in new if is_op(n, "sub") and is_element(n)]
        if steps:
            yield (
                "the sign of the step is reversed: it goes up",
                self._at(steps, lambda copy, n, args: copy.add("add", *args)),
            )
            yield "the step is returned, not the new p", self._at(steps, lambda copy, n, args: args[1])
            yield (
                "the step is returned with a minus, not the new p",
                self._at(steps, lambda copy, n, args: copy.add("neg", args[1])),
            )
        for node in [n for n in self.nodes if n.op == "div" and is_element(n) and isinstance(n.args[1], Node)]:
            times = self._at([node], lambda copy, n, args: copy.add("mul", *args, name=n.name))
            yield f"multiplied by {self.said(node_of(node.args[1]))}, not divided", times
        for name in RATES:
            rate = [n for n in self.nodes if named(n, name)]
            if rate:
                yield "no learning rate", self._at(rate, lambda copy, n, args: 1.0)

                def twice(copy: Copy, node: Node, args: tuple[Arg, ...], name: str = name) -> Arg:
                    return copy.add("sub", args[0], copy.add("mul", copy.inputs[name], args[1]))

                yield "the learning rate counts twice", self._at(steps, twice)

    def _averages(self) -> Iterator[tuple[str, Formula]]:
        for first, second in itertools.combinations(self.decays, 2):

            def exchanged(copy: Copy, node: Node, args: tuple[Arg, ...], a: str = first, b: str = second) -> Arg | None:
                if named(node, a, b):
                    return copy.inputs[b if node.name == a else a]
                return None

            yield f"{first} and {second} exchanged", changed(self.formula, exchanged)
            yield from self._in_averages_or_corrections(first, second)
        for name in self.decays:
            rests = [n for n in self.nodes if n.op == "sub" and is_one(n.args[0]) and named(n.args[1], name)]
            kept = [n for n in self.nodes if n.op == "mul" and is_element(n) and any(named(a, name) for a in n.args)]

            def without(copy: Copy, node: Node, args: tuple[Arg, ...], name: str = name) -> Arg:
                return args[1] if named(node.args[0], name) else args[0]

            def turned(copy: Copy, node: Node, args: tuple[Arg, ...], name: str = name) -> Arg:
                if node.op == "sub":
                    return args[1]
                factor, other = args if named(node.args[0], name) else (args[1], args[0])
                return copy.add("mul", copy.add("sub", 1.0, factor), other)

            if rests:
                yield f"{name} in place of 1 - {name}", self._at(rests, lambda copy, n, args: args[1])
                yield f"the factor 1 - {name} is missing", self._at(rests, lambda copy, n, args: 1.0)
            if rests and kept:
                yield f"{name} and 1 - {name} exchanged", self._at([*rests, *kept], turned)
            if kept:
                yield f"the factor {name} is missing", self._at(kept, without)

    def _in_averages_or_corrections(self, first: str, second: str) -> Iterator[tuple[str, Formula]]:
        """Two decays mistaken for each other in some places only."""
        corrections = {self.text[node_of(n.args[1])] for n in self.corrections}

        def swap(pairs: dict[str, str], *, corrected: bool) -> Formula:
            def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
                if (node.op in ("mul", "sub", "pow")) and (self.text[node] in corrections) is corrected:
                    new = tuple(
                        copy.inputs[pairs[a.name or ""]] if named(a, *pairs) else b
                        for a, b in zip(node.args, args, strict=True)
                    )
                    return copy.add(node.op, *new, name=node.name) if new != args else None
                return None

            return changed(self.formula, change)

        both = {first: second, second: first}
        if corrections:
            yield f"{first} and {second} exchanged in the averages", swap(both, corrected=False)
            yield f"{first} and {second} exchanged in the bias corrections", swap(both, corrected=True)
        for one, other in ((first, second), (second, first)):
            yield f"{one} in place of {other} in the average", swap({other: one}, corrected=False)

    def _states(self) -> Iterator[tuple[str, Formula]]:
        last = self.formula.stages[-1]
        yield "p is returned unchanged", with_outputs(self.formula, lambda graph: {"p": graph.inputs["p"]})
        changing = [s for s in self.slots if isinstance(new := last.outputs[s], Node) and new.op != "input"]
        if len(changing) > 1:
            late = self._in_p({slot: slot for slot in changing})
            yield f"the step uses {' and '.join(changing)} from before their updates", late
        for slot in self.slots:
            new = last.outputs[slot]
            if not isinstance(new, Node) or new.op == "input":
                continue
            yield f"nothing is added up in {slot}: it is this step's alone", self._without_memory(slot)
            for other in [s for s in changing if s != slot]:
                yield f"{slot} is made of {other}, not of g", self._made_of(slot, other)
            if new.op == "add":
                minus = self._at([new], lambda copy, node, args: copy.add("sub", *args, name=node.name))
                yield f"a minus in place of the plus in {slot}", minus
            kept = with_outputs(self.formula, partial(_as_it_was, slot=slot))
            yield f"the new {slot} is not returned: it stays as it started", kept
            yield f"the step uses {slot} from before its update", self._in_p({slot: slot})
            yield f"the step uses g, not {slot}", self._in_p({slot: "g"})
        names = ["p", *self.slots]
        for order in itertools.permutations(names) if 2 < len(names) < 5 else []:
            if sum(a != b for a, b in zip(order, names, strict=True)) > 2:
                places = dict(zip(names, order, strict=True))
                turned = with_outputs(self.formula, partial(_reordered, places=places))
                yield f"the results are returned in the order {', '.join(order)}", turned
        for first, second in itertools.combinations(names, 2):
            turned = with_outputs(self.formula, partial(_exchanged, first=first, second=second))
            yield f"{first} and {second} are returned in each other's place", turned

    def _without_memory(self, slot: str) -> Formula:
        """The formula whose slot is computed as if it had been 0."""
        return changed(self.formula, lambda copy, node, args: 0.0 if named(node, slot) else None)

    def _made_of(self, slot: str, other: str) -> Formula:
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

        return replace(self.formula, stages=tuple(stage(g) for g in self.formula.stages))

    def _in_p(self, others: Mapping[str, str]) -> Formula:
        """The formula whose new p is computed from inputs in place of new slots, by the slots' names."""

        def stage(graph: Graph) -> Graph:
            places = {
                new: old for slot, n in others.items() if (new := graph.outputs[slot]) and (old := graph.inputs.get(n))
            }
            copied = Copy(graph, lambda copy, node, args: places.get(node)).graph
            nodes = [*graph.nodes, *(n for n in copied.nodes if n not in graph.nodes)]
            return replace(graph, nodes=nodes, outputs={**graph.outputs, "p": copied.outputs["p"]})

        return replace(self.formula, stages=tuple(stage(g) for g in self.formula.stages))

    def _weight_decay(self) -> Iterator[tuple[str, Formula]]:
        if not [n for n in self.nodes if named(n, _DECAY)]:
            return

        def is_product(arg: Arg) -> bool:
            return (
                is_op(arg, "mul") and any(named(a, _DECAY) for a in arg.args) and any(named(a, "p") for a in arg.args)
            )

        products = [n for n in self.nodes if n.op == "mul" and named(n.args[0], "p")]
        shrunk = [n for n in products if is_op(n.args[1], "sub") and contains(n.args[1], _DECAY)]
        added = [n for n in self.nodes if n.op == "add" and named(n.args[0], "g") and is_product(n.args[1])]
        if shrunk or added:
            yield "no weight decay", self._at([*shrunk, *added], lambda copy, n, args: args[0])
        if shrunk:
            places = {self.text[n] for n in shrunk}

            def through(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
                if named(node, "g"):
                    return copy.add("add", node, copy.add("mul", copy.inputs[_DECAY], copy.inputs["p"]))
                return args[0] if self.text[node] in places else None

            def without_rate(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
                return copy.add("mul", args[0], copy.add("sub", 1.0, copy.inputs[_DECAY]))

            yield "weight decay goes through the gradient, not beside it", changed(self.formula, through)
            yield "weight decay without the learning rate", self._at(shrunk, without_rate)
        if added:
            yield from self._decay_beside(added)
            yield "weight decay with the wrong sign", self._at(added, lambda copy, n, args: copy.add("sub", *args))

    def _decay_beside(self, added: Sequence[Node]) -> Iterator[tuple[str, Formula]]:
        places = {self.text[n] for n in added}
        rate = next((n.name for n in self.nodes if named(n, *RATES)), None)
        if rate is None:
            return

        def stage(graph: Graph) -> Graph:
            copied = Copy(graph, lambda copy, node, args: args[0] if self.text[node] in places else None)
            new = copied.graph.outputs["p"]
            if not isinstance(new, Node) or new.op != "sub" or not named(new.args[0], "p"):
                return copied.graph
            share = copied.add("sub", 1.0, copied.add("mul", graph.inputs[rate], graph.inputs[_DECAY]))
            stepped = copied.add("sub", copied.add("mul", new.args[0], share), new.args[1])
            return replace(copied.graph, outputs={**copied.graph.outputs, "p": stepped})

        beside = replace(self.formula, stages=tuple(stage(graph) for graph in self.formula.stages))
        yield "weight decay goes beside the gradient, not through it", beside

    def _counting(self) -> Iterator[tuple[str, Formula]]:
        t = [n for n in self.nodes if named(n, "t")]
        if t:
            yield "the steps are counted from 0, not from 1", self._at(t, lambda copy, n, args: copy.add("sub", n, 1.0))
            yield "the steps are counted from 2, not from 1", self._at(t, lambda copy, n, args: copy.add("add", n, 1.0))

    def _functions(self) -> Iterator[tuple[str, Formula]]:
        for node in [n for n in self.nodes if n.op in ("abs", "sign") and is_element(n)]:
            what = "absolute value" if node.op == "abs" else "sign"
            yield f"no {what} of {self.said(node_of(node.args[0]))}", self._at([node], lambda copy, n, args: args[0])
        for node in [n for n in self.nodes if n.op == "maximum" and is_element(n)]:
            yield "no maximum: the second of the two", self._at([node], lambda copy, n, args: args[1])
            yield (
                "a sum in place of the maximum",
                self._at([node], lambda copy, n, args: copy.add("add", *args)),
            )


def _as_it_was(graph: Graph, slot: str) -> dict[str, Node | float | None]:
    """The slot's own old value as its new one; a slot that is absent at this stage stays absent."""
    return {slot: graph.inputs.get(slot)}


def _reordered(graph: Graph, places: Mapping[str, str]) -> dict[str, Node | float | None]:
    return {name: graph.outputs[other] for name, other in places.items()}


def _exchanged(graph: Graph, first: str, second: str) -> dict[str, Node | float | None]:
    return {first: graph.outputs[second], second: graph.outputs[first]}
