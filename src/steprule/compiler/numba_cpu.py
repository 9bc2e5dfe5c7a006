"""The CPU target: one Numba kernel updates all tensors of a group in one call.

A kernel takes one column of addresses per tensor, one (tensor, offset, length) per chunk, and a table of scalars. It runs on the
calling thread where the work is small, else on several, each with a range of the chunks. Its bits are the same for any number of
threads: an element depends on no other, and a reduction adds its chunks in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.compiler import cache
from steprule.compiler.graph import Node
from steprule.compiler.lazy import lazy
from steprule.compiler.printing import NUMBA, PRODUCTS, NumbaWriter, PassPrinter, np_number, reduction_of
from steprule.compiler.ranges import Ranged
from steprule.compiler.target import ARGUMENTS, HostChunks, Kernel
from steprule.compiler.threads import allowed
from steprule.compiler.writing import Writer

CHUNK = 16_384
"""Elements per chunk: 64 kB of float32, so that a chunk of every column lies in the second-level cache."""

SERIAL_BELOW = 65_536
"""Elements below which the calling thread does the work alone: waking the others takes longer (benchmarks)."""

LANES = 64
"""Accumulators of a reduction, in a row that the vector units add to at once; the order of additions is fixed."""

OF_CHUNKS = "int64[:, ::1]", "int32[::1]", "int64[::1]", "int64[::1]"
"""The types of the first four of `ARGUMENTS`, in Numba's names."""

STORAGE = {"float32": "float32", "float64": "float64", "bfloat16": "uint16", "float16": "uint16"}
"""How each dtype of torch lies in memory, as numpy names it."""
READING = {"bfloat16": "from_bits16({0})", "float16": "from_half({0})"}
"""How those are read that Numba does not have."""

HEAD = """
import numpy as np
from numba import carray, njit

from steprule.compiler.intrinsics import from_bits16, from_half, pointer, to_bits16, to_half
"""
ROUNDING_HEAD = "from steprule.compiler.intrinsics import fill16, number16, to_bits16_by, to_half_by"
DIAGNOSING_HEAD = "from steprule.compiler.intrinsics import plus_product"

BLOCK = 2048
"""Elements whose random numbers are drawn at once: 4 kB of them, in the first-level cache."""

_NOTHING: dict[str, NDArray[Any]] = {dtype: np.empty((0, 0), dtype) for dtype in ("float32", "float64")}


@dataclass(frozen=True)
class NumbaKernel(Kernel[HostChunks]):
    """Numba's passes."""

    def chunks(self, sizes: Sequence[int], device: object = None) -> HostChunks:
        """How this target cuts tensors of these numbers of elements."""
        return HostChunks(sizes, CHUNK)

    @lazy
    def compiled(self) -> list[Ranged]:
        """The passes, compiled or read from Numba's cache."""
        functions = self.passes_of(self.loaded("numba", self.source(), cache.INTRINSICS, *cache.NUMBA))
        return [Ranged(f, p.types) for f, p in zip(functions, self.printers, strict=True)]

    def source(self) -> str:
        """Its passes as Python for Numba, one function per pass."""
        head = [
            *HEAD.strip().splitlines(),
            *([ROUNDING_HEAD] if self.stochastic else []),
            *([DIAGNOSING_HEAD] if self.diagnoses else []),
            "",
            *{p.name_of_signature: p.signature for p in self.printers}.values(),
            'OPTIONS = dict(nogil=True, error_model="numpy", cache=True)',
            "",
        ]
        return self.printed(head, [p.text() for p in self.printers])

    @lazy
    def printers(self) -> list[NumbaPass]:
        """What prints each pass."""
        count = len(self.program.passes)
        return [NumbaPass(self.program, k, self.dtypes, self.compute, **self.how) for k in range(count)]

    @property
    def how(self) -> dict[str, bool]:
        """What its passes do beside the maths."""
        return {"stochastic": self.stochastic, "diagnoses": self.diagnoses}

    def run(self, k: int, chunks: HostChunks, reduced: Any, partial: Any) -> None:
        """One pass: on as many threads as torch would use, or on this one where the work is small."""
        threads = allowed() if chunks.elements >= SERIAL_BELOW else 1
        reduced = _NOTHING[self.compute] if reduced is None else reduced
        partial = _NOTHING["float64"] if partial is None else partial
        self.compiled[k](chunks.count, threads, *chunks.taken, reduced, partial)

    def combine(self, node: Node, chunks: HostChunks, of_chunks: NDArray[np.float64], of_tensors: NDArray[Any]) -> None:
        """One number per tensor from one per chunk."""
        of = reduction_of(node)
        total = np.full(len(chunks.sizes), of.start)
        with np.errstate(all="ignore"):
            getattr(np, of.join).at(total, chunks.cut.tensor, of_chunks)
            of_tensors[:] = of.end(total, np.asarray(chunks.sizes, dtype=np.float64))


