"""What a compiled form offers: a kernel for a program and dtypes, a cut of tensors into chunks, a launch.

cpu.py's kernels are Numba's, gpu.py's are Triton's. What both do alike stands here: which
dtype the maths has, where each chunk lies, and the order of the passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.arithmetic import computing
from steprule.compiler.graph import Node
from steprule.compiler.interpret import interpret
from steprule.compiler.split import Program


@dataclass(frozen=True)
class Cut:
    """How tensors are cut: for each chunk its tensor, the offset of its first element, and its length."""

    sizes: tuple[int, ...]
    """The elements of each tensor."""
    tensor: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    first: NDArray[np.int64]
    """The first chunk of each tensor, and behind the last tensor the number of chunks."""

    @classmethod
    def of(cls, sizes: Sequence[int], chunk: int) -> Cut:
        """Cut tensors of these numbers of elements into chunks of at most `chunk`."""
        elements = np.asarray(sizes, dtype=np.int64)
        counts = -(-elements // chunk)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        tensor = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
        offset = (np.arange(first[-1]) - first[tensor]) * chunk
        return cls(tuple(sizes), tensor, offset, np.minimum(chunk, elements[tensor] - offset), first)


class Chunks(Protocol):
    """The chunks of some tensors, where a form's kernels read them, and what they work on in one launch."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The elements of each tensor."""

    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Work on these from now on: `addresses` [columns, tensors], `table` [roots, distinct], `which` [tensors]."""

    def of_tensors(self, value: Any) -> Any:
        """A number for all tensors, or an array of one for each, where `per_tensor` lies."""

    def per_tensor(self, rows: int, dtype: str) -> Any:
        """Room for reduced numbers, [rows, tensors]."""

    def per_chunk(self, rows: int) -> Any:
        """Room for their parts, [rows, chunks]."""


C = TypeVar("C", bound=Chunks)


@dataclass(frozen=True)
class Kernel(ABC, Generic[C]):
    """The compiled passes of a program for given dtypes."""

    program: Program
    dtypes: tuple[str, ...]
    """Of each column of the address table, in torch's names."""
    compute: str
    """The dtype in which the maths is done."""

    @abstractmethod
    def chunks(self, sizes: Sequence[int], device: torch.device) -> C:
        """How this form cuts tensors of these numbers of elements."""

    @abstractmethod
    def run(self, k: int, chunks: C, reduced: Any, partial: Any) -> None:
        """Pass `k` over what `chunks` has taken; it reads `reduced` and, where it reduces, writes `partial`."""

    @abstractmethod
    def combine(self, node: Node, chunks: C, of_chunks: Any, of_tensors: Any) -> None:
        """One number a tensor from one a chunk, joined in the order of the chunks."""

    def launch(
        self, addresses: NDArray[np.int64], chunks: C, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any] = (),
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """Update every tensor. `given` is what the program takes from outside: a number or a 0-dim tensor for all tensors, or
        an array of one for each. The new values of `program.numbers` come back, [tensors]."""
        reduced = self.reduce(addresses, chunks, table, which, given)
        self.run(len(self.program.passes) - 1, chunks, reduced, None)
        return self._closed(reduced, table[:, which]) if self.program.numbers else {}

    def _closed(self, reduced: Any, roots: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The slots of one number that follow from reductions, in the dtype of the maths, [tensors]."""
        program = self.program
        if reduced is None:  # a stage that hands on what it knew before
            reduced = np.empty((0, roots.shape[1]), roots.dtype)
        rows = np.asarray(reduced if isinstance(reduced, np.ndarray) else reduced.cpu())
        known = dict(zip((*program.reductions, *program.given), rows, strict=True)) | dict(
            zip(program.roots, roots, strict=True)
        )
        with computing(rows, list(known.values())) as (lifted, _):
            known = dict(zip(known, lifted, strict=True))
            interpret(program.closing.per_tensor, known)
        shape = roots.shape[1:]
        values = {n: known[v] if isinstance(v, Node) else float(v) for n, v in program.numbers.items()}
        return {n: np.broadcast_to(np.asarray(v, dtype=np.float64), shape) for n, v in values.items()}

    def reduce(
        self, addresses: NDArray[np.int64], chunks: C, table: NDArray[Any], which: NDArray[np.int32], given: Sequence[Any] = (),
    ) -> Any:  # fmt: skip
        """Run the passes that reduce: the program's reductions, then the given ones, [both, tensors]; None without any."""
        chunks.take(addresses, table, which)
        own = len(self.program.reductions)
        if not (own or given):
            return None
        reduced = chunks.per_tensor(own + len(given), self.compute)
        for row, value in enumerate(given):
            reduced[own + row] = chunks.of_tensors(value)
        done = 0
        for k, part in enumerate(self.program.passes):
            if part.reductions:
                partial = chunks.per_chunk(len(part.reductions))
                self.run(k, chunks, reduced, partial)
                for node, of_chunks in zip(part.reductions, partial, strict=True):
                    self.combine(node, chunks, of_chunks, reduced[done])
                    done += 1
        return reduced


class Compiler(Protocol):
    """A form's module, which prints and loads kernels."""

    def kernel_for(self, program: Program, dtypes: Mapping[str, str]) -> Kernel[Any]:
        """The kernel of a program for the dtype of each column."""

    def source_of(self, program: Program, dtypes: Sequence[str], compute: str) -> str:
        """The source of its passes; where there are serial and parallel ones, of the parallel."""


def compute_for(dtypes: Mapping[str, str]) -> str:
    """The dtype in which the maths is done: the parameter's, but at least float32."""
    return "float64" if dtypes["p"] == "float64" else "float32"
