"""Which parameters of some groups step by one plan, where a rule asks for their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.compiler.variant import Switches, needs_shape, variant
from steprule.optim.settings import Stepped


@dataclass(frozen=True)
class Chosen:
    """Some parameters of groups, where a rule asks for shapes: those with the same slots, which kernels step or do not."""

    of: tuple[tuple[int, ...], ...]
    """Per group, where they stand in it."""
    kind: object
    shape: tuple[int, ...]
    """Of the first."""


def choices(optimizer: Stepped, where: tuple[int, ...], switches: Switches) -> list[Chosen | None]:
    """How the parameters of groups are parted into plans."""
    rule = optimizer.stepping(optimizer.param_groups[where[0]]).rule
    if not needs_shape(rule, switches):
        return [None]
    found: dict[object, tuple[tuple[int, ...], list[list[int]]]] = {}
    for j, k in enumerate(where):
        for i, p in enumerate(optimizer.param_groups[k]["params"]):
            shape = tuple(p.shape)
            own = variant(rule, switches, shape)
            _, places = found.setdefault((own.slots, own.is_compiled), (shape, [[] for _ in where]))
            places[j].append(i)
    if not found:
        return [Chosen(tuple(() for _ in where), None, ())]
    return [Chosen(tuple(map(tuple, places)), kind, shape) for kind, (shape, places) in found.items()]


def counts(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """The parameters of each group."""
    return [len(group["params"]) for group in groups]
