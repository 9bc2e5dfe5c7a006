"""The lanes form: one Numba kernel steps thousands of models at once, each with hyperparameters of its own.

A model's parameters are rows, lanes are columns, so that neighbours in memory are the same parameter of two lanes, and
every scalar of the rule is a vector over lanes. `scalars` brings them up to the step in float64; the passes are those of
the other forms; `step` is all of it. A lane that is not alive keeps its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.compiler import cache
from steprule.compiler.graph import Kind, Node
from steprule.compiler.lazy import lazy
from steprule.compiler.printing import NumbaOperations, PassPrinter
from steprule.compiler.split import Program, literal

Array = NDArray[Any]


@dataclass(frozen=True)
class LaneRule:
    """One variant of a rule over lanes: its first step, where slots may be absent, and the later ones."""

    first: Program
    later: Program
    compute: str
    """float32 or float64, as the parameters are."""

    @lazy
    def modules(self) -> tuple[Any, Any]:
        """The compiled functions `scalars` and `step` of the first step and of the later ones."""
        kind = f"{self.later.graph.rule.name}_lanes"
        found = []
        for program in (self.first, self.later):
            source = source_of(program, self.compute, self.states)
            found.append(cache.load(kind, source, cache.INTRINSICS, *cache.NUMBA))
        return found[0], found[1]

    @property
    def states(self) -> list[str]:
        """The slots of a number an element, in the order of `states` [slots, rows, lanes]."""
        return [n for n in self.later.columns if n not in ("p", "g")]

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """The rows that a step needs: of the table, of both programs' powers, and of reductions."""
        table = max(len(p.roots) for p in (self.first, self.later))
        powers = [len(powers_of_t(p)) for p in (self.first, self.later)]
        reductions = max(len(p.reductions) for p in (self.first, self.later))
        return max(1, table), max(1, powers[0]), max(1, powers[1]), max(1, reductions)

    def rows_of(self, names: Sequence[str], hypers: Mapping[str, Array], lanes: int) -> Array:
        """Hyperparameters, or what slots start at, as [names, lanes]."""
        starts = {s.name: s.start for s in self.later.graph.rule.slots}
        values = [starts.get(n, n) for n in names]
        rows = [np.broadcast_to(hypers[v] if isinstance(v, str) else v, (lanes,)) for v in values]
        return np.array(rows, dtype=np.float64).reshape(len(rows), lanes)


