"""A rule over lanes: one Numba kernel steps thousands of models, each with its own hyperparameters.

A model's parameters are rows, lanes are columns, so that neighbours in memory are the same parameter of two lanes, and
every scalar of the rule is a vector over lanes. `scalars` brings them up to the step in float64; the passes are those of
the other forms; `step` is all of it. `point` puts the point of evaluation into p, `look1` that of the first look. A lane that is not
alive keeps its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steprule.compiler import cache
from steprule.compiler.graph import Kind, Node
from steprule.compiler.lazy import lazy
from steprule.compiler.points import points_of
from steprule.compiler.printing import NUMBA, reduction_of
from steprule.compiler.split import Program
from steprule.compiler.variant import Variant
from steprule.lanes.rule_printer import LanePassPrinter, LaneWriter

Array = NDArray[Any]


class ScratchRows(NamedTuple):
    """The rows of a step's scratch, one at least of each."""

    table: int
    """Scalars."""
    powers: int
    """Powers of t that one product brings up to the step."""
    reductions: int


@dataclass(frozen=True)
class LaneRule:
    """One variant of a rule over lanes, in the stages of a training: at first slots may be absent."""

    stages: tuple[Program, ...]
    """The programs of the first steps; the last one repeats."""
    compute: str
    """float32 or float64, as the parameters are."""
    measured: tuple[tuple[Program, ...], ...]
    """What each of `programs` has measured before it, phase by phase, where it asks for totals over all tensors."""
    variant: Variant
    """What it computes."""
    points: tuple[Program, ...] = ()
    """The programs of the point of evaluation behind the first steps; the last one repeats. None where the model is read at p."""
    looks: tuple[tuple[Program, ...], ...] = ()
    """By look the programs of its point at the stages."""

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, variant: Variant, compute: str) -> LaneRule:
        """Of all its stages; made once, with what is printed of it."""
        stages, points = variant.stages, points_of(variant)
        programs = tuple(variant.program(absent) for absent in stages)
        looks = tuple(tuple(look.program(absent) for absent in stages) for look in variant.looks)
        measured = [variant.measurements(absent) for absent in stages] + [()] * len(points)
        measured += [look.measurements(absent) for look in variant.looks for absent in stages]
        return cls(programs, compute, tuple(measured), variant, points, looks)

    def stage(self, t: int) -> Program:
        """The program of step t."""
        return self.stages[min(t, len(self.stages)) - 1]

    def absent(self, t: int) -> frozenset[str]:
        """The slots that are absent on entry to step t."""
        return self.variant.stages[min(t, len(self.stages)) - 1]

    @property
    def has_phases(self) -> bool:
        """Whether it asks for totals."""
        return any(self.measured)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The stages', then the points', then those of each look."""
        return (*self.stages, *self.points, *(program for look in self.looks for program in look))

    @property
    def phase_programs(self) -> tuple[Program, ...]:
        """All that is measured."""
        return tuple(program for phases in self.measured for program in phases)

    @property
    def later(self) -> Program:
        """The program that repeats."""
        return self.stages[-1]

    @lazy
    def module(self) -> Any:
        """The compiled functions `step` and, where the model is read elsewhere than at p, `point`; by look `look1` and so on."""
        return cache.load(f"{self.later.graph.rule.name}_lanes", text_of(self), cache.INTRINSICS, *cache.NUMBA)

    @property
    def _every(self) -> tuple[Program, ...]:
        return (*self.programs, *self.phase_programs)

    def _all(self, names: Callable[[Program], Iterable[str]]) -> list[str]:
        return list(dict.fromkeys(n for program in self._every for n in names(program)))

    @lazy
    def states(self) -> list[str]:
        """The slots of one number per element, in the order of `states` [slots, rows, lanes]."""
        return [n for n in self._all(lambda program: program.columns) if n not in ("p", "g")]

    @lazy
    def totals(self) -> list[str]:
        """The totals, by place."""
        return list(dict.fromkeys(place for program in self.phase_programs for place in program.graph.outputs))

    @lazy
    def hypers(self) -> list[str]:
        """The hyperparameters that it reads, in the order of their rows; and the totals, whose rows each step fills."""
        known = {"t", *(s.name for s in self.later.graph.rule.slots)}
        scalars = self._all(lambda q: [n for n, node in q.graph.inputs.items() if node.kind is Kind.SCALAR])
        return [n for n in dict.fromkeys([*scalars, *self.totals]) if n not in known]

    @lazy
    def scalar_slots(self) -> list[str]:
        """The slots of one number that are known when the step begins, in the order of their rows."""
        return self._all(lambda program: program.scalar_slots)

    @lazy
    def numbers(self) -> list[str]:
        """Those that follow from reductions; their rows come behind."""
        return [n for n in self._all(lambda program: program.numbers) if n not in self.totals]

    @lazy
    def kept(self) -> dict[str, int]:
        """The rows of `reduced` where those stay from step to step, behind all reductions."""
        count = max(len(program.reductions) for program in self._every)
        return {name: count + k for k, name in enumerate(self.numbers)}

    @lazy
    def scratch(self) -> ScratchRows:
        """What a step needs beside the states."""
        table = max(len(program.roots) for program in self._every)
        reductions = max(len(program.reductions) for program in self._every)
        powers = len(powers_of_t(self.later))
        return ScratchRows(max(1, table), max(1, powers), max(1, reductions + len(self.kept)))

    def rows_of(self, names: Sequence[str], hypers: Mapping[str, Array], lanes: int) -> Array:
        """Hyperparameters, or what slots start at, as [names, lanes]."""
        starts: dict[str, float | str] = {s.name: s.start for s in self.later.graph.rule.slots}
        starts |= dict.fromkeys(self.totals, 0.0)
        values = [starts.get(n, n) for n in names]
        rows = [np.broadcast_to(hypers[v] if isinstance(v, str) else v, (lanes,)) for v in values]
        return np.array(rows, dtype=np.float64).reshape(len(rows), lanes)


def layout(sizes: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The tensor to which each row belongs, and the first row of each tensor, with the end."""
    tensors = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return tensors, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def powers_of_t(program: Program) -> list[Node]:
    """The scalars base**t whose base does not change with the step: one product a step brings them up to it."""
    t = program.graph.inputs.get("t")
    scalars = [n for n in program.graph.live if n.kind is Kind.SCALAR]
    slots = [s.name for s in program.graph.rule.slots if s.is_number]
    known = set(program.graph.rule.defaults) | set(slots)
    totals = [n for n, node in program.graph.inputs.items() if node.kind is Kind.SCALAR and n not in known]
    changing = {program.graph.inputs.get(n) for n in ("t", "lr", *slots, *totals)} - {None}  # a schedule moves the rate
    for node in scalars:
        if node.op != "input" and any(a in changing for a in node.args if isinstance(a, Node)):
            changing.add(node)
    return [n for n in scalars if n.op == "pow" and n.args[1] is t and n.args[0] not in changing]


