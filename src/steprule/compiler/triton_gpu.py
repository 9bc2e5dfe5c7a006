"""The GPU target: one Triton kernel updates all tensors of a group, one launch per pass.

As on the CPU, a kernel takes one column of addresses per tensor, one (tensor, offset, length) per chunk, and a table of scalars. One
program of the launch has one chunk. Where that is whole and each of its columns begins at a multiple of 16 bytes, each thread moves
16 bytes at once; else the program goes over its chunk in pieces, element by element. Nothing is autotuned: trying a kernel that
updates in place would update more than once. With TRITON_INTERPRET=1 the same source runs on CPU tensors in Triton's interpreter,
which is how it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.arithmetic import philox
from steprule.compiler import triton_calls
from steprule.compiler.graph import Node
from steprule.compiler.lazy import lazy
from steprule.compiler.printing import PRODUCTS, PassPrinter, reduction_of
from steprule.compiler.split import Program
from steprule.compiler.streams import is_capturing, keep_for_graph, staging, stream_of, used_here
from steprule.compiler.target import ARGUMENTS, Chunks, Kernel
from steprule.compiler.writing import PlainWriter, Writer, literal
from steprule.errors import InputError
from steprule.maths import OPERATIONS

CHUNK = 1024
"""Elements per chunk: eight for each of the 128 threads of a program."""

PIECE = 128
"""Elements of a chunk that is not whole which are taken at one time: one for each thread, so that it needs the fewer registers."""

GRAPHS = 4
"""How many CUDA graphs may record steps in a row, with gradients at other addresses each, before another step is taken outside of one."""

UNFUSED = {"enable_fp_fusion": False}
OPTIONS = UNFUSED if torch.version.hip else {**UNFUSED, "maxnreg": 255}
"""What a kernel is compiled with. Unfused: a product rounds before its sum, as on the CPU, so that both give the same bits. With a bound
on registers that it never comes to, NVIDIA's assembler does not spill some so that one more program finds room."""

ROWS = {"addresses": "count", "table": "distinct", "partial": "chunks"}
"""What tells the length of a row behind an argument of two dimensions: Triton sees an address alone. `reduced` is as long as
`addresses`."""

# A number that is 1, or a multiple of 16, would otherwise be a kernel of its own.
HEAD = """
import triton
import triton.language as tl

from steprule.compiler.triton_calls import atan2, cells, power, read, tanh, write

PLAIN = ["count", "distinct", "chunks"]
"""
ROUNDING_HEAD = "from steprule.compiler.triton_calls import by_chance_bfloat16, by_chance_float16, number16"


