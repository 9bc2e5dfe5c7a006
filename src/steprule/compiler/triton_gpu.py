"""The GPU target: one Triton kernel updates all tensors of a group, one launch per pass.

The only file that imports triton. As on the CPU, a kernel takes one column of addresses per tensor, one (tensor, offset, length) per
chunk, and a table of scalars. One program of the launch has one chunk. Nothing is autotuned: trying a kernel that updates in place
would update more than once. With TRITON_INTERPRET=1 the same source runs on CPU tensors in Triton's interpreter, which is how it is
tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from steprule.arithmetic import philox
from steprule.compiler.graph import Node
from steprule.compiler.lazy import lazy
from steprule.compiler.printing import PassPrinter, reduction_of
from steprule.compiler.split import Program
from steprule.compiler.target import ARGUMENTS, Chunks, Kernel
from steprule.compiler.writing import PlainWriter, Writer, literal
from steprule.maths import OPERATIONS

CHUNK = 1024
"""Elements per chunk: eight for each of the 128 threads of a program."""

ROWS = {"addresses": "count", "table": "distinct", "partial": "chunks"}
"""What tells the length of a row behind an argument of two dimensions: Triton sees an address alone. `reduced` is as long as
`addresses`."""

# A number that is 1, or a multiple of 16, would otherwise be a kernel of its own.
HEAD = """
import triton
import triton.language as tl

from steprule.compiler.triton_gpu import atan2, power, tanh

PLAIN = ["count", "distinct", "chunks"]
"""
ROUNDING_HEAD = "from steprule.compiler.triton_gpu import by_chance_bfloat16, by_chance_float16, number16"


@dataclass(frozen=True)
class TritonKernel(Kernel["DeviceChunks"]):
    """Triton's passes."""

    def chunks(self, sizes: Sequence[int], device: torch.device) -> DeviceChunks:
        """How this target cuts tensors of these numbers of elements."""
        return DeviceChunks(sizes, device)

    @lazy
    def module(self) -> Any:
        """The functions that Triton compiles at their first launch: the passes, and of each reduction how its parts are joined."""
        return self.loaded("triton", self.source(), (__file__, philox.__file__), "triton")

    @lazy
    def passes(self) -> list[Any]:
        """The passes."""
        return self.passes_of(self.module)

    def source(self) -> str:
        """Its passes as source for Triton, one function per pass, with what joins the parts of its reductions."""
        program = self.program
        how = {"stochastic": self.stochastic}
        passes = [_TritonPass(program, k, self.dtypes, self.compute, **how).text() for k in range(len(program.passes))]
        joins = {reduction_of(node).join for node in program.reductions} - {"add"}
        combined = dict.fromkeys(node.op for node in program.reductions)
        functions = [*map(_joining, sorted(joins)), *passes, *map(_combining, combined)]
        head = [*HEAD.strip().splitlines(), *([ROUNDING_HEAD] if self.stochastic else []), ""]
        return self.printed(head, functions)

    def run(self, k: int, chunks: DeviceChunks, reduced: Any, partial: Any) -> None:
        """One pass, one program of the launch per chunk."""
        if not chunks.count:
            return
        held = chunks.held
        held["reduced"] = held["table"] if reduced is None else reduced  # an argument that this pass does not read
        held["partial"] = held["reduced"] if partial is None else partial
        rows = {"addresses": len(chunks.sizes), "table": held["table"].shape[1], "partial": chunks.count}
        args: list[Any] = []
        for name in ARGUMENTS:
            args.append(held[name])
            if name in rows:
                args.append(rows[name])
        with chunks.on_device():
            # Unfused: a product rounds before its sum, as on the CPU, so that both give the same bits.
            self.passes[k][(chunks.count,)](*args, CHUNK=CHUNK, enable_fp_fusion=False)

    def combine(self, node: Node, chunks: DeviceChunks, of_chunks: Tensor, of_tensors: Tensor) -> None:
        """One number per tensor from one per chunk."""
        function = getattr(self.module, f"combine_{node.op}")
        with chunks.on_device():
            function[(len(chunks.sizes),)](of_chunks, chunks.held["first"], chunks.held["elements"], of_tensors)