def text_of(rule: LaneRule) -> str:
    """The kernel as Python source for Numba: the scalars and the passes of each stage, then `step` and `point`, which call them."""
    c = rule.compute
    head = [
        f'"""{rule.later.graph.rule.name} over lanes: printed by steprule from the rule; {c}."""',
        "",
        "import numpy as np",
        "from numba import njit",
        "",
        "from steprule.compiler.intrinsics import Disjoint",
        "",
        'OPTIONS = dict(nogil=True, error_model="numpy", cache=True, pipeline_class=Disjoint)',
        f'STEP = "{step_type(c)}"',
        "",
        *_advance(rule),
    ]
    for label, program in (labelled for number in range(len(rule.programs)) for labelled in _labelled(rule, number)):
        head += _scalars(rule, program, label)
        count = len(program.columns)
        for k in range(len(program.passes)):
            head.append(LanePassPrinter(program, k, [c] * count, c, stage=label, kept=rule.kept).text())
        if program in rule.phase_programs:
            head += _adding(rule, program, label)
        elif program.numbers:
            head += _closing(rule, program, label)
    looks = [line for k in range(len(rule.looks)) for line in _look(rule, k)]
    return "\n".join([*head, *_step(rule), *(_point(rule) if rule.points else []), *looks])


def step_type(compute: str) -> str:
    """Numba's type of `step(t, hypers, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states)`."""
    c, f = compute, "float64[:, ::1]"
    return (
        f"void(float64, {f}, {f}, {f}, {c}[:, ::1], int32[::1], int64[::1], {c}[:, :, ::1], float64[:, :, ::1], "
        f"uint8[::1], {c}[:, ::1], {c}[:, ::1], {c}[:, :, ::1])"
    )


def _step(rule: LaneRule) -> list[str]:
    """The function of a whole step: the powers of t, then the stage that t is at."""
    return _entry("step", ["advance(hypers, powers)", *_begun(rule), *_by_stage(rule, range(len(rule.stages)))])


