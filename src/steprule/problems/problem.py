"""A problem: a model, data, a loss. The catalogue of those that travel with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from steprule.errors import InputError, unknown_name
from steprule.problems import airfoil

Init = Literal["same", "tutorial"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What is trained: `loss(model(features), targets)` is minimised over the model's parameters."""

    name: str
    summary: str
    features: Tensor
    targets: Tensor
    model: Callable[[], nn.Module]
    """A fresh model, initialised as torch does, from torch's global generator."""
    loss: Callable[[Tensor, Tensor], Tensor]
    from_formula: Callable[[nn.Module], None]
    """Initialises a model as the tutorial's cells from the formula do."""
    floor: float | None = None
    """The least loss there is, where it is known."""

    def initial_model(self, seed: int, init: Init, *, torch_class: bool) -> nn.Module:
        """The model before the first step: the same for the same seed.

        `init="same"`: the formula's initialisation for everyone. `init="tutorial"`: as in the tutorial, where the cells
        with torch's class start from `nn.Linear`'s own.
        """
        if init not in ("same", "tutorial"):
            raise InputError("init", expected="'same' or 'tutorial'", got=repr(init))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, 0))
            model = self.model()
            if init == "same" or not torch_class:
                self.from_formula(model)
        return model


def stream(seed: int, which: int) -> int:
    """The seed of one of the independent streams of randomness of a run: 0 the initial weights, 1 the batches."""
    return int(np.random.SeedSequence(seed, spawn_key=(which,)).generate_state(1, np.uint64)[0] >> 1)


def half_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error."""
    return ((prediction.view(target.shape) - target) ** 2 / 2).mean()


def _small_weights(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if name.endswith("bias") else parameter.normal_(0, 0.01)


@cache
def _airfoil() -> Problem:
    features, labels = airfoil.tutorial()
    return Problem(
        name="airfoil",
        summary="Linear regression of airfoil self-noise on five features, as the tutorial has it",
        features=torch.from_numpy(features),
        targets=torch.from_numpy(labels),
        model=lambda: nn.Linear(features.shape[1], 1),
        loss=half_mse,
        from_formula=_small_weights,
        floor=airfoil.least_squares_floor(),
    )


_MAKERS: dict[str, Callable[[], Problem]] = {"airfoil": _airfoil}


def names() -> tuple[str, ...]:
    """The names of the embedded problems."""
    return tuple(_MAKERS)


@lru_cache(maxsize=64)
def get(problem: str | Problem) -> Problem:
    """The problem of that name. Raises `UnknownNameError` with the nearest one."""
    if isinstance(problem, Problem):
        return problem
    if problem not in _MAKERS:
        raise unknown_name("problem", problem, _MAKERS)
    return _MAKERS[problem]()
