"""A target: a language that kernels are printed in, with its chunks and its launch; and what all targets share.

A target of one's own is one file and one line. The file subclasses three things, as numba_cpu.py and triton_gpu.py do:

- `PassPrinter` (printing.py): how the language loads, stores and reduces. How it writes an operation is its column of the table.
- `Kernel`: how many elements a chunk has, the source, how a pass runs, how the parts of a reduction become one number.
- `Chunks`, if its memory is not the host's: how a launch's arrays get to the device. `HostChunks` serves otherwise.

The line is the target's row in `TARGETS` (optim/backends.py): its name, its device and its import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.arithmetic import computing
from steprule.compiler import cache
from steprule.compiler.graph import Node
from steprule.compiler.interpret import interpret
from steprule.compiler.printing import PRODUCTS
from steprule.compiler.rounding import LOW
from steprule.compiler.split import Program

ARGUMENTS = ("addresses", "tensors", "offsets", "lengths", "table", "which", "reduced", "partial")
"""What a pass takes, in this order: `addresses` [columns, tensors]; `tensors`, `offsets` and `lengths` [chunks]; `table`
[roots, distinct]; `which` [tensors]; `reduced` [reductions, tensors]; `partial` [reductions of the pass, chunks]."""


@dataclass(frozen=True)
class ChunkTable:
    """How tensors are cut: for each chunk its tensor, the offset of its first element, and its length."""

    sizes: tuple[int, ...]
    """The elements of each tensor."""
    tensor: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    first: NDArray[np.int64]
    """The first chunk of each tensor, and behind the last tensor the number of chunks."""

    @classmethod
    def of(cls, sizes: Sequence[int], chunk: int) -> ChunkTable:
        """Cut tensors of these numbers of elements into chunks of at most `chunk`."""
        elements = np.asarray(sizes, dtype=np.int64)
        counts = -(-elements // chunk)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        tensor = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
        offset = (np.arange(first[-1]) - first[tensor]) * chunk
        return cls(tuple(sizes), tensor, offset, np.minimum(chunk, elements[tensor] - offset), first)


@dataclass(frozen=True)
class Products:
    """The inner products of a step over some tensors, as a launch has left them; `PRODUCTS` says of what."""

    parts: Any
    """[PRODUCTS, parts] in float64, where the launch wrote them: reading them waits for a device."""
    tensor: NDArray[Any]
    """[parts]: the tensor of each."""
    count: int
    """The tensors."""

    def added(self) -> NDArray[np.float64]:
        """[PRODUCTS, tensors], the parts of each tensor added in their order."""
        parts = self.parts if isinstance(self.parts, np.ndarray) else self.parts.cpu().numpy()
        return np.stack([np.bincount(self.tensor, row, self.count) for row in parts])


class Chunks(ABC):
    """The chunks of some tensors, where a target's kernels read them, and what they work on in one launch."""

    def __init__(self, sizes: Sequence[int], chunk: int) -> None:
        self.cut = cut = ChunkTable.of(sizes, chunk)
        self.sizes = cut.sizes
        """The elements of each tensor."""
        self.elements, self.count = sum(cut.sizes), len(cut.tensor)
        """Of all tensors; and how many chunks there are."""
        self.products: Products | None = None
        """Of the last launch, where it diagnosed."""

    @abstractmethod
    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Work on these from now on: `addresses` [columns, tensors], `table` [roots, distinct], `which` [tensors]."""

    @abstractmethod
    def of_tensors(self, value: Any) -> Any:
        """A number for all tensors, or an array of one per tensor, where `per_tensor` lies."""

    @abstractmethod
    def per_tensor(self, rows: int, dtype: str) -> Any:
        """Room for reduced numbers, [rows, tensors]."""

    @abstractmethod
    def per_chunk(self, rows: int) -> Any:
        """Room for their parts, [rows, chunks]."""


class HostChunks(Chunks):
    """Chunks whose arrays lie in the host's memory."""

    taken: tuple[NDArray[Any], ...] = ()
    """The first six of `ARGUMENTS`."""

    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Work on these from now on."""
        cut = self.cut
        self.taken = addresses, cut.tensor, cut.offset, cut.length, table, which

    def of_tensors(self, value: Any) -> Any:
        """A number for all tensors, or an array of one per tensor."""
        return value

    def per_tensor(self, rows: int, dtype: str) -> NDArray[Any]:
        """Room for reduced numbers."""
        return np.empty((rows, len(self.sizes)), dtype)

    def per_chunk(self, rows: int) -> NDArray[np.float64]:
        """Room for their parts."""
        return np.empty((rows, self.count))


def _any_low(dtypes: Mapping[str, str]) -> bool:
    return any(dtype in LOW for name, dtype in dtypes.items() if name != "g")


C = TypeVar("C", bound=Chunks)


@dataclass(frozen=True)
class Kernel(ABC, Generic[C]):
    """The compiled passes of a program for given dtypes."""

    program: Program
    dtypes: tuple[str, ...]
    """The dtype of each column of the address table, in torch's names."""
    compute: str
    """The dtype in which the maths is done."""
    stochastic: bool = False
    """Whether the parameter or states are rounded by chance where they are stored. Then the addresses have those of `precision.rows`
    behind them."""
    diagnoses: bool = False
    """Whether a launch leaves the inner products of the step beside its results."""

    @classmethod
    def of(cls, program: Program, dtypes: Mapping[str, str], *, stochastic: bool = False, diagnoses: bool = False) -> Self:  # fmt: skip
        """The kernel of a program for the dtype of each column. The maths is done in the parameter's, but at least in float32."""
        compute = "float64" if dtypes["p"] == "float64" else "float32"
        return cls(program, tuple(dtypes[n] for n in program.columns), compute, stochastic and _any_low(dtypes), diagnoses)  # fmt: skip

    @abstractmethod
    def source(self) -> str:
        """The source of its passes."""

    @abstractmethod
    def chunks(self, sizes: Sequence[int], device: torch.device) -> C:
        """How this target cuts tensors of these numbers of elements."""

    @abstractmethod
    def run(self, k: int, chunks: C, reduced: Any, partial: Any) -> None:
        """Pass `k` over what `chunks` has taken; it reads `reduced` and, where it reduces, writes `partial`."""

    @abstractmethod
    def combine(self, node: Node, chunks: C, of_chunks: Any, of_tensors: Any) -> None:
        """One number per tensor from one per chunk, joined in the order of the chunks."""

    # What is the same in all targets.

    def launch(
        self, addresses: NDArray[np.int64], chunks: C, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any] = (),
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """Update every tensor. `given` is what the program takes from outside: a number for all tensors, or an array of one per
        tensor. The new values of `program.numbers` come back, [tensors]."""
        reduced, _ = self._reduce(addresses, chunks, table, which, given)
        parts = chunks.per_chunk(len(PRODUCTS)) if self.diagnoses else None
        self.run(len(self.program.passes) - 1, chunks, reduced, parts)
        if self.diagnoses:
            chunks.products = Products(parts, chunks.cut.tensor, len(chunks.sizes))
        return self._closed(reduced, table[:, which]) if self.program.numbers else {}

    def add_up(
        self, addresses: NDArray[np.int64], chunks: C, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any] = (),
    ) -> dict[str, float]:  # fmt: skip
        """What all these tensors add to each total of a program that measures: in float64, in the order of the chunks."""
        reduced, sums = self._reduce(addresses, chunks, table, which, given)
        numbers = self._closed(reduced, table[:, which]) if self.program.numbers else {}
        # A step that a CUDA graph records has its table on the device, and reads nothing back.
        stays = isinstance(table, torch.Tensor)
        found = {place: sums[node] if stays else float(sums[node]) for place, node in self.program.totals.items()}
        return found | {place: float(values.sum()) for place, values in numbers.items()}

    def _reduce(
        self, addresses: NDArray[np.int64], chunks: C, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any],
    ) -> tuple[Any, dict[Node, Any]]:  # fmt: skip
        """Run the passes that reduce: the program's reductions, then the given numbers, [both, tensors], None without any; and of
        those reductions that go on over all tensors, their sum over these tensors."""
        chunks.take(addresses, table, which)
        own = len(self.program.reductions)
        sums: dict[Node, Any] = {}
        if not (own or given):
            return None, sums
        reduced = chunks.per_tensor(own + len(given), self.compute)
        for row, value in enumerate(given):
            reduced[own + row] = chunks.of_tensors(value)
        done, wanted = 0, set(self.program.totals.values())
        for k, part in enumerate(self.program.passes):
            if part.reductions:
                partial = chunks.per_chunk(len(part.reductions))
                self.run(k, chunks, reduced, partial)
                for node, of_chunks in zip(part.reductions, partial, strict=True):
                    self.combine(node, chunks, of_chunks, reduced[done])
                    sums[node] = of_chunks.sum() if node in wanted else None
                    done += 1
        return reduced, sums

    def _closed(self, reduced: Any, roots: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The slots of one number that follow from reductions, in the dtype of the maths, [tensors]."""
        program = self.program
        if reduced is None:  # a stage that hands on what it knew before
            reduced = np.empty((0, roots.shape[1]), roots.dtype)
        rows = np.asarray(reduced if isinstance(reduced, np.ndarray) else reduced.cpu())
        known = dict(zip((*program.reductions, *program.given), rows, strict=True))
        known |= zip(program.roots, roots, strict=True)
        with computing(rows, list(known.values())) as (lifted, _):
            known = dict(zip(known, lifted, strict=True))
            interpret(program.closing.per_tensor, known)
        shape = roots.shape[1:]
        values = {n: known[v] if isinstance(v, Node) else float(v) for n, v in program.numbers.items()}
        return {n: np.broadcast_to(np.asarray(v, dtype=np.float64), shape) for n, v in values.items()}

    def printed(self, head: Sequence[str], functions: Sequence[str]) -> str:
        """A source: what it was printed from, then what it imports and defines, then its functions."""
        rule, dtypes = self.program.graph.rule.name, ", ".join(self.dtypes[: len(self.program.columns)])
        return "\n".join([f'"""{rule}: printed by steprule from the rule; {dtypes}."""', "", *head, *functions])

    def loaded(self, form: str, source: str, called: tuple[str, ...], *packages: str) -> ModuleType:
        """The module of a source, from the cache: `called` are the files of ours that it calls, `packages` compile it."""
        return cache.load(f"{self.program.graph.rule.name}_{form}", source, called, *packages)

    def passes_of(self, module: ModuleType) -> list[Any]:
        """The passes that a module of its source defines."""
        return [getattr(module, f"pass{k}") for k in range(len(self.program.passes))]