class DeviceChunks(Chunks):
    """Chunks whose arrays lie on the device."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        super().__init__(sizes, CHUNK)
        self.device = device
        cut = self.cut
        arrays = {"tensors": cut.tensor, "offsets": cut.offset, "lengths": cut.length, "first": cut.first}
        arrays["elements"] = np.asarray(cut.sizes, dtype=np.int64)
        self.held = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        """What a launch takes, by name; the addresses, table and which are those of the launch in hand."""
        self._sent: dict[str, NDArray[Any]] = {}
        """What those were made from."""

    def take(self, addresses: NDArray[np.int64], table: NDArray[Any], which: NDArray[np.int32]) -> None:
        """Bring what changed since the last launch to the device."""
        for name, array in (("addresses", addresses), ("table", table), ("which", which)):
            if name not in self._sent or not np.array_equal(self._sent[name], array):
                self._sent[name] = array.copy()
                self.held[name] = torch.from_numpy(self._sent[name]).to(self.device, non_blocking=True)

    def of_tensors(self, value: Any) -> Any:
        """A number for all tensors, or an array of one per tensor."""
        return torch.from_numpy(np.ascontiguousarray(value)).to(self.device) if isinstance(value, np.ndarray) else value

    def per_tensor(self, rows: int, dtype: str) -> Tensor:
        """Room for reduced numbers."""
        return torch.empty((rows, len(self.sizes)), dtype=getattr(torch, dtype), device=self.device)

    def per_chunk(self, rows: int) -> Tensor:
        """Room for their parts."""
        return torch.empty((rows, self.count), dtype=torch.float64, device=self.device)

    def on_device(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


TRITON = PlainWriter(("triton",), "tl.{name}({operands})")


def _joining(name: str) -> str:
    """The function of two parts that Triton's reduction within a block takes."""
    return f"\n\n@triton.jit\ndef joined_by_{name}(a, b):\n    return {TRITON.of(OPERATIONS[name].call, 'a', 'b')}\n"


def _combining(op: str) -> str:
    """The function that joins the parts of a reduction in the order of the chunks, so that the bits are always the same."""
    of = OPERATIONS[op].reduction
    assert of is not None
    lines = [
        "i = tl.program_id(0)",
        f"total = tl.full((), {literal(of.start)}, tl.float64)",
        "for c in range(tl.load(first + i), tl.load(first + i + 1)):",
        "    part = tl.load(partial + c)",
        f"    total = {TRITON.of(OPERATIONS[of.join].call, 'total', 'part')}",
        "count = tl.load(elements + i).to(tl.float64)",
        f"total = {TRITON.of(of.end, 'total', 'count')}",
        "tl.store(reduced + i, total.to(reduced.dtype.element_ty))",
    ]
    head = ["", "", "@triton.jit", f"def combine_{op}(partial, first, elements, reduced):"]
    return "\n".join([*head, *(f"    {line}" for line in lines), ""])


class _TritonPass(PassPrinter):
    """One pass of a program as a function for Triton."""

    called = TRITON.called

    def __init__(
        self, program: Program, k: int, dtypes: Sequence[str], compute: str, *, stochastic: bool = False
    ) -> None:
        self.columns_of_table = (f"triton_{compute}", "triton")
        super().__init__(program, k, dtypes, compute, stochastic=stochastic)

    def text(self) -> str:
        signature = ", ".join(f"{name}, {ROWS[name]}" if name in ROWS else name for name in ARGUMENTS)
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
        block = f"tl.full((CHUNK,), -0.0, tl.{self.compute})"  # which adds nothing to a zero of either sign
        lines = [
            f"tl.store({name}_cells + k, {self._written(name, f'({value} + {block})')}, mask=inside)"
            for name, value in self.stored.items()
        ]
        if self.stochastic:
            columns = len(self.program.laid)
            drawn = ", ".join(f"tl.load(addresses + {columns + row} * count + i)" for row in range(3))
            lines.insert(0, f"random = number16(k, {drawn})")
        return lines

    def _written(self, name: str, value: str) -> str:
        by_chance = name == "p" and self.stochastic
        return f"by_chance_{self.dtype[name]}({value}, random)" if by_chance else f"{value}.to(tl.{self.dtype[name]})"

    def _reducing(self) -> list[str]:
        lines = []
        for r, (node, value) in enumerate(
            zip(self.part.reductions, self.summands("{}.to(tl.float64)".format), strict=True)
        ):
            of = reduction_of(node)
            lines.append(f"part{r} = tl.where(inside, {value}, {literal(of.start)})")
            whole = f"tl.sum(part{r}, 0)" if of.join == "add" else f"tl.reduce(part{r}, 0, joined_by_{of.join})"
            lines.append(f"tl.store(partial + {r} * chunks + c, {whole})")
        return lines

    def load(self, name: str) -> str:
        text = f"tl.load({name}_cells + k, mask=inside, other=0.0)"
        return text if self.dtype[name] == self.compute else f"{text}.to(tl.{self.compute})"

    @property
    def plain(self) -> Writer:
        return TRITON

    def root(self, row: int) -> str:
        return f"tl.load(table + {row} * distinct + j)"

    def reduced(self, row: int) -> str:
        return f"tl.load(reduced + {row} * count + i)"