def _begun(rule: LaneRule) -> list[str]:
    """The first step begins the slots of one number that follow from reductions."""
    if not rule.kept:
        return []
    first = len(rule.scalar_slots)
    lines = ["if t == 1.0:", "    for i in range(reduced.shape[1]):", "        for l in range(table.shape[1]):"]
    kept = enumerate(rule.kept.values())
    return [*lines, *(f"            reduced[{row}, i, l] = slots[{first + k}, l]" for k, row in kept)]


def _point(rule: LaneRule) -> list[str]:
    """The function that puts the point of evaluation into p: it is called as `step` is, behind step t."""
    first = len(rule.stages)
    return _entry("point", _by_stage(rule, range(first, first + len(rule.points))))


def _look(rule: LaneRule, k: int) -> list[str]:
    """The function that puts the point of a look into p: it is called as `step` is, before step t."""
    first = len(rule.stages) + len(rule.points) + k * len(rule.stages)
    return _entry(f"look{k + 1}", [*_begun(rule), *_by_stage(rule, range(first, first + len(rule.stages)))])


def _entry(name: str, lines: Sequence[str]) -> list[str]:
    """A function of the type `step_type`."""
    arguments = "t, hypers, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states"
    return ["", "@njit(STEP, **OPTIONS)", f"def {name}({arguments}):", *(f"    {line}" for line in lines), ""]


def _by_stage(rule: LaneRule, numbers: Sequence[int]) -> list[str]:
    """The stage that t is at, of these programs; the last one repeats."""
    *first_steps, later = (_stage(rule, number) for number in numbers)
    lines = list[str]()
    for k, body in enumerate(first_steps):
        word = "elif" if k else "if"
        lines += [f"{word} t == {k + 1}.0:", *(f"    {line}" for line in body)]
    return [*lines, "else:", *(f"    {line}" for line in later)] if first_steps else later


def _labelled(rule: LaneRule, number: int) -> list[tuple[str, Program]]:
    """What one of the programs measures, and it, in their order, each with what the names of its functions bear."""
    return [
        *((f"{number}phase{k}", program) for k, program in enumerate(rule.measured[number])),
        (f"{number}", rule.programs[number]),
    ]


def _stage(rule: LaneRule, number: int) -> list[str]:
    """The calls of one stage: those of each phase."""
    return [line for label, program in _labelled(rule, number) for line in _phase(rule, program, label)]


def _phase(rule: LaneRule, program: Program, number: str) -> list[str]:
    """The calls of one phase: scalars, then the passes, and what each reduction comes to."""
    own = {"p": "p", "g": "g"} | {n: f"states[{k}]" for k, n in enumerate(rule.states)}
    columns = ", ".join(own[n] for n in program.columns)
    body = [f"scalars{number}(t, hypers, powers, slots, table)"]
    done, places = 0, {node: rule.hypers.index(place) for place, node in program.totals.items()}
    for k, part in enumerate(program.passes):
        if not part.reductions:
            body.append(f"stage{number}pass{k}(tensors, table, reduced, alive, {columns})")
            continue
        body.append(f"stage{number}pass{k}(first, table, reduced, sums, {columns})")
        for row, node in enumerate(part.reductions):
            count = "np.float64(first[i + 1] - first[i])"
            value = NUMBA.of(reduction_of(node).end, f"sums[{row}, i, l]", count)
            body += ["for i in range(len(first) - 1):", "    for l in range(table.shape[1]):"]
            body.append(f"        reduced[{done}, i, l] = {value}")
            if node in places:
                body += ["for l in range(table.shape[1]):", f"    hypers[{places[node]}, l] = 0.0"]
                body += ["for i in range(len(first) - 1):", "    for l in range(table.shape[1]):"]
                body.append(f"        hypers[{places[node]}, l] += sums[{row}, i, l]")
            done += 1
    if program in rule.phase_programs:
        body.append(f"adding{number}(hypers, table, reduced)")
    elif program.numbers:
        body.append(f"stage{number}closing(table, reduced, alive)")
    return body


def _inlined(signature: str, loops: Sequence[str], body: Sequence[str]) -> list[str]:
    """A function that is inlined into `step`: its lines in the innermost of some loops."""
    deeper = [f"{'    ' * (k + 1)}for {loop}:" for k, loop in enumerate(loops)]
    margin = "    " * (len(loops) + 1)
    return [
        "",
        '@njit(inline="always")',
        f"def {signature}:",
        *deeper,
        *(margin + line for line in body or ["pass"]),
        "",
    ]


