"""Stages of a step with matrices: passes over elements, and between them calls of functions of whole matrices.

What calls take and give lies in temporaries: stacks [tensors, rows, columns] of tensors of one shape. A pass reads p, g, slots and
temporaries. It writes some of them, and one number per row, per column or per tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steprule.compiler.graph import Dims, Node
from steprule.compiler.split import Pass, Program

Number = Node | float

COPY = "copy"
"""The call that lays a matrix out, or its transpose, for a pass that reads it so."""


@dataclass(frozen=True)
class Temporary:
    """A stack of matrices, or of rows' or columns' numbers, one for each tensor."""

    name: str
    dims: Dims
    dtype: str
    """What it was cast to; empty for the dtype computed in."""


@dataclass(frozen=True)
class Operand:
    """A temporary as a call reads it."""

    name: str
    flipped: bool
    """Whether as the transpose of how it lies."""


@dataclass(frozen=True, eq=False)
class Call:
    """One function of whole matrices: op(args, numbers) into `out`; of a product, alpha a @ b + beta added."""

    op: str
    out: Temporary
    args: tuple[Operand, ...]
    numbers: tuple[Number, ...] = ()
    alpha: Number = 1.0
    added: Operand | None = None
    beta: Number = 1.0

    @property
    def operands(self) -> tuple[Operand, ...]:
        """All that it reads."""
        return self.args if self.added is None else (*self.args, self.added)


@dataclass(eq=False)
class MatrixPass(Pass):
    """A pass over the elements of one domain: the axes of what it computes."""

    domain: Dims = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    """How each column that it touches lies in the domain: "full", or one number per "row" or per "column"."""
    filled: tuple[int, ...] = ()
    """Which of the program's reductions its own over the whole tensor are."""
    along: Mapping[Node, Temporary] = field(default_factory=dict)
    """Its reductions along an axis, and where they go."""

    @property
    def is_flat(self) -> bool:
        """Whether it can go through memory without regard to rows."""
        return not self.along and set(self.kinds.values()) <= {"full"}


Stage = MatrixPass | Call


@dataclass(frozen=True, eq=False)
class StagedProgram(Program):
    """The stages of one way through a rule. Its passes, which stand in `passes` too, bring what they store."""

    stages: tuple[Stage, ...] = ()
    temporaries: tuple[Temporary, ...] = ()

    @property
    def laid(self) -> tuple[str, ...]:
        """The names of all columns that passes take: those of a kernel, then the temporaries."""
        return (*self.columns, *(t.name for t in self.temporaries))

    def as_diagnosed(self) -> StagedProgram:
        """The same with one pass that has the parameter before and after the step, and the gradient: what is zeroed is zeroed there.

        Where no pass stores the parameter, one that only reads comes first.
        """
        passes = [stage for stage in self.stages if isinstance(stage, MatrixPass)]
        last = next((p for p in passes if "p" in (p.stores or {})), None)
        if last is None:
            reading = MatrixPass(stores={}, domain=self.graph.dims_of["p"], kinds={"p": "full", "g": "full"})
            return self._with((reading, *self.stages))
        early = next((p for p in passes[: passes.index(last)] if "g" in (p.stores or {})), None)
        if early is None:
            return self
        left = {name: value for name, value in (early.stores or {}).items() if name != "g"}
        stages: list[Stage] = []
        for stage in self.stages:
            if stage is last:
                stores = {**(last.stores or {}), "g": (early.stores or {})["g"]}
                stages.append(replace(last, stores=stores, kinds={**last.kinds, "g": "full"}))
            elif stage is not early:
                stages.append(stage)
            elif left:
                stages.append(replace(early, stores=left))
        return self._with(tuple(stages))

    def _with(self, stages: tuple[Stage, ...]) -> StagedProgram:
        return replace(self, stages=stages, passes=tuple(s for s in stages if isinstance(s, MatrixPass)))

    def sizes(self, dims: Dims) -> tuple[int, ...]:
        """The shape of one tensor's part of such axes."""
        known = self.graph.sizes or {}
        return tuple(known[name] for name in dims)


@dataclass(frozen=True, eq=False)
class Staged(Program):
    """A rule of matrices, for tensors of one shape: the stages of each way through its ifs on numbers of the step."""

    ways: tuple[tuple[Mapping[Node, bool], StagedProgram], ...] = ()
    """What the ifs are told on each way; a way has the roots and the slots of the whole."""

    def way_of(self, values: Sequence[float]) -> StagedProgram:
        """The way that the roots' values lead to."""
        if len(self.ways) == 1:
            return self.ways[0][1]
        known = dict(zip(self.roots, values, strict=True))
        return next(way for answers, way in self.ways if all(bool(known[n]) == told for n, told in answers.items()))


class UnstagedError(Exception):
    """A step that has no stages: it takes its eager form."""
