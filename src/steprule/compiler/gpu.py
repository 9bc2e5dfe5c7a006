"""The GPU form: one Triton kernel updates all tensors of a group, one launch a pass. The only file that imports triton.

As on the CPU, a kernel takes a row of addresses a tensor, (tensor, offset, length) a chunk, and a table of scalars. One
program of the launch has one chunk. Nothing is autotuned: trying a kernel that updates in place would update more than once.
With TRITON_INTERPRET=1 the same source runs on CPU tensors in Triton's interpreter, which is how it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler import cache
from steprule.compiler.form import Cut, Kernel, compute_for
from steprule.compiler.lazy import lazy
from steprule.compiler.printing import PassPrinter
from steprule.compiler.split import Program

CHUNK = 1024
"""Elements a chunk: eight for each of the 128 threads of a program."""


@dataclass(frozen=True)
class TritonKernel(Kernel["GpuChunks"]):
    """Triton's passes."""

    def chunks(self, sizes: Sequence[int], device: torch.device) -> GpuChunks:
        """How this form cuts tensors of these numbers of elements."""
        return GpuChunks(sizes, device)

    @lazy
    def passes(self) -> list[Any]:
        """The functions that Triton compiles at their first launch."""
        source = source_of(self.program, self.dtypes, self.compute)
        module = cache.load(f"{self.program.graph.rule.name}_triton", source, __file__, "triton")
        return [getattr(module, f"pass{k}") for k in range(len(self.program.passes))]

    def run(self, k: int, chunks: GpuChunks, reduced: Any, partial: Any) -> None:
        """One pass, one program of the launch a chunk."""
        if not chunks.count:
            return
        table = chunks.held["table"]
        reduced = table if reduced is None else reduced  # an argument that this pass does not read
        args = (
            *(chunks.held["addresses"], len(chunks.sizes), chunks.tensor, chunks.offset, chunks.length),
            *(table, table.shape[1], chunks.held["which"], reduced, reduced if partial is None else partial),
        )
        with chunks.on_device():
            # Unfused: a product rounds before its sum, as on the CPU, so that both give the same bits.
            self.passes[k][(chunks.count,)](*args, chunks.count, CHUNK=CHUNK, enable_fp_fusion=False)