def _hypers_of(rule: LaneRule, program: Program) -> dict[Node, str]:
    """The hyperparameters where each lane has them."""
    given = program.graph.inputs
    return {given[n]: f"hypers[{k}, l]" for k, n in enumerate(rule.hypers) if n in given}


def _adding(rule: LaneRule, program: Program, number: str) -> list[str]:
    """The function that adds up over tensors what each has one number for."""
    writer = _of_tensors(rule, program)
    body = [writer.define(node) for node in program.closing.per_tensor]
    rows = [rule.hypers.index(place) for place in program.numbers]
    for row, value in zip(rows, program.numbers.values(), strict=True):
        body += ["if i == 0:", f"    hypers[{row}, l] = 0.0", f"hypers[{row}, l] += np.float64({writer.show(value)})"]
    loops = ["i in range(reduced.shape[1])", "l in range(table.shape[1])"]
    return _inlined(f"adding{number}(hypers, table, reduced)", loops, body)


def _of_tensors(rule: LaneRule, program: Program) -> LaneWriter:
    """What writes the numbers of a tensor."""
    writer = LaneWriter(rule.compute)
    writer.names |= {node: f"table[{row}, l]" for row, node in enumerate(program.roots)}
    writer.names |= {node: f"reduced[{row}, i, l]" for row, node in enumerate(program.reductions)}
    given = program.graph.inputs
    writer.names |= {given[name]: f"reduced[{row}, i, l]" for name, row in rule.kept.items() if name in given}
    return writer


def _closing(rule: LaneRule, program: Program, number: str) -> list[str]:
    """The function that brings the slots of one number that follow from reductions up to the step."""
    writer = _of_tensors(rule, program)
    places = {name: f"reduced[{rule.kept[name]}, i, l]" for name in program.numbers}
    body = [writer.define(node) for node in program.closing.per_tensor]
    # One may be what another was: all are read before the first is written.
    body += [f"new{k} = {writer.show(v)}" for k, v in enumerate(program.numbers.values())]
    body += ["if alive[l] != 0:", *(f"    {place} = new{k}" for k, place in enumerate(places.values()))]
    loops = ["i in range(reduced.shape[1])", "l in range(table.shape[1])"]
    return _inlined(f"stage{number}closing(table, reduced, alive)", loops, body)


def _scalars(rule: LaneRule, program: Program, number: str) -> list[str]:
    """The function that fills the table of a phase: each lane's scalars."""
    writer = LaneWriter()
    given = program.graph.inputs
    # In the first steps a power is short to compute; the stage that repeats has them brought up to the step.
    powers = powers_of_t(program) if program is rule.later else []
    rows = {n: k for k, n in enumerate(rule.scalar_slots)}
    writer.names |= _hypers_of(rule, program)
    writer.names |= {given[n]: f"slots[{k}, l]" for n, k in rows.items() if n in given}
    if "t" in given:
        writer.names[given["t"]] = "t"
    writer.names |= {node: f"powers[{k}, l]" for k, node in enumerate(powers)}
    nodes = [n for n in program.graph.live if n.kind is Kind.SCALAR and n.op != "input" and n not in powers]
    body = [writer.define(node) for node in nodes]
    body += [f"table[{row}, l] = {writer.show(node)}" for row, node in enumerate(program.roots)]
    body += [f"new{k} = {writer.show(v)}" for k, v in enumerate(program.scalar_slots.values())]
    body += [f"slots[{rows[n]}, l] = new{k}" for k, n in enumerate(program.scalar_slots)]
    return _inlined(f"scalars{number}(t, hypers, powers, slots, table)", ["l in range(table.shape[1])"], body)


def _advance(rule: LaneRule) -> list[str]:
    """The function that brings the powers of t of the stage that repeats up to the step: one product each."""
    program, writer = rule.later, LaneWriter()
    powers = powers_of_t(program)
    writer.names |= _hypers_of(rule, program)
    wanted: set[Node] = set()
    left = [node.args[0] for node in powers]
    while left:
        node = left.pop()
        if isinstance(node, Node) and node not in wanted:
            wanted.add(node)
            left += node.args
    body = [writer.define(n) for n in program.graph.live if n in wanted and n.op != "input"]
    body += [f"powers[{k}, l] *= {writer.show(node.args[0])}" for k, node in enumerate(powers)]
    return _inlined("advance(hypers, powers)", ["l in range(powers.shape[1])"], body)
