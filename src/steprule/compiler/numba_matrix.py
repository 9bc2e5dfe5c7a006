"""The CPU target of rules of matrices: Numba's passes, and torch's BLAS and LAPACK between them.

Tensors go through the stages in batches, so that what lies between stages is bounded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.arithmetic.floats import function_of
from steprule.compiler.graph import Node
from steprule.compiler.lazy import lazy
from steprule.compiler.numba_cpu import CHUNK, SERIAL_BELOW, NumbaKernel, NumbaPass
from steprule.compiler.numba_rows import RowsPass
from steprule.compiler.printing import PRODUCTS, reduction_of
from steprule.compiler.stages import COPY, Call, MatrixPass, Number, Operand, Staged, StagedProgram
from steprule.compiler.target import ChunkTable, HostChunks, Kernel, Products
from steprule.compiler.threads import allowed
from steprule.maths import OPERATIONS

BATCH_BYTES = 64 * 2**20
"""Bytes that temporaries of a batch take at most; where one tensor takes more, a batch is one tensor."""

MOST_PARTS = 8
"""Into so many parts at most a tensor is cut where columns are added up: each part has a sum of its own per column."""

_ALIGNED = 64
_LOCAL = threading.local()


@dataclass(frozen=True)
class StagedKernel(Kernel[HostChunks]):
    """The stages of a rule of matrices, for tensors of one shape."""

    program: Staged

    def chunks(self, sizes: Sequence[int], device: object = None) -> HostChunks:
        """How this target cuts tensors of these numbers of elements: each pass again for itself."""
        return HostChunks(sizes, CHUNK)

    @cached_property
    def ways(self) -> dict[StagedProgram, WayKernel]:
        """The kernels of each way through the rule's ifs on numbers of the step; they compile when they are first gone."""
        how = self.stochastic, self.diagnoses
        return {way: WayKernel.of_way(way, self.dtypes, self.compute, *how) for _, way in self.program.ways}

    def source(self) -> str:
        """The source of the passes of all ways, one after the other; before each, in comments, its stages and its temporaries."""
        return "\n\n".join(f"{kernel.in_words()}\n\n{kernel.source()}" for kernel in self.ways.values())

    def launch(
        self, addresses: NDArray[np.int64], chunks: HostChunks, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any] = (),
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """Update every tensor, in batches; the new values of `program.numbers` come back, [tensors]."""
        count = len(which)
        found = {name: np.empty(count) for name in self.program.numbers}
        given = [np.broadcast_to(np.asarray(value), (count,)) for value in given]
        products = np.zeros((len(PRODUCTS), count))
        for own in range(table.shape[1]):
            tensors = np.flatnonzero(which == own)
            way = self.ways[self.program.way_of(table[:, own].tolist())]
            for batch in np.array_split(tensors, math.ceil(len(tensors) / way.room)) if len(tensors) else ():
                numbers, own_products = way.step(
                    addresses[:, batch], table, which[batch], [value[batch] for value in given]
                )
                products[:, batch] = own_products
                for name, values in numbers.items():
                    found[name][batch] = values
        if self.diagnoses:
            chunks.products = Products(products, np.arange(count), count)
        return found

    def run(self, k: int, chunks: HostChunks, reduced: Any, partial: Any) -> None:
        """Each way runs its own passes."""
        raise NotImplementedError

    def combine(self, *args: Any) -> None:
        """Each way combines its own."""
        raise NotImplementedError