# What the generated source calls.

_jit: Callable[[Any], Any] = triton.jit
DRAW = tl.constexpr(philox.ROUNDING << philox.BITS)
"""The draw by which a step rounds, in the upper half of its word of the counter."""


@_jit
def number16(k, step, tensor, seed):  # type: ignore[no-untyped-def]  # typed by Triton
    """The random number of 16 bits of each element k, as `rounding.numbers16`; each number of a block of eight computes the block."""
    block = k >> 3
    draw = tl.full((), DRAW, tl.uint32)
    high = ((block >> 32) & 0xFFFF).to(tl.uint32) + draw
    none = tl.zeros_like(high)
    a, b, c, d = tl.philox(seed, block.to(tl.uint32), high, none + step.to(tl.uint32), none + tensor.to(tl.uint32))
    word = tl.where((k & 4) == 0, tl.where((k & 2) == 0, a, b), tl.where((k & 2) == 0, c, d))
    return tl.where((k & 1) == 0, word & 0xFFFF, word >> 16)


@_jit
def by_chance_bfloat16(x, random):  # type: ignore[no-untyped-def]  # typed by Triton
    """float32 rounded by a random number, as `rounding.rounded`."""
    bits = (x.to(tl.uint32, bitcast=True) + random) & 0xFFFF0000
    return tl.where(x != x, x, bits.to(tl.float32, bitcast=True)).to(tl.bfloat16)


@_jit
def by_chance_float16(x, random):  # type: ignore[no-untyped-def]  # typed by Triton
    """The same to float16."""
    size = tl.abs(x)
    whole = tl.floor(size * 16777216.0)
    part = size * 16777216.0 - whole
    small = (
        whole + tl.where(part > (random.to(tl.float32) + 0.5) * 1.52587890625e-05, 1.0, 0.0)
    ) * 5.9604644775390625e-08
    sign = x.to(tl.uint32, bitcast=True) & 0x80000000
    small = (small.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    large = (x.to(tl.uint32, bitcast=True) + (random & 0x1FFF)) & 0xFFFFE000
    found = tl.where(size < 6.103515625e-05, small, large.to(tl.float32, bitcast=True))
    return tl.where(x != x, x, found).to(tl.float16)


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
def expm1(x):  # type: ignore[no-untyped-def]  # typed by Triton
    """e^x - 1 of a float64 without cancellation: (u - 1) x / log(u), where u is e^x as rounded (Kahan)."""
    u = tl.exp(x)
    near = tl.where(u == 1.0, x, (u - 1.0) * x / tl.log(tl.where(u == 1.0, 2.0, u)))
    return tl.where(u - 1.0 == -1.0, -1.0, near)


@_jit
def tanh(x):  # type: ignore[no-untyped-def]  # typed by Triton
    """(1 - e^-2a) / (1 + e^-2a) of a = |x|, in float64, with the sign of x."""
    wide = x.to(tl.float64)
    below = expm1(-2.0 * tl.minimum(tl.abs(wide), 40.0))
    size = -below / (2.0 + below)
    size = tl.where(wide != wide, wide, size)
    return tl.where(wide < 0.0, -size, tl.where(wide == 0.0, wide, size)).to(x.dtype)


@_jit
def atan2(y, x):  # type: ignore[no-untyped-def]  # typed by Triton
    """The angle of (x, y), in float64: half the angle twice, then the series of the arc tangent, all below tan(pi / 16)."""
    a = y.to(tl.float64)
    b = x.to(tl.float64)
    v, u = tl.abs(a), tl.abs(b)
    low, high = tl.where(v < u, v, u), tl.where(v < u, u, v)
    r = tl.where(high == 0.0, 0.0, tl.where(v == u, 1.0, low / tl.where(high == 0.0, 1.0, high)))
    r = r / (1.0 + tl.sqrt(1.0 + r * r))
    r = r / (1.0 + tl.sqrt(1.0 + r * r))
    s = r * r
    series = tl.zeros_like(r)
    for k in tl.static_range(12):
        series = 1.0 / (23.0 - 2.0 * k) - s * series
    angle = 4.0 * r * series
    angle = tl.where(v > u, 1.5707963267948966 - angle, angle)
    # The sign of a zero is that of one over it.
    angle = tl.where(tl.where(b == 0.0, 1.0 / b, b) < 0.0, 3.141592653589793 - angle, angle)
    angle = tl.where(tl.where(a == 0.0, 1.0 / a, a) < 0.0, -angle, angle)
    return tl.where(b != b, b, tl.where(a != a, a, angle)).to(x.dtype)