def layout(sizes: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The tensor to which each row belongs, and the first row of each tensor, with the end."""
    tensors = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return tensors, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def scalar_inputs(program: Program) -> tuple[list[str], list[str]]:
    """The hyperparameters that a program reads, and its one-number-a-tensor slots, in the order of their rows."""
    names = [n for n, node in program.graph.inputs.items() if node.kind is Kind.SCALAR and n != "t"]
    slots = {s.name for s in program.graph.rule.slots if s.per_tensor}
    return [n for n in names if n not in slots], [n for n in names if n in slots]


def powers_of_t(program: Program) -> list[Node]:
    """The scalars base**t whose base does not change with the step: one product a step brings them up to it."""
    t = program.graph.inputs.get("t")
    scalars = [n for n in program.graph.live if n.kind is Kind.SCALAR]
    changing = {t}
    for node in scalars:
        if node.op != "input" and any(a in changing for a in node.args if isinstance(a, Node)):
            changing.add(node)
    slots = {program.graph.inputs.get(s.name) for s in program.graph.rule.slots if s.per_tensor}
    return [n for n in scalars if n.op == "pow" and n.args[1] is t and n.args[0] not in changing | slots]


def source_of(program: Program, compute: str, states: Sequence[str]) -> str:
    """The kernel as Python source for Numba: `scalars`, one function a pass, and `step`, which calls them."""
    c, count = compute, len(program.columns)
    columns = ", ".join([f"{c}[:, ::1]"] * count)
    head = [
        f'"""{program.graph.rule.name} over lanes: printed by steprule from the rule; {compute}."""',
        "",
        "import numpy as np",
        "from numba import njit",
        "",
        'OPTIONS = dict(nogil=True, error_model="numpy", cache=True)',
        f'SCALARS = "{scalars_type(c)}"',
        f'STORING = "void(int32[::1], {c}[:, ::1], {c}[:, :, ::1], uint8[::1], {columns})"',
        f'REDUCING = "void(int64[::1], {c}[:, ::1], {c}[:, :, ::1], float64[:, :, ::1], {columns})"',
        f'STEP = "{step_type(c)}"',
        "",
    ]
    passes = [_LanesPass(program, k, [c] * count, c).text() for k in range(len(program.passes))]
    return "\n".join([*head, *_Scalars(program).lines, *passes, *_step(program, states)])


def scalars_type(compute: str) -> str:
    """Numba's type of `scalars(hypers, t, powers, slots, table)`."""
    f = "float64[:, ::1]"
    return f"void({f}, float64, {f}, {f}, {compute}[:, ::1])"


def step_type(compute: str) -> str:
    """Numba's type of `step(t, hypers, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states)`."""
    c, f = compute, "float64[:, ::1]"
    return (
        f"void(float64, {f}, {f}, {f}, {c}[:, ::1], int32[::1], int64[::1], {c}[:, :, ::1], float64[:, :, ::1], "
        f"uint8[::1], {c}[:, ::1], {c}[:, ::1], {c}[:, :, ::1])"
    )


def _step(program: Program, states: Sequence[str]) -> list[str]:
    """The function of a whole step: scalars, then the passes, and what each reduction comes to."""
    own = {n: f"states[{k}]" for k, n in enumerate(states)}
    columns = ", ".join({"p": "p", "g": "g"}.get(n, own.get(n, "")) for n in program.columns)
    body, done = ["scalars(hypers, t, powers, slots, table)"], 0
    for k, part in enumerate(program.passes):
        if not part.reductions:
            body.append(f"pass{k}(tensors, table, reduced, alive, {columns})")
            continue
        body.append(f"pass{k}(first, table, reduced, sums, {columns})")
        for row, node in enumerate(part.reductions):
            value = f"sums[{row}, i, l]"
            value = f"np.sqrt({value})" if node.op == "norm" else value
            value = f"{value} / (first[i + 1] - first[i])" if node.op == "mean" else value
            body += ["for i in range(len(first) - 1):", "    for l in range(table.shape[1]):"]
            body.append(f"        reduced[{done}, i, l] = {value}")
            done += 1
    arguments = "t, hypers, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states"
    return ["", "@njit(STEP, **OPTIONS)", f"def step({arguments}):", *(f"    {line}" for line in body), ""]


class _Scalars(NumbaOperations):
    """The function that fills the table of a step: each lane's scalars, in float64."""

    def __init__(self, program: Program) -> None:
        powers = {node: k for k, node in enumerate(powers_of_t(program))}
        inputs, slots = scalar_inputs(program)
        given = program.graph.inputs
        self.names = {given[n]: f"hypers[{k}, l]" for k, n in enumerate(inputs)}
        self.names |= {given[n]: f"slots[{k}, l]" for k, n in enumerate(slots)}
        if "t" in given:
            self.names[given["t"]] = "t"
        body = []
        for node in program.graph.live:
            if node.kind is not Kind.SCALAR or node.op == "input":
                continue
            value = f"powers[{powers[node]}, l]" if node in powers else self.expression(node)
            if node in powers:
                body.append(f"{value} *= {self.show(node.args[0])}")
            self.names[node] = f"s{len(self.names)}"
            body.append(f"{self.names[node]} = {value}")
        body += [f"table[{row}, l] = {self.show(node)}" for row, node in enumerate(program.roots)]
        outputs = {name: program.graph.outputs[name] for name in slots}
        body += [f"slots[{k}, l] = {self.show(v)}" for k, v in enumerate(outputs.values()) if v is not None]
        self.lines = [
            "",
            "@njit(SCALARS, **OPTIONS)",
            "def scalars(hypers, t, powers, slots, table):",
            "    for l in range(table.shape[1]):",
            *(f"        {line}" for line in body or ["pass"]),
            "",
        ]

    def show(self, arg: Node | float | int | bool) -> str:
        return self.names[arg] if isinstance(arg, Node) else f"np.float64({literal(arg)})"


class _LanesPass(NumbaOperations, PassPrinter):
    """One pass as a Python function for Numba: rows outside, lanes inside."""

    def text(self) -> str:
        names = ", ".join(f"c_{n}" for n in self.program.columns)
        constants = [f"{name} = np.{self.compute}({value})" for value, name in self.constants.items()]
        body = self._storing(names) if self.last else self._reducing(names)
        return "\n".join([*constants, "", "", *body, ""])

    @property
    def _views(self) -> list[str]:
        """A row of each column: an index from 0 along one dimension is what LLVM makes vectors of."""
        return [f"a_{n} = c_{n}[row]" for _, n in self.columns]

    @property
    def _scalar_views(self) -> list[str]:
        """The same of the scalars and the reductions of tensor i, those that are used."""
        found = [(f"r_{row}", f"table[{row}]") for row in range(len(self.program.roots))]
        found += [(f"d_{k}", f"reduced[{k}, i]") for k in range(len(self.program.reductions))]
        return [f"{n} = {view}" for n, view in found if any(f"{n}[l]" in line for line in self.whole_tensor)]

    def _storing(self, names: str) -> list[str]:
        stores = [f"a_{n}[l] = {v} if living else a_{n}[l]" for n, v in self.stored.items()]
        return [
            '@njit(inline="always")',
            f"def pass{self.k}(tensors, table, reduced, alive, {names}):",
            "    for row in range(len(tensors)):",
            "        i = tensors[row]",
            *(f"        {line}" for line in (*self._scalar_views, *self._views)),
            "        for l in range(table.shape[1]):",
            "            living = alive[l] != 0",
            *(f"            {line}" for line in (*self.whole_tensor, *self.each_element, *stores)),
        ]

    def _reducing(self, names: str) -> list[str]:
        values = self.summands("np.float64({})".format)
        return [
            '@njit(inline="always")',
            f"def pass{self.k}(first, table, reduced, sums, {names}):",
            "    sums[:] = 0.0",
            "    for i in range(len(first) - 1):",
            *(f"        total{r} = sums[{r}, i]" for r in range(len(values))),
            *(f"        {line}" for line in self._scalar_views),
            "        for row in range(first[i], first[i + 1]):",
            *(f"            {line}" for line in self._views),
            "            for l in range(table.shape[1]):",
            *(f"                {line}" for line in (*self.whole_tensor, *self.each_element)),
            *(f"                total{r}[l] += {value}" for r, value in enumerate(values)),
        ]

    def load(self, name: str) -> str:
        return f"a_{name}[l]"

    def root(self, row: int) -> str:
        return f"r_{row}[l]"

    def reduced(self, row: int) -> str:
        return f"d_{row}[l]"