@dataclass(frozen=True)
class WayKernel(NumbaKernel):
    """The passes of one way, and its calls."""

    program: StagedProgram

    @classmethod
    def of_way(
        cls, way: StagedProgram, dtypes: Sequence[str], compute: str, stochastic: bool, diagnoses: bool
    ) -> WayKernel:
        """The kernel for columns of these dtypes; temporaries are in the dtype of the maths, or in that they were cast to."""
        way = way.as_diagnosed() if diagnoses else way
        dtypes = (*dtypes, *(t.dtype or compute for t in way.temporaries))
        return cls(way, dtypes, compute, stochastic, diagnoses)

    @lazy
    def printers(self) -> list[NumbaPass]:
        """What prints each pass."""
        kinds = [NumbaPass if p.is_flat else RowsPass for p in self._passes]
        return [kind(self.program, k, self.dtypes, self.compute, **self.how) for k, kind in enumerate(kinds)]

    @property
    def _passes(self) -> list[MatrixPass]:
        return [p for p in self.program.passes if isinstance(p, MatrixPass)]

    def in_words(self) -> str:
        """Its stages as comments: what each pass reads and writes, what each call computes, and how much memory lies between them."""
        lines, passed = [], 0
        for stage in self.program.stages:
            if isinstance(stage, Call):
                lines.append(_said(stage))
                continue
            written = {*(stage.stores or {}), *(t.name for t in stage.along.values())}
            results = [*sorted(written), *("one number per tensor" for _ in stage.filled)]
            lines.append(f"pass{passed}: {', '.join(stage.loads) or 'numbers'} -> {', '.join(results)}")
            passed += 1
        lines.append(f"{self.bytes_of_one} bytes of temporaries for each tensor, {self.room} tensors at once at most")
        return "\n".join(f"# {line}" for line in lines)

    # Where temporaries lie.

    @cached_property
    def _layout(self) -> tuple[dict[str, int], int]:
        """The first byte of each temporary within what one tensor needs, and how many bytes that is. Those that are not needed at the
        same time lie over one another."""
        lasts: dict[str, int] = {}
        for k, stage in enumerate(self.program.stages):
            lasts |= dict.fromkeys(_touched(stage), k)
        offsets: dict[str, int] = {}
        living: dict[str, tuple[int, int]] = {}
        for k, stage in enumerate(self.program.stages):
            for name in _touched(stage):
                if name in self._sizes and name not in offsets:
                    offsets[name] = start = _gap(list(living.values()), self._sizes[name])
                    living[name] = start, start + self._sizes[name]
            living = {name: held for name, held in living.items() if lasts[name] > k}
        return offsets, max((offsets[n] + self._sizes[n] for n in offsets), default=0)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The bytes of each temporary of one tensor."""
        dtypes = dict(zip(self.program.laid, self.dtypes, strict=True))
        return {
            t.name: -(-math.prod(self.program.sizes(t.dims)) * _torch_dtype(dtypes[t.name]).itemsize // _ALIGNED)
            * _ALIGNED
            for t in self.program.temporaries
        }

    @property
    def bytes_of_one(self) -> int:
        """What the temporaries of one tensor take."""
        return self._layout[1]

    @property
    def room(self) -> int:
        """How many tensors go through the stages together."""
        return max(1, BATCH_BYTES // max(1, self.bytes_of_one))

    # A step.

    @cached_property
    def _batches(self) -> dict[int, _Batch]:
        return {}

    def step(
        self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
        """Take a batch of tensors, which use one column of the table, through the stages. The new values of `program.numbers`, [tensors],
        and the inner products, [PRODUCTS, tensors], come back; zeros where it does not diagnose."""
        count, values = len(which), table[:, which[0]].tolist()
        batch = self._batch(count)
        own = len(self.program.columns)  # behind them, by what the parameter is rounded
        addresses = np.ascontiguousarray(np.concatenate([addresses[:own], batch.addresses, addresses[own:]]))
        reduced = np.empty((len(self.program.reductions) + len(given), count), self.compute)
        for row, value in enumerate(given, start=len(self.program.reductions)):
            reduced[row] = value
        numbers = dict(zip(self.program.roots, values, strict=True))
        products = np.zeros((len(PRODUCTS), count))
        passed = 0
        for stage in self.program.stages:
            if isinstance(stage, Call):
                _call(stage, batch.stacks, numbers)
                continue
            partial = self._pass(passed, stage, batch, (addresses, table, which), reduced)
            if self.printers[passed].diagnoses:
                products = Products(partial, batch.cuts[passed].tensor, count).added()
            passed += 1
        return self._closed(reduced, table[:, which]) if self.program.numbers else {}, products

    def _pass(
        self, k: int, part: MatrixPass, batch: _Batch, taken: tuple[Any, ...], reduced: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Run one pass; what it has left per chunk comes back."""
        cut = batch.cuts[k]
        addresses, table, which = taken
        along = [node for node in part.along if node.args[1] == -2]
        whole = [node for node in part.reductions if node not in part.along]
        rows = len(PRODUCTS) if self.printers[k].diagnoses else len(whole)
        partial = np.empty((rows, len(cut.tensor)))
        given = [addresses, cut.tensor, cut.offset, cut.length, table, which, reduced, partial]
        width = self.program.sizes(part.domain)[-1] if part.domain else 1
        sums = np.empty((len(along), len(cut.tensor), width))
        if not part.is_flat:
            given += [width, sums]
        elements = len(which) * math.prod(self.program.sizes(part.domain))
        threads = allowed() if elements >= SERIAL_BELOW else 1
        self.compiled[k](len(cut.tensor), threads, *given)
        for row, node, own in zip(part.filled, whole, partial[: len(whole)], strict=True):
            of = reduction_of(node)
            total = np.full(len(which), of.start)
            with np.errstate(all="ignore"):
                getattr(np, of.join).at(total, cut.tensor, own)
                reduced[row] = of.end(total, np.full(len(which), elements / len(which)))
        for node, own in zip(along, sums, strict=True):
            of = reduction_of(node)
            parts = own.reshape(len(which), len(cut.tensor) // len(which), width)
            with np.errstate(all="ignore"):
                total = getattr(np, of.join).reduce(parts, axis=1, initial=of.start)
                found = of.end(total, np.full(1, float(self.program.sizes(part.domain)[0])))
            batch.stacks[part.along[node].name].copy_(torch.from_numpy(np.asarray(found))[:, None, :])
        return partial

    def _batch(self, count: int) -> _Batch:
        memory = _scratch(self.bytes_of_one * count)
        held = self._batches.get(count)
        if held is None or held.memory is not memory:
            offsets, _ = self._layout
            stacks = {}
            dtypes = dict(zip(self.program.laid, self.dtypes, strict=True))
            for t in self.program.temporaries:
                dtype = _torch_dtype(dtypes[t.name])
                shape, step = self.program.sizes(t.dims), self._sizes[t.name] // dtype.itemsize
                start = offsets[t.name] * count // dtype.itemsize
                stacks[t.name] = memory.view(dtype).as_strided((count, *shape), (step, *_strides(shape)), start)
            addresses = [[s.data_ptr() + i * s.stride(0) * s.itemsize for i in range(count)] for s in stacks.values()]
            cuts = [self._cut(p, count) for p in self._passes]
            held = _Batch(memory, stacks, np.array(addresses, np.int64).reshape(len(stacks), count), cuts)
            self._batches[count] = held
        return held

    def _cut(self, part: MatrixPass, count: int) -> ChunkTable:
        shape = self.program.sizes(part.domain)
        if part.is_flat:
            return ChunkTable.of([math.prod(shape)] * count, CHUNK)
        rows = max(1, CHUNK // max(1, shape[1]))
        if any(node.args[1] == -2 for node in part.along):
            rows = max(rows, -(-shape[0] // MOST_PARTS))
        return ChunkTable.of([shape[0]] * count, rows)


@dataclass(frozen=True)
class _Batch:
    """Room for the temporaries of some tensors, and how each pass cuts them."""

    memory: Tensor
    stacks: Mapping[str, Tensor]
    """Of each temporary, [tensors, rows, columns]."""
    addresses: NDArray[np.int64]
    """[temporaries, tensors]."""
    cuts: list[ChunkTable]


def _scratch(count: int) -> Tensor:
    """Memory of this thread for so many bytes; what it held before is lost."""
    held: Tensor | None = getattr(_LOCAL, "memory", None)
    if held is None or held.numel() < count:
        with torch.inference_mode(False):
            held = _LOCAL.memory = torch.empty(count, dtype=torch.uint8, device="cpu")
    return held


def _touched(stage: MatrixPass | Call) -> Iterator[str]:
    """The columns and temporaries that a stage reads or writes."""
    if isinstance(stage, Call):
        return iter((*(o.name for o in stage.operands), stage.out.name))
    return iter(stage.kinds)


def _gap(held: list[tuple[int, int]], size: int) -> int:
    """Where so many bytes fit between what is held, the lowest place."""
    start = 0
    for first, end in sorted(held):
        if first - start >= size:
            break
        start = max(start, end)
    return start


def _torch_dtype(name: str) -> torch.dtype:
    return getattr(torch, name)  # type: ignore[no-any-return]


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _call(call: Call, stacks: Mapping[str, Tensor], numbers: Mapping[Any, float]) -> None:
    """One function of whole matrices, of all tensors of a batch."""

    def value(number: Number) -> float:
        return numbers[number] if not isinstance(number, float) else number

    def read(operand: Operand) -> Tensor:
        held = stacks[operand.name]
        return held.mT if operand.flipped else held

    out, args = stacks[call.out.name], [read(o) for o in call.args]
    if call.op == COPY:
        out.copy_(args[0])
    elif call.op != "matmul":
        row = OPERATIONS[call.op]
        found = function_of(torch, row, row.torch)(*args, *(_whole(value(n)) for n in call.numbers))
        out.copy_(found)
    elif call.added is None and call.alpha == 1.0:
        torch.bmm(*args, out=out)
    else:
        added, beta = (out, 0.0) if call.added is None else (read(call.added), value(call.beta))
        torch.baddbmm(added, *args, beta=beta, alpha=value(call.alpha), out=out)


def _said(call: Call) -> str:
    """A call as the rule's language writes it."""
    args = [f"{o.name}.T" if o.flipped else o.name for o in call.args]
    if call.op == "matmul":
        text = f"{_scale(call.alpha)}{args[0]} @ {args[1]}"
        if call.added is not None:
            text += f" + {_scale(call.beta)}{call.added.name}{'.T' if call.added.flipped else ''}"
    else:
        numbers = [(n.name or "number") if isinstance(n, Node) else str(_whole(n)) for n in call.numbers]
        text = args[0] if call.op == COPY else f"{call.op}({', '.join([*args, *numbers])})"
    return f"{call.out.name} = {text}"


def _scale(number: Number) -> str:
    if number == 1.0:
        return ""
    return f"{number.name or 'number'} * " if isinstance(number, Node) else f"{number} * "


def _whole(number: float) -> float | int:
    """An axis is a whole number."""
    return int(number) if number == int(number) else number
