"""Which parameters of some groups step by one plan: by their shapes, or by dtype where losses are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.compiler.variant import Switches, needs_shape, variant
from steprule.optim.precision import KAHAN, kept_with
from steprule.optim.settings import Stepped


@dataclass(frozen=True)
class Chosen:
    """Some parameters of groups: those with the same slots, which kernels step or do not, and whose losses are kept in one dtype."""

    of: tuple[tuple[int, ...], ...]
    """Per group, where they stand in it."""
    kind: object
    shape: tuple[int, ...] | None
    """Of the first, where the rule asks for shapes."""
    low: str = ""
    """The dtype whose losses are kept beside them, as `precision.kept_with`."""


def choices(
    optimizer: Stepped, where: tuple[int, ...], switches: Switches, rounding: str | None
) -> list[Chosen | None]:
    """How the parameters of groups are parted into plans."""
    rule = optimizer.stepping(optimizer.param_groups[where[0]]).rule
    by_shape = needs_shape(rule, switches)
    if not by_shape and rounding != KAHAN:
        return [None]
    found: dict[Any, tuple[tuple[int, ...] | None, list[list[int]]]] = {}
    for j, k in enumerate(where):
        for i, p in enumerate(optimizer.param_groups[k]["params"]):
            shape = tuple(p.shape) if by_shape else None
            own = variant(rule, switches, shape)
            kind = kept_with(rounding, p), own.slots, own.is_compiled
            _, places = found.setdefault(kind, (shape, [[] for _ in where]))
            places[j].append(i)
    if not found:
        return [Chosen(tuple(() for _ in where), None, () if by_shape else None)]
    return [Chosen(tuple(map(tuple, places)), kind, shape, kind[0]) for kind, (shape, places) in found.items()]


def counts(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """The parameters of each group."""
    return [len(group["params"]) for group in groups]
