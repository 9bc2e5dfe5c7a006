"""The tracer: a rule called on symbols leaves a graph of what it computes, one for each variant."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any

from steprule.arithmetic import Real
from steprule.arithmetic.totals import Places
from steprule.compiler.graph import Dims, Graph, Kind, Node, Way
from steprule.compiler.refusals import authors_errors, none_refused, refuse
from steprule.compiler.shapes import ShapeNeededError, Shapes
from steprule.compiler.symbols import MOST_WAYS, Symbol, Tape
from steprule.errors import RuleError
from steprule.hyper import Value
from steprule.rules.looks import Looked
from steprule.rules.rule import Rule

Shape = tuple[int, ...]

SHOWN: Shape = (2, 3)
"""The shape of a parameter where a rule that asks for one is shown: a matrix, wider than tall."""


def trace(
    rule: Rule,
    switches: Mapping[str, Value] | None = None,
    *,
    absent: frozenset[str] = frozenset(),
    reduced: frozenset[str] = frozenset(),
    shape: tuple[int, ...] | None = None,
) -> Graph:
    """The graph of one variant of a rule.

    `switches` gives each flag its value, and each number that is off at zero either 0 (off) or anything else (on); what it
    leaves out has its default. `absent` names the slots that are None on entry. Slots that the variant does not use are
    found by trying, and are then absent too. `reduced` names slots of one number that are known only after a reduction; more
    are found by trying. `shape`: of the parameter, where the rule asks for it; that of `SHOWN` where none is given.

    Raises `RuleError`, with the author's file and line, where the rule breaks the contract.
    """
    try:
        return traced(rule, switches, absent=absent, reduced=reduced, shape=shape)
    except ShapeNeededError:
        return traced(rule, switches, absent=absent, reduced=reduced, shape=SHOWN)


def traced(
    rule: Rule,
    switches: Mapping[str, Value] | None,
    *,
    absent: frozenset[str] = frozenset(),
    reduced: frozenset[str] = frozenset(),
    shape: Shape | None = None,
) -> Graph:
    """The same; raises `ShapeNeededError` where the rule asks for a shape and none is given."""
    switches = {h.name: (switches or {}).get(h.name, h.default) for h in rule.hypers if h.switches}
    graph = _run(rule, switches, absent, reduced, shape)
    # The first steps are traced with the others: what breaks the contract there is found, and what is used there.
    unused = _unused(graph)
    missing = absent | {s.name for s in rule.slots if s.absent_at_first}
    while missing != absent:
        earlier = _run(rule, switches, missing, reduced, shape)
        unused &= _unused(earlier)
        filled = {n for n in missing - absent if earlier.outputs[n] is not None}
        if not filled:
            break
        missing -= filled
    return _run(rule, switches, absent | unused, reduced, shape) if unused else graph


def _unused(graph: Graph) -> set[str]:
    """The slots that nothing reads and that come out as they went in. Read for nothing counts as read: the author's function
    would meet a None there."""
    read = {a for n in graph.nodes for a in n.args if isinstance(a, Node)}
    slots = {s.name: graph.inputs.get(s.name) for s in graph.rule.slots}
    handed_on = {v for n, v in graph.outputs.items() if v is not slots.get(n)}
    return {n for n, node in slots.items() if graph.outputs[n] is node and node not in read and node not in handed_on}


def _run(
    rule: Rule, switches: Mapping[str, Value], absent: frozenset[str], reduced: frozenset[str], shape: Shape | None
) -> Graph:
    """A trace; a slot of one number that follows from a reduction is known when that is, not when the step begins."""
    while True:
        graph = _run_once(rule, switches, absent, reduced, shape)
        numbers = {s.name for s in rule.slots if s.per_tensor}
        found = {
            n for n, v in graph.outputs.items() if n in numbers and isinstance(v, Node) and v.kind is Kind.REDUCTION
        }
        if found <= reduced:
            return graph
        reduced |= found


def _run_once(
    rule: Rule, switches: Mapping[str, Value], absent: frozenset[str], reduced: frozenset[str], shape: Shape | None
) -> Graph:
    graph = Graph(rule, switches, absent)
    shapes = None
    if shape is not None:
        shapes = Shapes(rule.seen(shape))
        graph.sizes = shapes.sizes
        slots = {s.name: shapes.of_slot(s.shape) for s in rule.slots if not s.is_number}
        graph.dims_of = {"p": shapes.p, "g": shapes.p, **slots}
    elif rule.as_matrix or any(s.shape for s in rule.slots):
        raise ShapeNeededError
    tape = Tape(graph, shapes)
    args: list[Any] = [tape.input(name, Kind.ELEMENT, dims=shapes.p if shapes else None) for name in ("p", "g")]
    for slot in rule.slots:
        if slot.looked:
            args.append(_Asked(tape, slot.name, shapes.p if shapes else None))
        elif slot.name in absent:
            args.append(None)
        elif slot.is_number:
            args.append(tape.input(slot.name, Kind.REDUCTION if slot.name in reduced else Kind.SCALAR))
        else:
            args.append(tape.input(slot.name, Kind.ELEMENT, dims=shapes.of_slot(slot.shape) if shapes else None))
    hypers: dict[str, Any] = {}
    for hyper in rule.hypers:
        if hyper.is_plain or (hyper.off_at_zero and not switches[hyper.name]):
            hypers[hyper.name] = switches[hyper.name] if hyper.is_plain else Real(0.0)
        else:
            hypers[hyper.name] = tape.input(hyper.name, Kind.SCALAR, truth=True if hyper.off_at_zero else None)
    if rule.takes_t:
        hypers["t"] = tape.input("t", Kind.SCALAR)
    try:
        return _taken(rule, graph, tape, absent, args, hypers)
    finally:
        # A held frame holds its callers' frames too, this one and a whole training's among them, in a circle.
        tape.frames.clear()


class _Asked(Looked):
    """What a look will find: it goes into a step whose rule asks for it, and is handed on."""

    def __init__(self, tape: Tape, name: str, dims: Dims | None) -> None:
        self.tape, self.name, self.dims = tape, name, dims

    def at(self, point: Any) -> Symbol:
        """The gradient at a point."""
        known = self.tape.graph.inputs.get(self.name)
        return Symbol(self.tape, known) if known else self.tape.input(self.name, Kind.ELEMENT, dims=self.dims)


def _taken(
    rule: Rule, graph: Graph, tape: Tape, absent: frozenset[str], args: list[Any], hypers: dict[str, Any]
) -> Graph:
    """The graph, filled by the author's function."""
    ways = 0

    def follow(answers: list[bool]) -> dict[str, Node | float | None]:
        """What comes out of all ways that begin with these answers, merged: by `where`, as numbers of the step decide."""
        nonlocal ways
        ways += 1
        tape.answers, tape.decided, tape.places = answers, {}, Places()
        with authors_errors(rule, absent):
            if ways > MOST_WAYS:
                refuse(f"more than {MOST_WAYS} ways through its ifs on numbers of the step", "fewer", "Use where.")
            with none_refused():
                result = rule.function(*args, **hypers)
        last = next((f.f_lineno for f in tape.frames if f.f_code is rule.codes[0]), rule.lines[1])
        found = _results(graph, result, f"{rule.lines[0]}:{last}: rule {rule.name}", tape.shapes)
        path = list(tape.decided.items())
        if tape.shapes is not None:
            graph.ways.append(Way(dict(path), found))
        for k in reversed(range(len(answers), len(path))):
            other = follow([*(answer for _, answer in path[:k]), False])
            with authors_errors(rule, absent):
                found = {name: _merged(tape, path[k][0], name, value, other[name]) for name, value in found.items()}
        return found

    graph.outputs = follow([])
    _name_nodes(graph, tape.frames)
    return graph


