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
from steprule.compiler.printing import PassPrinter
from steprule.compiler.split import Program, python_expression

BLOCK = 2048
"""Lanes a chunk: 8 kB a row of float32, so that a chunk of all columns and scalars lies in the first-level cache."""

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
    parallel: bool = True

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
        kernel = LaneKernel(program, self.compute, self.hypers, self.sizes, self.parallel)
        kernel._module.scalars(kernel._hypers, 1.0, kernel._powers, kernel._slots.copy(), kernel._table)
        for k, name in enumerate(kernel.slots):
            kernel._slots[k] = self._slots[self.slots.index(name)]
        return kernel

    @cached_property
    def _module(self) -> Any:
        return lanes_module(self.program, self.compute, parallel=self.parallel)

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


def lanes_module(program: Program, compute: str, *, parallel: bool) -> Any:
    """The compiled lanes form of a program: `scalars` and one function a pass."""
    source = source_of(program, compute, *scalar_inputs(program), parallel=parallel)
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


def source_of(program: Program, compute: str, inputs: Sequence[str], slots: Sequence[str], *, parallel: bool) -> str:
    """The kernel as Python source for Numba: `scalars`, then one function a pass."""
    c, count = compute, len(program.columns)
    columns = ", ".join([f"{c}[:, ::1]"] * count)
    head = [
        f'"""{program.graph.rule.name} over lanes: printed by steprule from the rule; {compute}."""',
        "",
        "from math import exp, log, sqrt",
        "",
        "import numpy as np",
        "from numba import njit, prange",
        "",
        f'OPTIONS = dict(parallel={parallel}, nogil=True, error_model="numpy", cache=True)',
        'SCALARS = "void(float64[:, ::1], float64, float64[:, ::1], float64[:, ::1], ' + f'{c}[:, ::1])"',
        f'STORING = "void(int32[::1], {c}[:, ::1], {c}[:, :, ::1], uint8[::1], {columns})"',
        f'REDUCING = "void(int64[::1], {c}[:, ::1], {c}[:, :, ::1], float64[:, :, ::1], {columns})"',
        "",
    ]
    passes = [_LanesPass(program, k, [c] * count, c).text(parallel) for k in range(len(program.passes))]
    return "\n".join([*head, *_scalars(program, inputs, slots), *passes])


def _scalars(program: Program, inputs: Sequence[str], slots: Sequence[str]) -> list[str]:
    """The function that fills the table of a step: each lane's scalars, in float64."""
    powers = {node: k for k, node in enumerate(powers_of_t(program))}
    given = {program.graph.inputs[n]: f"hypers[{k}, l]" for k, n in enumerate(inputs)}
    given |= {program.graph.inputs[n]: f"slots[{k}, l]" for k, n in enumerate(slots)}
    if "t" in program.graph.inputs:
        given[program.graph.inputs["t"]] = "t"
    names = dict(given)
    lines = []

    def show(arg: Any) -> str:
        return names[arg] if isinstance(arg, Node) else f"({arg!r})"

    for node in program.graph.live:
        if node.kind is not Kind.SCALAR or node.op == "input":
            continue
        names[node] = f"s{len(names)}"
        if node in powers:
            lines += [
                f"powers[{powers[node]}, l] *= {show(node.args[0])}",
                f"{names[node]} = powers[{powers[node]}, l]",
            ]
        elif node.op == "where":
            lines.append(f"{names[node]} = {show(node.args[1])} if {show(node.args[0])} else {show(node.args[2])}")
        else:
            expression = python_expression(node, [show(a) for a in node.args])
            lines.append(f"{names[node]} = {expression.replace('power(', 'pow(').replace('maximum(', 'max(')}")
    for row, node in enumerate(program.roots):
        lines.append(f"table[{row}, l] = {names[node]}")
    for k, name in enumerate(slots):
        value = program.graph.outputs[name]
        lines.append(f"slots[{k}, l] = {show(value)}")
    return [
        "",
        "@njit(SCALARS, **{**OPTIONS, 'parallel': False})",
        "def scalars(hypers, t, powers, slots, table):",
        "    for l in range(table.shape[1]):",
        *(f"        {line}" for line in lines or ["pass"]),
        "",
    ]


