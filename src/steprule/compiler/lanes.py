"""The lanes form: one Numba kernel steps thousands of models at once, each with hyperparameters of its own.

A model's parameters are rows, lanes are columns, so that neighbours in memory are the same parameter of two lanes, and
every scalar of the rule is a vector over lanes. `scalars` brings them up to the step in float64; the passes are those of
the other forms. A lane that is not alive keeps its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.compiler import cache
from steprule.compiler.graph import Kind, Node
from steprule.compiler.printing import NumbaOperations, PassPrinter
from steprule.compiler.split import Program, literal

Array = NDArray[Any]


@dataclass
class LaneKernel:
    """One variant of a rule over lanes; the arrays of one block."""

    program: Program
    compute: str
    """float32 or float64, as the parameters are."""
    hypers: Mapping[str, Array]
    """Each hyperparameter, [lanes]."""
    sizes: Sequence[int]
    """The rows of each tensor of the model."""

    def __post_init__(self) -> None:
        self.lanes = len(next(iter(self.hypers.values())))
        slots = {s.name: s.start for s in self.program.graph.rule.slots if s.per_tensor}
        self.inputs, self.slots = scalar_inputs(self.program)
        self.tensors = np.repeat(np.arange(len(self.sizes), dtype=np.int32), self.sizes)
        self.first = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        rows = [np.broadcast_to(np.asarray(self.hypers[n], dtype=np.float64), (self.lanes,)) for n in self.inputs]
        self._hypers = np.array(rows, dtype=np.float64).reshape(len(rows), self.lanes)
        starts = [self.hypers[slots[n]] if isinstance(slots[n], str) else slots[n] for n in self.slots]  # type: ignore[index]
        self._slots = np.array([np.broadcast_to(s, (self.lanes,)) for s in starts], dtype=np.float64)
        self._slots = self._slots.reshape(len(starts), self.lanes)
        self._powers = np.ones((len(powers_of_t(self.program)), self.lanes))
        self._table = np.empty((len(self.program.roots), self.lanes), dtype=self.compute)

    def followed_by(self, program: Program) -> LaneKernel:
        """The same lanes after the first step, where a slot that was absent is there now."""
        kernel = LaneKernel(program, self.compute, self.hypers, self.sizes)
        kernel._module.scalars(kernel._hypers, 1.0, kernel._powers, kernel._slots.copy(), kernel._table)
        for k, name in enumerate(kernel.slots):
            kernel._slots[k] = self._slots[self.slots.index(name)]
        return kernel

    @cached_property
    def _module(self) -> Any:
        return lanes_module(self.program, self.compute)

    def step(self, t: int, columns: Mapping[str, Array], alive: NDArray[np.uint8], lr_factor: float = 1.0) -> None:
        """One step of every lane. `columns` [rows, lanes]: p, g and the slots; p and the slots are written."""
        module = self._module
        hypers = self._hypers
        if lr_factor != 1.0 and "lr" in self.inputs:
            hypers = hypers.copy()
            hypers[self.inputs.index("lr")] *= lr_factor
        module.scalars(hypers, float(t), self._powers, self._slots, self._table)
        arrays = tuple(columns[n] for n in self.program.columns)
        reduced = np.empty((len(self.program.reductions), len(self.sizes), self.lanes), dtype=self.compute)
        done = 0
        for k, part in enumerate(self.program.passes):
            function = getattr(module, f"pass{k}")
            if not part.reductions:
                function(self.tensors, self._table, reduced, alive, *arrays)
                continue
            sums = np.empty((len(part.reductions), len(self.sizes), self.lanes))
            function(self.first, self._table, reduced, sums, *arrays)
            for node, total in zip(part.reductions, sums, strict=True):
                with np.errstate(all="ignore"):
                    mean = total / np.asarray(self.sizes)[:, None]
                reduced[done] = np.sqrt(total) if node.op == "norm" else mean if node.op == "mean" else total
                done += 1


def scalar_inputs(program: Program) -> tuple[list[str], list[str]]:
    """The hyperparameters that a program reads, and its one-number-a-tensor slots, in the order of their rows."""
    names = [n for n, node in program.graph.inputs.items() if node.kind is Kind.SCALAR and n != "t"]
    slots = {s.name for s in program.graph.rule.slots if s.per_tensor}
    return [n for n in names if n not in slots], [n for n in names if n in slots]


def lanes_module(program: Program, compute: str) -> Any:
    """The compiled lanes form of a program: `scalars` and one function a pass."""
    source = source_of(program, compute)
    return cache.load(f"{program.graph.rule.name}_lanes", source, cache.INTRINSICS, *cache.NUMBA)


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


def source_of(program: Program, compute: str) -> str:
    """The kernel as Python source for Numba: `scalars`, then one function a pass."""
    c, count = compute, len(program.columns)
    columns = ", ".join([f"{c}[:, ::1]"] * count)
    head = [
        f'"""{program.graph.rule.name} over lanes: printed by steprule from the rule; {compute}."""',
        "",
        "import numpy as np",
        "from numba import njit",
        "",
        'OPTIONS = dict(nogil=True, error_model="numpy", cache=True)',
        'SCALARS = "void(float64[:, ::1], float64, float64[:, ::1], float64[:, ::1], ' + f'{c}[:, ::1])"',
        f'STORING = "void(int32[::1], {c}[:, ::1], {c}[:, :, ::1], uint8[::1], {columns})"',
        f'REDUCING = "void(int64[::1], {c}[:, ::1], {c}[:, :, ::1], float64[:, :, ::1], {columns})"',
        "",
    ]
    passes = [_LanesPass(program, k, [c] * count, c).text() for k in range(len(program.passes))]
    return "\n".join([*head, *_Scalars(program).lines, *passes])


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
            "@njit(STORING, **OPTIONS)",
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
            "@njit(REDUCING, **OPTIONS)",
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