def _merged(
    tape: Tape, condition: Node, name: str, a: Node | float | None, b: Node | float | None
) -> Node | float | None:
    """A result of two ways."""
    if a is b or (not isinstance(a, Node) and not isinstance(b, Node) and repr(a) == repr(b)):
        return a
    if a is None or b is None:
        hint = "Let it start at p, at g or at a number: StartsAt."
        refuse(
            f"a slot {name} that is None after one step and not after another", "no `if` that leaves it so or so", hint
        )
    return tape.add("where", *(Symbol(tape, x) if isinstance(x, Node) else x for x in (condition, a, b)))._node


def _results(graph: Graph, result: Any, where: str, shapes: Shapes | None) -> dict[str, Node | float | None]:
    """What the author's function gave, by name."""
    rule = graph.rule
    found: dict[str, Node | float | None] = {}
    wanted = ["p", *(s.name for s in rule.slots)]
    results = result if isinstance(result, tuple) else (result,)
    own = ["p", *(s.name for s in rule.slots if not s.looked)]
    got, hint = f"{len(results) - len(wanted) + len(own)}", ""
    if result is None:
        got, hint = "nothing", f"Write return {', '.join(own)}."
    elif isinstance(result, list | dict | set):
        got, hint = f"a {type(result).__name__}", f"Write return {', '.join(own)}, without brackets."
    if len(results) != len(wanted):
        expected = f"{len(own)} results ({', '.join(own)})"
        raise RuleError(where, expected=expected, got=got, hint=hint or "Return the new p, then every slot in order.")
    numbers = {s.name: s for s in rule.slots if s.is_number}
    for name, value in zip(wanted, results, strict=True):
        if isinstance(value, _Asked):
            found[name] = graph.inputs.get(name)
            continue
        if value is None and name in graph.absent:
            found[name] = None
            continue
        if isinstance(value, bool) or not isinstance(value, Symbol | float | int):
            got = "None" if value is None else f"a {type(value).__name__}"
            raise RuleError(where, expected=f"a number as the new {name}", got=got)
        output = value._node if isinstance(value, Symbol) else float(value)
        if isinstance(output, Node) and output.truth:
            hint = "Use where(condition, 1.0, 0.0)."
            raise RuleError(where, expected=f"a number as the new {name}", got="a truth value", hint=hint)
        if name in numbers and isinstance(output, Node) and output.kind is Kind.ELEMENT:
            of = numbers[name].of
            expected, hint = f"one number per {of} as the new {name}", "Reduce it with norm, mean or sum."
            raise RuleError(where, expected=expected, got="one per element", hint=hint if of == "tensor" else _TOTAL)
        if name in numbers and numbers[name].per_model and isinstance(output, Node) and output.kind is Kind.REDUCTION:
            raise RuleError(
                where, expected=f"one number per model as the new {name}", got="one per tensor", hint=_TOTAL
            )
        if shapes is not None and name not in numbers:
            _check_dims(shapes, rule, name, output, where)
        found[name] = output
    return found