class _LanesPass(PassPrinter):
    """One pass as a Python function for Numba: rows outside, lanes inside."""

    def text(self, parallel: bool) -> str:
        loop = "prange" if parallel else "range"
        names = ", ".join(f"c_{n}" for n in self.program.columns)
        constants = [f"{name} = np.{self.compute}({value})" for value, name in self.constants.items()]
        body = self._storing(loop, names) if self.last else self._reducing(loop, names)
        return "\n".join([*constants, "", "", *body, ""])

    def _blocks(self) -> list[str]:
        """Views of the scalars and reductions of a block of lanes, which its loop counts from 0."""
        used = [row for row in range(len(self.program.roots)) if any(f"r_{row}[l]" in x for x in self.whole_tensor)]
        lines = [f"r_{row} = table[{row}, low:high]" for row in used]
        earlier = [k for k in range(len(self.program.reductions)) if any(f"d_{k}[l]" in x for x in self.whole_tensor)]
        return lines + [f"d_{k} = reduced[{k}, i, low:high]" for k in earlier]

    def _storing(self, loop: str, names: str) -> list[str]:
        stores = [f"a_{n}[l] = {v} if living else a_{n}[l]" for n, v in self.stored.items()]
        views = [f"a_{n} = c_{n}[row, low:high]" for _, n in self.columns]
        return [
            "@njit(STORING, **OPTIONS)",
            f"def pass{self.k}(tensors, table, reduced, alive, {names}):",
            "    lanes = table.shape[1]",
            f"    blocks = (lanes + {BLOCK - 1}) // {BLOCK}",
            f"    for c in {loop}(len(tensors) * blocks):",
            f"        row, low = c // blocks, c % blocks * {BLOCK}",
            f"        i, high = tensors[row], min(low + {BLOCK}, lanes)",
            "        lives = alive[low:high]",
            *(f"        {line}" for line in (*self._blocks(), *views)),
            "        for l in range(high - low):",
            "            living = lives[l] != 0",
            *(f"            {line}" for line in (*self.whole_tensor, *self.each_element, *stores)),
        ]

    def _reducing(self, loop: str, names: str) -> list[str]:
        values = []
        for node, result in zip(self.part.reductions, self.results, strict=True):
            shown = f"np.float64({result})"
            values.append(f"{shown} * {shown}" if node.op == "norm" else shown)
        views = [f"a_{n} = c_{n}[row, low:high]" for _, n in self.columns]
        sums = range(len(values))
        return [
            "@njit(REDUCING, **OPTIONS)",
            f"def pass{self.k}(first, table, reduced, sums, {names}):",
            "    lanes = table.shape[1]",
            f"    blocks = (lanes + {BLOCK - 1}) // {BLOCK}",
            f"    for c in {loop}((len(first) - 1) * blocks):",
            f"        i, low = c // blocks, c % blocks * {BLOCK}",
            f"        high = min(low + {BLOCK}, lanes)",
            *(f"        total{r} = sums[{r}, i, low:high]" for r in sums),
            *(f"        total{r}[:] = 0.0" for r in sums),
            *(f"        {line}" for line in self._blocks()),
            "        for row in range(first[i], first[i + 1]):",
            *(f"            {line}" for line in views),
            "            for l in range(high - low):",
            *(f"                {line}" for line in (*self.whole_tensor, *self.each_element)),
            *(f"                total{r}[l] += {value}" for r, value in enumerate(values)),
        ]

    def load(self, name: str) -> str:
        return f"a_{name}[l]"

    def pick(self, condition: str, a: str, b: str) -> str:
        return f"{a} if {condition} else {b}"

    def function(self, name: str, x: str) -> str:
        return f"np.{name}({x})"

    def power(self, a: str, b: str) -> str:
        return f"{a} ** {b}"

    def root(self, row: int) -> str:
        return f"r_{row}[l]"

    def reduced(self, row: int) -> str:
        return f"d_{row}[l]"
