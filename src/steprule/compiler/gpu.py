"""The GPU form: one Triton kernel updates all tensors of a group, one launch a pass. The only file that imports triton.

As on the CPU, a kernel takes a row of addresses a tensor, (tensor, offset, length) a chunk, and a table of scalars. One
program of the launch has one chunk. Nothing is autotuned: trying a kernel that updates in place would update more than once.
With TRITON_INTERPRET=1 the same source runs on CPU tensors in Triton's interpreter, which is how it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler import cache
from steprule.compiler.printing import PassPrinter
from steprule.compiler.split import Program

CHUNK = 1024
"""Elements a chunk: eight for each of the 128 threads of a program."""


@dataclass(frozen=True)
class Kernel:
    """The compiled passes of a program for given dtypes."""

    program: Program
    dtypes: tuple[str, ...]
    """Of each column of the address table, in torch's names."""
    compute: str
    """The dtype in which the maths is done."""

    def chunks(self, sizes: Sequence[int], device: torch.device) -> Chunks:
        """How this form cuts tensors of these numbers of elements."""
        return Chunks.of(sizes, device)

    @cached_property
    def _passes(self) -> list[Any]:
        source = source_of(self.program, self.dtypes, self.compute)
        module = cache.load(f"{self.program.graph.rule.name}_triton", source, __file__, "triton")
        return [getattr(module, f"pass{k}") for k in range(len(self.program.passes))]

    def launch(
        self,
        addresses: NDArray[np.int64],
        chunks: Chunks,
        table: NDArray[Any],
        which: NDArray[np.int32],
        given: Sequence[Any] = (),
    ) -> None:
        """Update every tensor; `given` are the program's reductions over all tensors, numbers or 0-dim tensors."""
        reduced = self.reduce(addresses, chunks, table, which, given)
        if not self.program.passes[-1].reductions:
            self._run(len(self.program.passes) - 1, chunks, reduced)

    def reduce(
        self,
        addresses: NDArray[np.int64],
        chunks: Chunks,
        table: NDArray[Any],
        which: NDArray[np.int32],
        given: Sequence[Any] = (),
    ) -> Tensor:
        """Run the passes that reduce: the reductions, then the given ones, [both, tensors], on the device.

        `addresses` [columns, tensors], `table` [roots, distinct], `which` [tensors].
        """
        chunks.take(addresses, table, which)
        own = len(self.program.reductions)
        shape = (own + len(self.program.given), len(chunks.sizes))
        reduced = torch.empty(shape, dtype=getattr(torch, self.compute), device=chunks.device)
        for row, value in enumerate(given):
            reduced[own + row] = value
        done = 0
        for k, part in enumerate(self.program.passes):
            if part.reductions:
                partial = torch.empty(
                    (len(part.reductions), len(chunks.tensor)), dtype=torch.float64, device=chunks.device
                )
                self._run(k, chunks, reduced, partial)
                with chunks.on_device():
                    for row, node in enumerate(part.reductions):
                        args = (partial[row], chunks.first, chunks.elements, reduced[done])
                        _combine[(len(chunks.sizes),)](*args, OP=node.op)
                        done += 1
        return reduced

    def _run(self, k: int, chunks: Chunks, reduced: Tensor, partial: Tensor | None = None) -> None:
        count = len(chunks.tensor)
        if not count:
            return
        held = chunks.held
        table = held["table"]
        args = (
            *(held["addresses"], len(chunks.sizes), chunks.tensor, chunks.offset, chunks.length),
            *(table, table.shape[1], held["which"], reduced, reduced if partial is None else partial),
        )
        with chunks.on_device():
            # Unfused: a product rounds before its sum, as on the CPU, so that both give the same bits.
            self._passes[k][(count,)](*args, count, CHUNK=CHUNK, enable_fp_fusion=False)


@dataclass(frozen=True)
class Chunks:
    """How tensors are cut, on the device: for each chunk its tensor, the offset of its first element, and its length."""

    sizes: tuple[int, ...]
    device: torch.device
    tensor: Tensor
    offset: Tensor
    length: Tensor
    first: Tensor
    """The first chunk of each tensor, and behind the last tensor the number of chunks."""
    elements: Tensor
    """The number of elements of each tensor."""
    held: dict[str, Tensor] = field(default_factory=dict)
    """The addresses, table and which of the launch in hand, on the device."""
    _sent: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What they were made from."""

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> Chunks:
        """Cut tensors of these numbers of elements."""
        counts = np.array([-(-size // CHUNK) for size in sizes], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        tensor = np.repeat(np.arange(len(sizes)), counts)
        offset = (np.arange(first[-1]) - first[tensor]) * CHUNK
        elements = np.asarray(sizes, dtype=np.int64)
        length = np.minimum(CHUNK, elements[tensor] - offset)

        def there(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            tuple(sizes),
            device,
            there(tensor.astype(np.int32)),
            there(offset),
            there(length),
            there(first),
            there(elements),
        )

    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Bring what changed since the last launch to the device."""
        for name, array in (("addresses", addresses), ("table", table), ("which", which)):
            if name not in self._sent or not np.array_equal(self._sent[name], array):
                self._sent[name] = array.copy()
                self.held[name] = torch.from_numpy(self._sent[name]).to(self.device, non_blocking=True)

    def on_device(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def kernel_for(program: Program, dtypes: Mapping[str, str]) -> Kernel:
    """The kernel of a program for the dtype of each column."""
    compute = "float64" if dtypes["p"] == "float64" else "float32"
    return Kernel(program, tuple(dtypes[name] for name in program.columns), compute)


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
            f"a_{n} = tl.load(addresses + {row} * count + i).to(tl.pointer_type(tl.{self.dtype[n]}))"
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
            f"tl.store(a_{name} + k, ({value} + {block}).to(tl.{self.dtype[name]}), mask=inside)"
            for name, value in self.stored.items()
        ]

    def _reducing(self) -> list[str]:
        lines = []
        for r, value in enumerate(self.summands("{}.to(tl.float64)".format)):
            lines.append(f"tl.store(partial + {r} * chunks + c, tl.sum(tl.where(inside, {value}, 0.0), axis=0))")
        return lines

    def load(self, name: str) -> str:
        text = f"tl.load(a_{name} + k, mask=inside, other=0.0)"
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