_TOTAL = "Write total(x): the sum over all elements of all tensors."


def _check_dims(shapes: Shapes, rule: Rule, name: str, output: Node | float, where: str) -> None:
    """What comes out must fit what went in, by broadcasting."""
    slot = next((s for s in rule.slots if s.name == name), None)
    wanted = shapes.of_slot(slot.shape if slot else "")
    got = output.dims or () if isinstance(output, Node) and output.kind is Kind.ELEMENT else ()
    padded = (*["1"] * (len(wanted) - len(got)), *got)
    if len(got) > len(wanted) or any(g not in ("1", w) for g, w in zip(padded, wanted, strict=False)):
        hint = "Reduce it with axis=-1 for one number per row, axis=-2 for one per column."
        raise RuleError(
            where,
            expected=f"the new {name} as {shapes.shown(wanted)}",
            got=shapes.shown(got),
            hint=hint if slot else "",
        )


def _name_nodes(graph: Graph, frames: list[FrameType]) -> None:
    """Give nodes the author's local names; a slot's name wins, and so does the first name of two.

    The loop stands here and not in a caller of the author's function: such a caller, whose frame the held ones hold, would hold the
    last of them in turn, and only the garbage collector would free what a step had in hand.
    """
    for name, output in graph.outputs.items():
        if isinstance(output, Node) and output.name is None:
            output.name = name
    for frame in frames:
        for name, value in frame.f_locals.items():
            if isinstance(value, Symbol) and value._tape.graph is graph and value._node.name is None:
                value._node.name = name