class GpuChunks:
    """A cut and the arrays of a launch, on the device."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        cut = Cut.of(sizes, CHUNK)
        self.sizes, self.device, self.count = cut.sizes, device, len(cut.tensor)
        elements = np.asarray(cut.sizes, dtype=np.int64)
        self.tensor, self.offset, self.length, self.first, self.elements = (
            torch.from_numpy(array).to(device) for array in (cut.tensor, cut.offset, cut.length, cut.first, elements)
        )
        self.held: dict[str, Tensor] = {}
        """The addresses, table and which of the launch in hand."""
        self._sent: dict[str, NDArray[Any]] = {}
        """What they were made from."""

    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Bring what changed since the last launch to the device."""
        for name, array in (("addresses", addresses), ("table", table), ("which", which)):
            if name not in self._sent or not np.array_equal(self._sent[name], array):
                self._sent[name] = array.copy()
                self.held[name] = torch.from_numpy(self._sent[name]).to(self.device, non_blocking=True)

    def of_tensors(self, value: Any) -> Any:
        """A number for all tensors, or an array of one for each."""
        return torch.from_numpy(np.ascontiguousarray(value)).to(self.device) if isinstance(value, np.ndarray) else value

    def per_tensor(self, rows: int, dtype: str) -> Tensor:
        """Room for reduced numbers."""
        return torch.empty((rows, len(self.sizes)), dtype=getattr(torch, dtype), device=self.device)

    def per_chunk(self, rows: int) -> Tensor:
        """Room for their parts."""
        return torch.empty((rows, self.count), dtype=torch.float64, device=self.device)

    def combine(self, op: str, of_chunks: Tensor, of_tensors: Tensor) -> None:
        """One number a tensor from one a chunk."""
        with self.on_device():
            _combine[(len(self.sizes),)](of_chunks, self.first, self.elements, of_tensors, OP=op)

    def on_device(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def kernel_for(program: Program, dtypes: Mapping[str, str]) -> TritonKernel:
    """The kernel of a program for the dtype of each column."""
    return TritonKernel(program, tuple(dtypes[name] for name in program.columns), compute_for(dtypes))


def source_of(program: Program, dtypes: Sequence[str], compute: str) -> str:
    """The kernel as source for Triton, one function a pass."""
    head = [
        f'"""{program.graph.rule.name}: printed by steprule from the rule; {", ".join(map(str, dtypes))}."""',
        "",
        "import triton",
        "import triton.language as tl",
        "",
        "from steprule.compiler.gpu import power",
        "",
        # A number that is 1, or a multiple of 16, would otherwise be a kernel of its own.
        'PLAIN = ["count", "distinct", "chunks"]',
        "",
    ]
    passes = [_TritonPass(program, k, dtypes, compute).text() for k in range(len(program.passes))]
    return "\n".join([*head, *passes])


class _TritonPass(PassPrinter):
    """One pass of a program as a function for Triton."""

    def text(self) -> str:
        signature = "addresses, count, tensors, offsets, lengths, table, distinct, which, reduced, partial, chunks"
        constants = [f"{name} = tl.full((), {v}, tl.{self.compute})" for v, name in self.constants.items()]
        pointers = [
            f"{n}_cells = tl.load(addresses + {row} * count + i).to(tl.pointer_type(tl.{self.dtype[n]}))"
            for row, n in self.columns
        ]
        body = [
            "c = tl.program_id(0)",
            "i = tl.load(tensors + c)",
            "j = tl.load(which + i)",
            *pointers,
            *constants,
            *self.whole_tensor,
            "k = tl.arange(0, CHUNK)",
            "inside = k < tl.load(lengths + c)",
            "k += tl.load(offsets + c)",
            *self.each_element,
            *(self._storing() if self.last else self._reducing()),
        ]
        lines = ["", "", "@triton.jit(do_not_specialize=PLAIN)", f"def pass{self.k}({signature}, CHUNK: tl.constexpr):"]
        return "\n".join([*lines, *(f"    {line}" for line in body), ""])

    def _storing(self) -> list[str]:
        # A store takes a block; what is the same for all elements becomes one.
        block = f"tl.zeros((CHUNK,), tl.{self.compute})"
        return [
            f"tl.store({name}_cells + k, ({value} + {block}).to(tl.{self.dtype[name]}), mask=inside)"
            for name, value in self.stored.items()
        ]

    def _reducing(self) -> list[str]:
        lines = []
        for r, value in enumerate(self.summands("{}.to(tl.float64)".format)):
            lines.append(f"tl.store(partial + {r} * chunks + c, tl.sum(tl.where(inside, {value}, 0.0), axis=0))")
        return lines

    def load(self, name: str) -> str:
        text = f"tl.load({name}_cells + k, mask=inside, other=0.0)"
        return text if self.dtype[name] == self.compute else f"{text}.to(tl.{self.compute})"

    def pick(self, condition: str, a: str, b: str) -> str:
        return f"tl.where({condition}, {a}, {b})"

    def further(self, sign: str, a: str, b: str) -> str:
        # Two picks: the interpreter cannot join the truth of a number with that of a block.
        return self.pick(f"{a} {sign} {b}", a, self.pick(f"{a} != {a}", a, b))

    def function(self, name: str, x: str) -> str:
        exact = "_rn" if name == "sqrt" and self.compute == "float32" else ""
        return f"tl.{name}{exact}({x})"

    def power(self, a: str, b: str) -> str:
        return f"power({a}, {b})"

    def divide(self, a: str, b: str) -> str:
        return f"tl.div_rn({a}, {b})" if self.compute == "float32" else super().divide(a, b)

    def root(self, row: int) -> str:
        return f"tl.load(table + {row} * distinct + j)"

    def reduced(self, row: int) -> str:
        return f"tl.load(reduced + {row} * count + i)"


# What the generated source calls.

_jit: Callable[[Any], Any] = triton.jit


@_jit
def power(a, b):  # type: ignore[no-untyped-def]  # typed by Triton
    """a to the power b, as C's pow: in float64, of the absolute value, with the sign put back for odd whole powers."""
    x = a.to(tl.float64)
    y = b.to(tl.float64)
    whole = y == tl.floor(y)
    odd = whole & (tl.floor(y * 0.5) * 2.0 != y)
    size = tl.exp(y * tl.log(tl.abs(x)))
    size = tl.where(y == 0.0, 1.0, tl.where(x == 1.0, 1.0, size))
    signed = tl.where(x < 0.0, tl.where(whole, tl.where(odd, -size, size), float("nan")), size)
    return signed.to(a.dtype)


@_jit
def _combine(partial, first, elements, reduced, OP: tl.constexpr):  # type: ignore[no-untyped-def]  # typed by Triton
    """One number a tensor from one a chunk, added in the order of the chunks, so that the bits are always the same."""
    i = tl.program_id(0)
    total = tl.zeros((), tl.float64)
    for c in range(tl.load(first + i), tl.load(first + i + 1)):
        total += tl.load(partial + c)
    if OP == "norm":
        total = tl.sqrt(total)
    if OP == "mean":
        total = total / tl.load(elements + i).to(tl.float64)
    tl.store(reduced + i, total.to(reduced.dtype.element_ty))
