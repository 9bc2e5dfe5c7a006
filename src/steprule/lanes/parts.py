"""The parts of a model over lanes: which rows a rule steps, where a model has a rule per kind of parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steprule.compiler import drawing
from steprule.compiler.phases import clipping_places
from steprule.compiler.variant import needs_shape, switches_of, variant_of
from steprule.hyper import LOSS
from steprule.lanes.matrices import MatrixRule, MatrixStepper
from steprule.lanes.records import Array, taken
from steprule.lanes.rule import LaneRule
from steprule.lanes.tensors import LaneStepper, TensorStepper, Totals, begin_together, check_numbers, totals
from steprule.optim.mixture import ByKind
from steprule.per_kind import KINDS, PerKind
from steprule.rules.rule import Rule


@dataclass(frozen=True)
class Part:
    """Parameters of a model that one rule steps with the same settings."""

    rule: LaneRule | MatrixRule
    hypers: Mapping[str, Array]
    """By name, [lanes]."""
    sizes: list[int]
    """The numbers of each parameter."""
    rows: NDArray[np.int64]
    """Where those lie in p [rows, lanes]."""
    team: str = ""
    """Parts of one team have totals and numbers of the model in common."""

    def take(self, lanes: slice) -> Part:
        """The same with some of the lanes."""
        return replace(self, hypers=taken(self.hypers, lanes))


def parts_of(rule: Rule | PerKind, hypers: Mapping[str, Array], model: nn.Module) -> list[Part]:
    """One part for a rule; a part per kind that the model has for a rule per kind. All lanes are of one variant."""
    compute = str(next(model.parameters()).dtype).removeprefix("torch.")
    sizes = [p.numel() for p in model.parameters()]
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    if isinstance(rule, Rule):
        return [Part(_over_lanes(rule, hypers, list(model.parameters()), compute), hypers, sizes, np.concatenate(rows))]
    assert isinstance(rule, ByKind)  # as `by_kind` makes it
    kind_of = {one.parameter: one.kind for one in rule.kinds_of(model)}
    kinds = [kind_of[p] for p in model.parameters()]
    found = []
    # In the order of groups: the first one's settings begin the numbers of the model.
    for kind in sorted(set(kinds), key=KINDS.index):
        places = [k for k, other in enumerate(kinds) if other == kind]
        own = {h.name: hypers[f"{kind}_{h.name}"] for h in rule.by_kind[kind].hypers}
        params = list(model.parameters())
        of_kind = _over_lanes(rule.by_kind[kind], own, [params[k] for k in places], compute)
        of_places = [sizes[k] for k in places], np.concatenate([rows[k] for k in places])
        found.append(Part(of_kind, own, *of_places, rule.team_of(kind)))
    return found


def _over_lanes(
    rule: Rule, hypers: Mapping[str, Array], params: Sequence[Tensor], compute: str
) -> LaneRule | MatrixRule:
    """The variant of a rule that the first lane's hyperparameters choose."""
    first = {h.name: hypers[h.name][0].item() for h in rule.hypers}
    switches = switches_of(rule, first)
    if needs_shape(rule, switches):
        return MatrixRule(rule, switches, tuple(tuple(p.shape) for p in params), compute)
    return LaneRule.of(variant_of(rule, first), compute)


def _stepper(part: Part, device: str) -> LaneStepper:
    if isinstance(part.rule, MatrixRule):
        return MatrixStepper(part.rule, part.hypers, device)
    return TensorStepper(part.rule, part.hypers, part.sizes, device)


@dataclass(frozen=True)
class Supply:
    """What lanes are supplied with in a step, beside their gradients."""

    gradient_at: Callable[[Tensor], Tensor]
    """The gradients where the lanes stand at a point, [rows, lanes]."""
    seeds: NDArray[np.int64]
    """Of each lane's noise."""

    def noise(self, sizes: Sequence[int], t: int, draw: int, p: Tensor) -> Tensor:
        """The noise of a draw, beside p [rows, lanes]."""
        return torch.from_numpy(drawing.lanes(sizes, self.seeds, t, draw)).to(p)


class PartsStepper:
    """Steps every part of some lanes by its rule, on a device."""

    def __init__(self, parts: Sequence[Part], device: str) -> None:
        self.sizes = parts[0].sizes
        self.rows = [torch.from_numpy(part.rows).to(device) for part in parts]
        self.steppers = [_stepper(part, device) for part in parts]
        self.teams: dict[str, list[int]] = {}
        """Which parts have totals in common."""
        for k, part in enumerate(parts):
            self.teams.setdefault(part.team, []).append(k)
        for team in self.teams.values():
            begin_together([self.steppers[k] for k in team])

    def step(self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float, supply: Supply) -> None:
        """One step of every lane; p [rows, lanes] is written where `alive` [lanes]."""
        if len(self.steppers) == 1:
            (stepper,) = self.steppers
            draws = stepper.rule.variant.rule.draws
            for k in range(stepper.looks):
                if k < draws:
                    stepper.see(k, supply.noise(self.sizes, t, k, p))
                else:
                    stepper.see(k, supply.gradient_at(stepper.look(k, t, p, g, alive, factor)))
            stepper.step(t, p, g, alive, factor)
            return
        tensors = [(p[rows], g[rows]) for rows in self.rows]
        norms = self._norms(t, tensors, factor)
        for team in self.teams.values():
            steppers, own = [self.steppers[k] for k in team], [tensors[k] for k in team]
            known = totals(steppers, t, own, factor, {place: norm for k in team for place, norm in norms[k].items()})
            for k in team:
                self.steppers[k].step(t, *tensors[k], alive, factor, known)
                p[self.rows[k]] = tensors[k][0]
            check_numbers(steppers)

    def tell(self, losses: Tensor) -> None:
        """Tell the rules that ask for it the loss of this step, [lanes]."""
        for stepper in self.steppers:
            if LOSS in stepper.hypers:
                stepper.hypers[LOSS] = losses.to(torch.float64)

    def _norms(self, t: int, tensors: Sequence[tuple[Tensor, Tensor]], factor: float) -> list[Totals]:
        """For each part the total by which gradients are clipped, where it clips: that of all parts that do."""
        added: list[Totals] = []
        for stepper, (p, g) in zip(self.steppers, tensors, strict=True):
            places = clipping_places([stepper.graph(t)])
            added.append(stepper.adds(t, p, g, factor, places, {}) if places else {})
        norm = sum(value for own in added for value in own.values())
        return [dict.fromkeys(own, torch.as_tensor(norm)) for own in added]

    def evaluated(self, t: int, p: Tensor, alive: Tensor, factor: float) -> Tensor:
        """The point of evaluation behind step t, [rows, lanes]: of each part its rule's."""
        found = p.clone()
        for rows, stepper in zip(self.rows, self.steppers, strict=True):
            found[rows] = stepper.evaluated(t, p[rows], alive, factor)
        return found
