"""A variant: a rule with its switches set, traced, split and compiled as one.

A slot that is absent at first makes several graphs of a variant: one for each set of slots that are absent on entry. The
*stages* are those that a training goes through, from its first step to the one that repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.phases import Rounds, measurement, rounds_of, stepping, with_totals
from steprule.compiler.shapes import ShapeNeededError
from steprule.compiler.split import Program
from steprule.compiler.stages import UnstagedError
from steprule.compiler.staging import staged
from steprule.compiler.tracer import SHOWN, traced
from steprule.hyper import Value
from steprule.rules.rule import Rule

NOTHING: frozenset[str] = frozenset()
Switches = tuple[tuple[str, Value], ...]
Shape = tuple[int, ...]


def switches_of(rule: Rule, hypers: Mapping[str, Any]) -> Switches:
    """What switches, from the values of the hyperparameters."""
    return tuple((h.name, h.variant_of(hypers[h.name])) for h in rule.hypers if h.switches)


class Variant:
    """A rule with its switches set; made by `variant`, once each."""

    def __init__(
        self, rule: Rule, switches: Switches, shape: Shape | None = None, reduced: frozenset[str] = NOTHING
    ) -> None:
        """`reduced`: slots of one number that another variant, whose slots these are, knows only after a reduction."""
        self.rule, self.switches, self.shape = rule, switches, shape
        """The shape of the parameter, where the rule asks for it."""
        self._graphs: dict[frozenset[str], Graph] = {}
        self._programs: dict[tuple[frozenset[str], bool], Program] = {}
        self._measurements: dict[tuple[frozenset[str], frozenset[str]], Program] = {}
        self._looks: dict[int, Variant] = {}
        self._reduced = reduced
        """The slots of one number that follow from a reduction at any stage."""
        self.slots = frozenset(s.name for s in rule.slots) - traced(rule, dict(switches), shape=shape).absent
        """The slots that it uses; the others are None and not allocated."""
        self.stages = self._settle()
        """The slots that are absent on entry: at the first step, and so on to the set that stays, mostly none."""

    @property
    def first_absent(self) -> frozenset[str]:
        """The slots that are absent at the first step."""
        return self.stages[0]

    @property
    def reduced(self) -> frozenset[str]:
        """The slots of one number that are known only after a reduction."""
        return self._reduced

    @property
    def reduces(self) -> bool:
        """Whether it asks for a number over a whole tensor."""
        return any(self.graph(absent).asks_for_reductions for absent in self.stages)

    @cached_property
    def adds_up(self) -> bool:
        """Whether nothing but totals of elements asks for more than one element: then shards of a tensor can be stepped apart."""
        live = [node for absent in (*self.stages, NOTHING) for node in self.graph(absent).live]
        return not any(n.kind is Kind.REDUCTION or (n.place and not _is_element(n.args[0])) for n in live)

    def graph(self, absent: frozenset[str] = NOTHING) -> Graph:
        """What it computes where these slots are absent on entry."""
        if absent not in self._graphs:
            self._graphs[absent] = traced(
                self.rule, dict(self.switches), absent=absent, reduced=self._reduced, shape=self.shape
            )
        return self._graphs[absent]

    def program(self, absent: frozenset[str] = NOTHING, *, zero_grad: bool = False) -> Program:
        """The same, split; where it asks for totals, the last phase, in which they are known. Of a shape, it is `Staged`.

        Raises `UnstagedError` where it has no stages.
        """
        key = absent, zero_grad
        if key not in self._programs:
            graph = self.graph(absent)
            stages = graph.sizes is not None
            make = staged(with_totals(graph), zero_grad=zero_grad) if stages else stepping(graph, zero_grad=zero_grad)
            self._programs[key] = make
        return self._programs[key]

    @cached_property
    def is_compiled(self) -> bool:
        """Whether kernels can step it."""
        try:
            for absent in (*self.stages, NOTHING):
                self.program(absent)
                self.measurements(absent)
        except UnstagedError:
            return False
        return True

    def rounds(self, absent: frozenset[str] = NOTHING) -> Rounds:
        """The totals that it asks for there, in the order in which they can be known."""
        return rounds_of([self.graph(absent)])

    def measurements(self, absent: frozenset[str] = NOTHING) -> tuple[Program, ...]:
        """The phases before the step's own, in order."""
        return tuple(self.measurement(absent, places) for places in self.rounds(absent))

    def measurement(self, absent: frozenset[str], places: frozenset[str]) -> Program:
        """The phase in which a tensor adds to the totals at these places."""
        key = absent, places
        if key not in self._measurements:
            self._measurements[key] = measurement(self.graph(absent), places)
        return self._measurements[key]

    @cached_property
    def looks(self) -> tuple[Variant, ...]:
        """By look that it takes the variant of its point: its p is the point, and it hands the slots on."""
        taken = max((k for k, name in enumerate(self.rule.looked, 1) if name in self.slots), default=0)
        return tuple(map(self.look, range(taken)))

    def look(self, k: int) -> Variant:
        """That of the point of the k-th look, from 0. Where it does not look so often, as for another shape, the point is p."""
        if k not in self._looks:
            self._looks[k] = Variant(self.rule.looks[k], self.switches, self.shape, self._reduced)
        return self._looks[k]

    def _settle(self) -> tuple[frozenset[str], ...]:
        """Follow the stages until one repeats, and begin again where one of them turns a number into a reduction."""
        while True:
            self._graphs.clear()
            absent = frozenset(s.name for s in self.rule.slots if s.absent_at_first and s.name in self.slots)
            found = [absent]
            while absent:
                outputs = self.graph(absent).outputs
                still = frozenset(name for name in absent if outputs[name] is None)
                if still == absent:
                    break
                absent = still
                found.append(absent)
            reduced = self._reduced.union(*(_reduced(self.graph(absent)) for absent in (*found, NOTHING)))
            if reduced == self._reduced:
                return tuple(found)
            self._reduced = reduced


def _is_element(arg: object) -> bool:
    return isinstance(arg, Node) and arg.kind is Kind.ELEMENT


def _reduced(graph: Graph) -> set[str]:
    numbers = {s.name for s in graph.rule.slots if s.per_tensor}
    return {n for n, v in graph.outputs.items() if n in numbers and isinstance(v, Node) and v.kind is Kind.REDUCTION}


@lru_cache(maxsize=4096)
def needs_shape(rule: Rule, switches: Switches) -> bool:
    """Whether the rule, with these switches, asks for the shape of its parameter."""
    try:
        _variant(rule, switches, None)
    except ShapeNeededError:
        return True
    return False


@lru_cache(maxsize=1024)
def asks_for_shapes(rule: Rule) -> bool:
    """Whether any variant of the rule asks for the shape of its parameter."""
    return any(needs_shape(rule, switches_of(rule, {**rule.defaults, **own})) for own in rule.variants())


@lru_cache(maxsize=4096)
def _variant(rule: Rule, switches: Switches, shape: Shape | None) -> Variant:
    return Variant(rule, switches, shape)


def variant(rule: Rule, switches: Switches, shape: Shape | None = None) -> Variant:
    """The variant of a rule with these switches, for a parameter of this shape; tracing it checks the contract.

    A rule that asks for no shape has one variant for all; one that does is shown for a matrix where none is given.
    """
    if not needs_shape(rule, switches):
        return _variant(rule, switches, None)
    return _variant(rule, switches, SHOWN if shape is None else tuple(shape))


def variant_of(rule: Rule, hypers: Mapping[str, Any], shape: Shape | None = None) -> Variant:
    """The variant that these hyperparameters choose."""
    return variant(rule, switches_of(rule, hypers), shape)
