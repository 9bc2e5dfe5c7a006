"""Parameters that are stepped beside the kernels: whether they still must be, where they lie, and their steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.compiler.drawing import Key
from steprule.optim import one_by_one
from steprule.optim.computation import Computation, States
from steprule.optim.memory import Ranges, overlapping
from steprule.optim.settings import Settings, Stepped
from steprule.optim.signature import Look


@dataclass(frozen=True)
class Beside:
    """Those of one plan. `members`, which come with each call, are all its parameters."""

    computation: Computation
    places: Sequence[int]
    """Where they stand among the members."""
    together: set[int]
    """Those of them that share memory which the step writes."""
    settings: Sequence[Settings]
    """Of each group."""
    group_of: Any
    """[members]: the group of each."""

    def still(self, states: States, members: Sequence[Tensor], look: Look, written: Any) -> bool:
        """Whether each must be stepped here, and shares no memory with a tensor of a kernel. `written`: which columns a step writes."""
        for m in self.places:
            grad = members[m].grad
            if grad is None:
                return False
            # One that a kernel can step now, as where a gradient was lazy only once, comes back into a bucket.
            if m not in self.together and self.computation.target_of(states, members[m], grad) is not None:
                return False
        ranges = self.ranges(states, members)
        addresses = np.concatenate([look.addresses, ranges.starts], axis=1)
        lengths = np.concatenate([look.lengths, ranges.sizes], axis=1)
        of_kernels = look.addresses.shape[1]
        return not any(k < of_kernels for k in overlapping(addresses, lengths, written))

    def ranges(self, states: States, members: Sequence[Tensor]) -> Ranges:
        """Where they lie: p, g, the slots and the states of one number."""
        params = [members[m] for m in self.places]
        return self.computation.ranges(states, params, [p.grad for p in params])

    def by_function(self, members: Sequence[Tensor]) -> Iterator[tuple[Tensor, Mapping[str, Any]]]:
        """Those that the author's function steps, each with its hyperparameters."""
        if not self.computation.by_torch:
            for m in self.places:
                yield members[m], self.settings[self.group_of[m]].hypers

    def step(
        self,
        by: Stepped,
        groups: Sequence[dict[str, Any]],
        members: Sequence[Tensor],
        known: Mapping[str, float],
        drawn: tuple[Any, Any] | None,
    ) -> None:
        """Step them. `groups` are the plan's own; `known` are the totals and the numbers of the model.

        `drawn`: where each is rounded by chance, which tensor of the model it is and its seed.
        """
        if not self.computation.by_torch:
            keys = (
                [None] * len(self.places)
                if drawn is None
                else [Key(int(s), int(t)) for t, s in zip(*drawn, strict=True)]
            )
            with torch.no_grad():
                for (p, hypers), key in zip(self.by_function(members), keys, strict=True):
                    one_by_one.step_by_rule(
                        by, p, self.computation.used, hypers, known, key, self.computation.state_dtype
                    )
            return
        for k, group in enumerate(groups):
            if params := [members[m] for m in self.places if self.group_of[m] == k]:
                with one_by_one.unscaled(params, self.settings[k].scale):
                    one_by_one.step_by_torch(by, group, params)