class NumbaPass(NumbaWriter, PassPrinter):
    """One pass of a program as a Python function for Numba."""

    name_of_signature = "SIGNATURE"
    arguments: tuple[str, ...] = ARGUMENTS

    @property
    def types(self) -> tuple[str, ...]:
        """Of its arguments, in Numba's names."""
        c = self.compute
        return *OF_CHUNKS, f"{c}[:, ::1]", "int32[::1]", f"{c}[:, ::1]", "float64[:, ::1]"

    @property
    def signature(self) -> str:
        """The line that names what the function takes: a range of the chunks, then its arguments."""
        return f'{self.name_of_signature} = "void(int64, int64, {", ".join(self.types)})"'

    def text(self) -> str:
        """The function's source."""
        constants = [f"{name} = np.{self.compute}({value})" for value, name in self.constants.items()]
        loop = self._storing() if self.last else self._reducing()
        if self.diagnoses:
            products = range(len(PRODUCTS))
            loop = [f"product{r} = 0.0" for r in products] + loop
            loop += [f"partial[{r}, c] = product{r}" for r in products]
        lines = [
            *constants,
            "",
            "",
            f"@njit({self.name_of_signature}, **OPTIONS)",
            f"def pass{self.k}(first_chunk, end_chunk, {', '.join(self.arguments)}):",
            "    for c in range(first_chunk, end_chunk):",
            "        i = tensors[c]",
            "        j = which[i]",
            *(f"        {line}" for line in (*self._arrays(), *self.whole_tensor, *loop)),
            "",
        ]
        return "\n".join(lines)

    def _arrays(self) -> list[str]:
        lines = ["start, n = offsets[c], lengths[c]"]
        for row, name in self.columns:
            storage = STORAGE[self.dtype[name]]
            size = np.dtype(storage).itemsize
            lines.append(f"{name}_cells = carray(pointer(addresses[{row}, i] + start * {size}, np.{storage}), n)")
        return lines

    def _storing(self) -> list[str]:
        lines = [f"    {line}" for line in self.each_element]
        lines += [f"    {line}" for line in self.storing(self._lies)]
        if self.by_chance:
            return self._in_blocks(lines)
        return ["for k in range(n):", *lines] if lines else ["pass"]  # a rule that hands back what it was given

    def storing(self, lies: str) -> list[str]:
        """The lines that store an element, and add it to the inner products; `lies` is what columns are called there."""
        lines = []
        if self.diagnoses:  # both are read before anything is written
            lines += [f"{of} = {self.exact(n, f'{n}_{lies}[k]')}" for of, n in (("weight", "p"), ("gradient", "g"))]
        for name, value in self.stored.items():
            written = self.written(name, value)
            if self.diagnoses and name == "p":
                lines += [
                    f"stored = {written}",
                    f"p_{lies}[k] = stored",
                    f"update = {self.exact('p', 'stored')} - weight",
                ]
            else:
                lines.append(f"{name}_{lies}[k] = {written}")
        if not self.diagnoses:
            return lines
        if "p" not in self.stored:
            lines.append("update = weight - weight")  # as of one that is written: nan where the parameter is not finite
        return lines + [f"product{r} = plus_product(product{r}, {a}, {b})" for r, (a, b) in enumerate(PRODUCTS)]

    def _in_blocks(self, lines: Sequence[str]) -> list[str]:
        """The loop over elements, block by block, each with random numbers for its elements."""
        views = [f"{name}_block = {name}_cells[first : first + {BLOCK}]" for _, name in self.columns]
        inner = [f"some = min({BLOCK}, n - first)", *views]
        inner += [
            f"fill16({name}_random[: (some + 7) // 8 * 8], start + first, {self.drawn(name)})"
            for name in self.by_chance
        ]
        inner += ["for k in range(some):", *lines]
        return [
            *(f"{name}_random = np.empty({BLOCK}, np.uint16)" for name in self.by_chance),
            f"for first in range(0, n, {BLOCK}):",
            *(f"    {line}" for line in inner),
        ]

    @property
    def _lies(self) -> str:
        """What a column is called where its elements are read one by one."""
        return "cells" if self.last and not self.by_chance else "block"

    def drawn(self, name: str) -> str:
        """By which random numbers a column is rounded: its draw, then the rows behind the addresses of all columns."""
        columns = len(self.program.laid)
        return ", ".join([str(self.by_chance[name]), *(f"addresses[{columns + k}, i]" for k in range(3))])

    def _reducing(self) -> list[str]:
        """The loop with a fixed set of accumulators, so that the order of additions is the same however it is run."""
        values = dict(zip(self.part.reductions, self.summands("np.float64({})".format), strict=True))
        # Views of a block and an index from 0: only so does LLVM see that it may add a row of lanes at once.
        lines = [f"sums{r} = np.full({LANES}, {np_number(reduction_of(node).start)})" for r, node in enumerate(values)]
        lines += [f"for first in range(0, n, {LANES}):"]
        lines += [f"    {name}_block = {name}_cells[first : first + {LANES}]" for name in self.part.loads]
        lines += [f"    for k in range(min({LANES}, n - first)):", *(f"        {line}" for line in self.each_element)]
        for r, (node, value) in enumerate(values.items()):
            lines += [
                f"        part{r} = {value}",
                f"        sums{r}[k] = {self.joined(node, f'sums{r}[k]', f'part{r}')}",
            ]
        for r, node in enumerate(values):
            lines += [f"whole{r} = sums{r}[0]", f"for k in range(1, {LANES}):"]
            lines += [f"    whole{r} = {self.joined(node, f'whole{r}', f'sums{r}[k]')}", f"partial[{r}, c] = whole{r}"]
        return lines

    def load(self, name: str) -> str:
        """An element of a column."""
        return self.read(name, f"{name}_{self._lies}[k]")

    def written(self, name: str, value: str) -> str:
        """A number of the maths in the dtype of a column."""
        if name in self.by_chance:
            by = {"bfloat16": "to_bits16_by", "float16": "to_half_by"}[self.dtype[name]]
            return f"{by}(np.float32({value}), {self.random(name)})"
        writing = {"bfloat16": "to_bits16(np.float32({0}))", "float16": "to_half(np.float32({0}))"}
        return writing.get(self.dtype[name], f"np.{self.dtype[name]}({{0}})").format(value)

    def random(self, name: str) -> str:
        """The random number of an element of a column."""
        return f"{name}_random[k]"

    def read(self, name: str, element: str) -> str:
        """What lies in a column in the dtype of the maths."""
        text = READING.get(self.dtype[name], "{0}").format(element)
        return text if self.dtype[name] == self.compute else f"np.{self.compute}({text})"

    def exact(self, name: str, element: str) -> str:
        """What lies in a column in float64."""
        return f"np.float64({READING.get(self.dtype[name], '{0}').format(element)})"

    @property
    def plain(self) -> Writer:
        """What writes the parts of a reduction."""
        return NUMBA

    def root(self, row: int) -> str:
        """A number of the step."""
        return f"table[{row}, j]"

    def reduced(self, row: int) -> str:
        """A number of the tensor."""
        return f"reduced[{row}, i]"


