"""The parts of a model over lanes: which rows a rule steps, where a model has a rule per kind of parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steprule.compiler.variant import variant_of
from steprule.lanes.records import Array, taken
from steprule.lanes.rule import LaneRule
from steprule.lanes.tensors import TensorStepper
from steprule.optim.mixture import ByKind
from steprule.per_kind import PerKind
from steprule.rules.rule import Rule


@dataclass(frozen=True)
class Part:
    """Parameters of a model that one rule steps."""

    rule: LaneRule
    hypers: Mapping[str, Array]
    """By name, [lanes]."""
    sizes: list[int]
    """The numbers of each parameter."""
    rows: NDArray[np.int64]
    """Where those lie in p [rows, lanes]."""

    def take(self, lanes: slice) -> Part:
        """The same with some of the lanes."""
        return replace(self, hypers=taken(self.hypers, lanes))


def parts_of(rule: Rule | PerKind, hypers: Mapping[str, Array], model: nn.Module) -> list[Part]:
    """One part for a rule; a part per kind that the model has for a rule per kind. All lanes are of one variant."""
    compute = str(next(model.parameters()).dtype).removeprefix("torch.")
    sizes = [p.numel() for p in model.parameters()]
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    if isinstance(rule, Rule):
        return [Part(_over_lanes(rule, hypers, compute), hypers, sizes, np.concatenate(rows))]
    assert isinstance(rule, ByKind)  # as `by_kind` makes it
    kind_of = {one.parameter: one.kind for one in rule.kinds_of(model)}
    kinds = [kind_of[p] for p in model.parameters()]
    found = []
    for kind in dict.fromkeys(kinds):
        places = [k for k, other in enumerate(kinds) if other == kind]
        own = {h.name: hypers[f"{kind}_{h.name}"] for h in rule.by_kind[kind].hypers}
        of_kind = _over_lanes(rule.by_kind[kind], own, compute)
        found.append(Part(of_kind, own, [sizes[k] for k in places], np.concatenate([rows[k] for k in places])))
    return found


def _over_lanes(rule: Rule, hypers: Mapping[str, Array], compute: str) -> LaneRule:
    return LaneRule.of(variant_of(rule, {h.name: hypers[h.name][0].item() for h in rule.hypers}), compute)


class PartsStepper:
    """Steps every part of some lanes by its rule, on a device."""

    def __init__(self, parts: Sequence[Part], device: str) -> None:
        self.parts = [
            (torch.from_numpy(part.rows).to(device), TensorStepper(part.rule, part.hypers, part.sizes, device))
            for part in parts
        ]

    def step(self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float) -> None:
        """One step of every lane; p [rows, lanes] is written where `alive` [lanes]."""
        if len(self.parts) == 1:
            self.parts[0][1].step(t, p, g, alive, factor)
            return
        clipped = [g[rows] for rows, stepper in self.parts if stepper.clips]
        norm = torch.linalg.vector_norm(torch.cat(clipped), dim=0, dtype=torch.float64) if clipped else None
        for rows, stepper in self.parts:
            own = p[rows]
            stepper.step(t, own, g[rows], alive, factor, norm)
            p[rows] = own
