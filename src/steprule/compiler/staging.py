"""How a graph of matrices is cut into stages: what each stage leaves, in which order, and where it lies.

A slot is written when nothing needs its old value any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from steprule.compiler.calls import Turned, Wanted, base, calls_of
from steprule.compiler.fold import fold
from steprule.compiler.graph import Dims, Graph, Kind, Node
from steprule.compiler.split import Pass, Program, is_reduction, pass_of
from steprule.compiler.stages import (
    COPY,
    Call,
    MatrixPass,
    Operand,
    Stage,
    Staged,
    StagedProgram,
    Temporary,
    UnstagedError,
)
from steprule.compiler.transposes import outwards
from steprule.compiler.writing import Constant


def staged(graph: Graph, *, zero_grad: bool = False) -> Staged:
    """The stages of a rule whose graph was traced for a shape; raises `UnstagedError` where there are none."""
    if any(len(node.dims or ()) > 2 for node in graph.live):
        raise UnstagedError("more than two axes")
    ways = [_Way(outwards(replace(graph, outputs=dict(way.outputs), ways=[])), zero_grad) for way in graph.ways]
    conditions = [n for way in graph.ways for n in way.answers]
    roots = tuple(dict.fromkeys([n for way in ways for n in way.roots] + conditions))
    outputs: dict[str, Node | float | None] = {f"root {k}": n for k, n in enumerate(roots)}
    outputs |= {s.name: graph.outputs[s.name] for s in graph.rule.slots if s.is_number and s.name in graph.outputs}
    nodes = dict.fromkeys(graph.nodes)
    stores: dict[str, Node | float] = {}
    for way in ways:
        nodes |= dict.fromkeys(way.nodes)
        stores |= way.stores
    whole = Program(
        graph=replace(graph, nodes=list(nodes), outputs=outputs),
        roots=roots,
        reductions=(),
        passes=(),
        given=tuple(n for n in graph.inputs.values() if n.kind is Kind.REDUCTION),
        numbers=ways[0].numbers,
        closing=ways[0].closing,
        stores=stores,
    )
    told = [way.answers for way in graph.ways]
    programs = [way.program(whole) for way in ways]
    return Staged(**_fields(whole), ways=tuple(zip(told, programs, strict=True)))


def _fields(program: Program) -> dict[str, Any]:
    return {f.name: getattr(program, f.name) for f in fields(program)}


@dataclass(eq=False)
class _Item:
    """Something that a stage leaves: what a call gives, what is laid in memory, a reduction, a store."""

    value: Node | Constant
    domain: Dims = ()
    store: str = ""
    """The column that it is stored to, if to one."""
    call: Wanted | None = None
    refs: dict[Node, Turned] = field(default_factory=dict)
    """What its pass reads that other items leave."""
    reads: set[str] = field(default_factory=set)
    """The columns whose values before the step its pass reads."""
    temporary: Temporary | None = None

    @property
    def is_reduction(self) -> bool:
        """Whether a pass reduces to it, over the whole tensor or along an axis."""
        return not self.store and self.call is None and isinstance(self.value, Node) and is_reduction(self.value)

    @property
    def is_number(self) -> bool:
        """Whether it is one number per tensor."""
        return self.is_reduction and isinstance(self.value, Node) and self.value.kind is Kind.REDUCTION


Key = Node | Turned | str
"""Of an item: the quantity that it is, the `Turned` that a copy lays out, or the column that is stored to."""


class _Way:
    """One way through a rule: its items, their order, its passes."""

    def __init__(self, graph: Graph, zero_grad: bool) -> None:
        self.graph, self.calls = graph, calls_of(graph)
        numbers = {s.name for s in graph.rule.slots if s.is_number}
        outputs = {n: v for n, v in graph.outputs.items() if v is not None}
        given = {n for n in numbers & graph.inputs.keys() if graph.inputs[n].kind is Kind.REDUCTION}
        self.numbers: dict[str, Node | Constant] = {n: outputs[n] for n in given if n in outputs}
        self.stores: dict[str, Node | float] = {
            n: v for n, v in outputs.items() if n not in numbers and v is not graph.inputs.get(n)
        }
        if zero_grad:
            self.stores["g"] = 0.0
        self.items: dict[Key, _Item] = {}
        for name, value in self.stores.items():
            self._take(name, _Item(value, graph.dims_of[name], store=name))
        closing = _Item(0.0)
        for number in self.numbers.values():
            self._read(closing, number)
        self._lay_out()
        order = list(self._ordered())
        kept = [i for own in order for i in own if i.temporary is not None]
        for k, item in enumerate(kept, 1):  # named as they come about
            item.temporary = replace(item.temporary, name=f"t{k}") if item.temporary else None
        # The passes.
        self.inputs = dict(graph.inputs)
        self.reductions = {
            n: Node("input", (), Kind.REDUCTION, n.name or n.op)
            for n, item in self.items.items()
            if isinstance(n, Node) and item.is_number
        }
        """Each reduction over the whole tensor, and the number that stands for it behind its pass."""
        self.inputs |= {f"number {k}": n for k, n in enumerate(self.reductions.values())}
        self.roots: dict[Node, None] = {}
        self.nodes: list[Node] = []
        self.stages = [self._stage(own) for own in order]
        folded = self._folded([_Item(v, refs=closing.refs) for v in self.numbers.values()])
        self.closing = pass_of(folded[0], [v for v in folded[1] if isinstance(v, Node)], [])
        self._root(self.closing, folded[1])
        self.numbers = dict(zip(self.numbers, folded[1], strict=True))

    def program(self, whole: Program) -> StagedProgram:
        """Its stages; `whole` has the roots of all ways."""
        own: dict[str, Any] = {
            "graph": replace(whole.graph, inputs=self.inputs),
            "reductions": tuple(self.reductions.values()),
            "passes": tuple(s for s in self.stages if isinstance(s, MatrixPass)),
            "numbers": self.numbers,
            "closing": self.closing,
            "stores": self.stores,
        }
        temporaries = tuple(i.temporary for i in self.items.values() if i.temporary is not None)
        return StagedProgram(**{**_fields(whole), **own}, stages=tuple(self.stages), temporaries=temporaries)

    # What there is to compute.

    def _take(self, key: Key, item: _Item) -> None:
        if key in self.items:
            return
        self.items[key] = item
        if item.call is not None:
            for turned in item.call.matrices:
                self._want(turned)
        else:
            self._read(item, item.value)

    def _read(self, item: _Item, value: Node | Constant) -> None:
        """Note what a pass reads to compute a value, and want what other items leave."""
        todo = list(value.args) if item.is_reduction and isinstance(value, Node) else [value]
        while todo:
            node = todo.pop()
            if not isinstance(node, Node) or node.kind is Kind.SCALAR or node in item.refs:
                continue
            if node.op == "input":
                item.reads |= {node.name or ""} if node.kind is Kind.ELEMENT else set()
            elif node in self.calls or node.op == "transpose" or is_reduction(node):
                item.refs[node] = base(node)
                self._want(item.refs[node])
            else:
                todo += node.args

    def _want(self, turned: Turned) -> None:
        node = turned.node
        of = node.args[0] if is_reduction(node) else node
        assert isinstance(of, Node)
        self._take(node, _Item(node, of.dims or (), call=self.calls.get(node)))

    # Where it lies.

    def _lay_out(self) -> None:
        """Give each item that stays its temporary, lain so that no pass must turn it and no sum its summand, where that can be."""
        refs = [r for i in self.items.values() for r in i.refs.values()]
        products = [n for n, call in self.calls.items() if call.op == "matmul" and n in self.items]
        read: dict[Node, set[bool]] = {n: {r.flipped for r in refs if r.node is n} for n in products}
        flips: dict[Node, bool] = {}
        for node in reversed(products):
            flips[node] = read[node] == {True}
            added = self.calls[node].added
            if added is not None and not read.get(added.node, {False}):
                read[added.node].add(added.flipped != flips[node])
        for key, item in self.items.items():
            if isinstance(key, Node) and not item.is_number:
                item.temporary = self._new(key, flips.get(key, False))
                item.call = item.call.turn() if item.call is not None and flips.get(key) else item.call
        for turned in refs:
            if not self.items[turned.node].is_number and flips.get(turned.node, False) != turned.flipped:
                copy = _Item(turned.node, turned.node.dims or (), call=Wanted(COPY, (turned,)))
                self._take(turned, copy)
                copy.temporary = copy.temporary or self._new(turned.node, turned.flipped)
        self.flips = flips

    def _new(self, node: Node, flipped: bool) -> Temporary:
        dims = node.dims or ()
        return Temporary("", dims[::-1] if flipped else dims, node.dtype)

    def _leaver(self, turned: Turned) -> _Item:
        """The item that leaves a quantity as it is read."""
        return self.items[turned] if turned in self.items else self.items[turned.node]

    # In which order.

    def _ordered(self) -> Iterator[list[_Item]]:
        """The items of each stage: one call, or what one pass leaves."""
        left, done = list(self.items.values()), set[_Item]()

        def ready(item: _Item) -> bool:
            if item.call is not None:
                return all(self.items[t.node] in done for t in item.call.matrices)
            return all(self._leaver(r) in done for r in item.refs.values())

        while left:
            own = next(([i] for i in left if i.call is not None and ready(i)), None)
            own = own or _reducing(left, ready) or _laying(left, ready)
            if not own:
                raise UnstagedError("slots that each need the other's old value")
            done.update(own)
            left = [i for i in left if i not in done]
            yield own

    # The stages.

    def _stage(self, own: list[_Item]) -> Stage:
        return self._called(own[0], own[0].call) if own[0].call is not None else self._passed(own)

    def _called(self, item: _Item, wanted: Wanted) -> Call:
        assert item.temporary is not None
        for number in (wanted.alpha, wanted.beta, *wanted.numbers):
            if isinstance(number, Node):
                self.roots[number] = None
                self._hold(number)
        added = None if wanted.added is None else self._operand(wanted.added)
        args = tuple(map(self._operand, wanted.args))
        return Call(wanted.op, item.temporary, args, wanted.numbers, wanted.alpha, added, wanted.beta)

    def _hold(self, node: Node) -> None:
        """Add a number of the step, and what it follows from, to the nodes."""
        for arg in node.args:
            if isinstance(arg, Node):
                self._hold(arg)
        self.nodes.append(node)

    def _operand(self, turned: Turned) -> Operand:
        held = self.items[turned.node].temporary
        assert held is not None
        return Operand(held.name, turned.flipped != self.flips.get(turned.node, False))

    def _passed(self, own: list[_Item]) -> MatrixPass:
        graph, values = self._folded(own)
        nodes = [v for v in values if isinstance(v, Node)]
        part = pass_of(graph, nodes, nodes if own[0].is_reduction else [])
        self._root(part, values)
        names = [i.store or (i.temporary.name if i.temporary else "") for i in own]
        domain = own[0].domain
        dims = {n: self.inputs[n].dims or () for n in part.loads}
        dims |= {n: i.temporary.dims if i.temporary else domain for n, i in zip(names, own, strict=True) if n}
        reduced = list(self.reductions)
        filled = [reduced.index(i.value) for i in own if i.is_number and isinstance(i.value, Node)]
        along: dict[Node, Temporary] = {}
        if part.reductions:  # then each value is a node
            along = {v: i.temporary for v, i in zip(nodes, own, strict=True) if i.temporary}
        return MatrixPass(
            part.loads,
            part.per_tensor,
            part.elements,
            part.reductions,
            stores={} if part.reductions else dict(zip(names, values, strict=True)),
            domain=domain,
            kinds={n: _kind(d, domain) for n, d in dims.items()},
            filled=tuple(filled),
            along=along,
        )

    def _folded(self, own: list[_Item]) -> tuple[Graph, list[Node | Constant]]:
        """The graph of some items' values, from what their pass reads, and the values in it."""
        known: dict[Node, Node] = {}
        made: list[Node] = []
        for item in own:
            for node, turned in item.refs.items():
                known[node] = self._stand_in(node, turned)
        values = [self._rebuilt(i.value, known, made) for i in own]
        graph = replace(self.graph, inputs=self.inputs, nodes=made, outputs={str(k): v for k, v in enumerate(values)})
        found = fold(graph)
        self.nodes += found.nodes
        return found, list(found.outputs.values())  # type: ignore[arg-type]

    def _stand_in(self, node: Node, turned: Turned) -> Node:
        """What a pass reads in the place of what another stage has left."""
        if node in self.reductions:
            return self.reductions[node]
        held = self._leaver(turned).temporary
        assert held is not None
        if held.name not in self.inputs:
            self.inputs[held.name] = Node("input", (), Kind.ELEMENT, held.name, dims=held.dims)
        return self.inputs[held.name]

    def _rebuilt(self, value: Node | Constant, known: dict[Node, Node], made: list[Node]) -> Node | Constant:
        """A value with stand-ins for what other stages have left."""
        if not isinstance(value, Node) or value.op == "input":
            return value
        if value not in known:
            args = tuple(self._rebuilt(a, known, made) for a in value.args)
            known[value] = value if args == value.args else replace(value, args=args)
            made.append(known[value])
        return known[value]

    def _root(self, part: Pass, values: list[Node | Constant]) -> None:
        """Note the numbers of the step that a pass uses."""
        used = [a for n in (*part.per_tensor, *part.elements, *part.reductions) for a in n.args] + values
        self.roots.update((n, None) for n in used if isinstance(n, Node) and n.kind is Kind.SCALAR)


def _reducing(left: list[_Item], ready: Callable[[_Item], bool]) -> list[_Item]:
    """The reductions of one pass."""
    found = [i for i in left if i.is_reduction and ready(i)]
    return [i for i in found if i.domain == found[0].domain]


def _laying(left: list[_Item], ready: Callable[[_Item], bool]) -> list[_Item]:
    """What one pass lays in memory, and the stores that may go with it: nothing else needs the old value."""
    able = [i for i in left if i.call is None and not i.is_reduction and ready(i)]
    for domain in dict.fromkeys(i.domain for i in able):
        own, last = [i for i in able if i.domain == domain], 0
        while len(own) != last:
            last = len(own)
            beside = [i for i in left if i not in own]
            own = [i for i in own if not i.store or not any(i.store in other.reads for other in beside)]
        if own:
            return own
    return []


def _kind(dims: Dims, domain: Dims) -> str:
    """How a column of such axes lies in a domain."""
    if dims == domain:
        return "full"
    if len(dims) == len(domain) == 2:
        if dims == (domain[0], "1"):
            return "row"
        if dims == ("1", domain[1]):
            return "column"
    raise UnstagedError(f"{' x '.join(dims)} beside {' x '.join(domain)}")