def mover(reads: int, writes: int) -> Callable[[NDArray[np.int64], HostChunks], None]:
    """A kernel that moves the bytes of an optimizer step and computes next to nothing: the limit that the bench names.

    It reads `reads` float32 columns and writes the sum of all to `writes` of them.
    """
    columns = range(reads)
    lines = [
        '"""The limit: the same bytes, no maths."""',
        "import numpy as np",
        "from numba import carray, njit",
        "from steprule.compiler.intrinsics import pointer",
        "",
        f'@njit("void(int64, int64, {", ".join(OF_CHUNKS)})", nogil=True, cache=True)',
        "def move(first_chunk, end_chunk, addresses, tensors, offsets, lengths):",
        "    for c in range(first_chunk, end_chunk):",
        "        i, start, n = tensors[c], offsets[c], lengths[c]",
        *(f"        a{k} = carray(pointer(addresses[{k}, i] + start * 4, np.float32), n)" for k in columns),
        "        for k in range(n):",
        f"            x = {' + '.join(f'a{k}[k]' for k in columns)}",
        # Column 1 is the gradient, which a step only reads.
        *(f"            a{k}[k] = x" for k in [k for k in columns if k != 1][:writes]),
        "",
    ]
    run = Ranged(cache.load("move", "\n".join(lines), cache.INTRINSICS, *cache.NUMBA).move, OF_CHUNKS)

    def move(addresses: NDArray[np.int64], chunks: HostChunks) -> None:
        cut, threads = chunks.cut, allowed() if chunks.elements >= SERIAL_BELOW else 1
        run(chunks.count, threads, addresses, cut.tensor, cut.offset, cut.length)

    return move