@dataclass(frozen=True)
class TritonKernel(Kernel["DeviceChunks"]):
    """Triton's passes."""

    def chunks(self, sizes: Sequence[int], device: torch.device) -> DeviceChunks:
        """How this target cuts tensors of these numbers of elements."""
        return DeviceChunks(sizes, device)

    @lazy
    def module(self) -> Any:
        """The functions that Triton compiles at their first launch: the passes, and of each reduction how its parts are joined."""
        return self.loaded("triton", self.source(), (triton_calls.__file__, philox.__file__), "triton")

    @lazy
    def passes(self) -> list[Any]:
        """The passes."""
        return self.passes_of(self.module)

    def source(self) -> str:
        """Its passes as source for Triton, one function per pass, with what joins the parts of its reductions."""
        program = self.program
        how = {"stochastic": self.stochastic, "diagnoses": self.diagnoses}
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
        options = OPTIONS if chunks.device.type in ("cuda", "cpu") else UNFUSED
        with chunks.on_device():
            self.passes[k][(chunks.count,)](*args, CHUNK=CHUNK, **options)

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
        self.held: dict[str, Any] = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        """What a launch takes, by name; the addresses, table and which are those of the launch in hand."""
        self._sent: dict[str, NDArray[Any]] = {}
        """What those were made from."""
        self._staged: list[Tensor] = []
        """Room on the host from which graphs take addresses: it must be there before one is recorded."""
        self._stream = stream_of(device)
        """The stream whose memory these are."""

    def take(self, addresses: NDArray[np.int64], table: Any, which: NDArray[np.int32]) -> None:
        """Bring what changed since the last launch to the device. A table that lies there already is taken as it is."""
        capturing = is_capturing(self.device)
        for name, array in (("addresses", addresses), ("table", table), ("which", which)):
            if isinstance(array, Tensor):
                self._sent.pop(name, None)
                self.held[name] = array
            elif name not in self._sent or not np.array_equal(self._sent[name], array):
                self._send(name, array, capturing=capturing)
        if capturing:
            keep_for_graph(self.held.values())
        elif isinstance(table, Tensor):  # a step that may be recorded next
            self._staged += [staging(addresses, self.device) for _ in range(GRAPHS - len(self._staged))]
        if not capturing and stream_of(self.device) != self._stream:
            self._stream = -1  # from now on each launch says where it reads
            used_here((t for t in self.held.values() if isinstance(t, Tensor)), self.device)

    def _send(self, name: str, array: NDArray[Any], *, capturing: bool) -> None:
        if not capturing:
            self._sent[name] = array.copy()
            self.held[name] = torch.from_numpy(self._sent[name]).to(self.device, non_blocking=True)
            return
        # The copy is a part of the graph: its source must stay, and its target is the graph's, not a later step's.
        if not self._staged or self._staged[-1].shape != array.shape:
            expected, hint = (
                "a step of the same parameters before it",
                "Take a step outside of the capture, then record.",
            )
            raise InputError("a step that a CUDA graph records", expected=expected, got="none", hint=hint)
        source = self._staged.pop()
        source.numpy()[...] = array
        keep_for_graph([source])
        self._sent.pop(name, None)
        self.held[name] = torch.empty_like(source, device=self.device).copy_(source, non_blocking=True)

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
        if self.device.type == "cpu":
            return nullcontext()
        return getattr(torch, self.device.type).device(self.device)


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
        self, program: Program, k: int, dtypes: Sequence[str], compute: str, *, stochastic: bool = False, diagnoses: bool = False,
    ) -> None:  # fmt: skip
        self.columns_of_table = (f"triton_{compute}", "triton")
        super().__init__(program, k, dtypes, compute, stochastic=stochastic, diagnoses=diagnoses)

    def text(self) -> str:
        return self._span() + self._pass()

    def _pass(self) -> str:
        """What a program of the launch does: it looks at its chunk, and goes over it at once or in pieces."""
        addresses = [f"{n}_at = tl.load(addresses + {row} * count + i)" for row, n in self.columns]
        together = " | ".join(f"{n}_at" for _, n in self.columns) or "0"
        added = OPERATIONS["sum"].reduction
        assert added is not None
        of = [added] * len(PRODUCTS) if self.diagnoses else [reduction_of(node) for node in self.part.reductions]
        parts = [f"part{r}" for r in range(len(of))]
        found = f"{', '.join(parts)} = " if parts else ""
        starts = [
            f"{part} = tl.full((), {literal(own.start)}, tl.float64)" for part, own in zip(parts, of, strict=True)
        ]
        news = ", ".join(f"new_{part}" for part in parts)
        joins = [
            f"{part} = {TRITON.of(OPERATIONS[own.join].call, part, f'new_{part}')}"
            for part, own in zip(parts, of, strict=True)
        ]
        body = [
            "c = tl.program_id(0)",
            "i = tl.load(tensors + c)",
            "j = tl.load(which + i)",
            "length = tl.load(lengths + c).to(tl.int32)",
            "offset = tl.multiple_of(tl.load(offsets + c), CHUNK)",
            *addresses,
            f"if (length == CHUNK) & ((({together}) & 15) == 0):",
            f"    {found}{self._of_span('offset', 'length', 'CHUNK, True')}",
            "else:",
            *(f"    {line}" for line in starts),
            f"    for first in range(0, length, {PIECE}):",
            f"        {f'{news} = ' if parts else ''}{self._of_span('offset + first', 'length - first', f'{PIECE}, False')}",
            *(f"        {line}" for line in joins),
            *(f"tl.store(partial + {r} * chunks + c, {part})" for r, part in enumerate(parts)),
        ]
        signature = ", ".join(f"{name}, {ROWS[name]}" if name in ROWS else name for name in ARGUMENTS)
        lines = ["", "", "@triton.jit(do_not_specialize=PLAIN)", f"def pass{self.k}({signature}, CHUNK: tl.constexpr):"]
        return "\n".join([*lines, *(f"    {line}" for line in body), ""])

    def _of_span(self, offset: str, length: str, rest: str) -> str:
        """The call of the function of a span; as its parameters where these are given by their names."""
        handed_on = ("addresses", "count", "table", "distinct", "reduced")
        taken = ("i", "j", offset, length, *(f"{n}_at" for _, n in self.columns), *handed_on, rest)
        return f"span{self.k}({', '.join(taken)})"

    def _span(self) -> str:
        """What is computed of `size` elements from an offset on, as far as they are there.

        `whole`: all are there, and each column begins at a multiple of 16 bytes.
        """
        body = [
            *(f"{n}_cells = cells({n}_at, tl.{self.dtype[n]}, whole) + offset" for _, n in self.columns),
            *(f"{name} = tl.full((), {v}, tl.{self.compute})" for v, name in self.constants.items()),
            *self.whole_tensor,
            "k = tl.arange(0, size)",
            "inside = k < length",
            *self.each_element,
            *(self._storing() if self.last else self._reducing()),
        ]
        head = self._of_span("offset", "length", "size: tl.constexpr, whole: tl.constexpr")
        lines = ["", "", "@triton.jit", f"def {head}:"]
        return "\n".join([*lines, *(f"    {line}" for line in body), ""])

    def _storing(self) -> list[str]:
        # A store takes a block; what is the same for all elements becomes one.
        block = f"tl.full((size,), -0.0, tl.{self.compute})"  # which adds nothing to a zero of either sign
        lines = []
        if self.diagnoses:  # both are read before anything is written
            for of, name in (("weight", "p"), ("gradient", "g")):
                lines.append(f"{of} = read({name}_cells + k, inside, whole).to(tl.float64)")
        for name, value in self.stored.items():
            written = self._written(name, f"({value} + {block})")
            if self.diagnoses and name == "p":
                lines += [f"stored = {written}", "write(p_cells + k, stored, inside, whole)"]
            else:
                lines.append(f"write({name}_cells + k, {written}, inside, whole)")
        if self.diagnoses:
            lines.append(f"update = {'stored.to(tl.float64)' if 'p' in self.stored else 'weight'} - weight")
            for r, (a, b) in enumerate(PRODUCTS):
                lines.append(f"all{r} = tl.sum(tl.where(inside, {a} * {b}, 0.0), 0)")
            lines.append(f"return {', '.join(f'all{r}' for r in range(len(PRODUCTS)))}")
        columns = len(self.program.laid)
        drawn = ", ".join(f"tl.load(addresses + {columns + row} * count + i)" for row in range(3))
        # The draw stands in the upper half of its word of the counter.
        words = {name: draw << philox.BITS for name, draw in self.by_chance.items()}
        return [*(f"{name}_random = number16(offset + k, {word}, {drawn})" for name, word in words.items()), *lines]

    def _written(self, name: str, value: str) -> str:
        if name in self.by_chance:
            return f"by_chance_{self.dtype[name]}({value}.to(tl.float32), {name}_random)"
        return f"{value}.to(tl.{self.dtype[name]})"

    def _reducing(self) -> list[str]:
        """What the span's elements add to each reduction."""
        lines = []
        for r, (node, value) in enumerate(
            zip(self.part.reductions, self.summands("{}.to(tl.float64)".format), strict=True)
        ):
            of = reduction_of(node)
            lines.append(f"part{r} = tl.where(inside, {value}, {literal(of.start)})")
            whole = f"tl.sum(part{r}, 0)" if of.join == "add" else f"tl.reduce(part{r}, 0, joined_by_{of.join})"
            lines.append(f"all{r} = {whole}.to(tl.float64)")
        return [*lines, f"return {', '.join(f'all{r}' for r in range(len(self.part.reductions)))}"]

    def load(self, name: str) -> str:
        text = f"read({name}_cells + k, inside, whole)"
        return text if self.dtype[name] == self.compute else f"{text}.to(tl.{self.compute})"

    @property
    def plain(self) -> Writer:
        return TRITON

    def root(self, row: int) -> str:
        return f"tl.load(table + {row} * distinct + j)"

    def reduced(self, row: int) -> str:
        return f"tl.load(reduced + {row} * count + i)"
