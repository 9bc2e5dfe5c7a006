"""A trainer's path on a function of two variables, and its picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from steprule.counts import whole
from steprule.errors import InputTypeError
from steprule.tutorial.d2l.figures import number

Point = tuple[float, float]


def train_2d(trainer: Callable[..., Any], steps: int = 20, f_grad: Callable[..., Any] | None = None) -> list[Point]:
    """Walk from (-5, -2) with states 0; print the end, return the steps + 1 points.

    Args:
        trainer: `trainer(x1, x2, s1, s2) -> (x1, x2, s1, s2)`; with `f_grad` it is called `trainer(x1, x2, s1, s2, f_grad)`.
        steps: the number of steps, 1 or more.
        f_grad: the gradient, in the form in which the trainer calls it.

    Raises:
        StepruleError: a trainer that does not return four values.

    >>> path = train_2d(lambda x1, x2, s1, s2: (0.92 * x1, -0.6 * x2, s1, s2))
    epoch 20, x1 -0.943467, x2 -0.000073
    """
    steps = whole("steps", steps, 1)
    if not callable(trainer):
        raise InputTypeError("trainer", expected="a function (x1, x2, s1, s2) -> (x1, x2, s1, s2)", got=repr(trainer))
    state: Sequence[Any] = (-5.0, -2.0, 0.0, 0.0)
    results = [(-5.0, -2.0)]
    for _ in range(steps):
        state = trainer(*state) if f_grad is None else trainer(*state, f_grad)
        if not isinstance(state, tuple | list) or len(state) != 4:
            raise InputTypeError("trainer", expected="a result (x1, x2, s1, s2)", got=repr(state)[:60])
        results.append((number(state[0]), number(state[1])))
    x1, x2 = results[-1]
    print(f"epoch {steps}, x1 {x1:f}, x2 {x2:f}")  # noqa: T201
    return results


def show_trace_2d(f: Callable[[Any, Any], Any], results: Sequence[Point]) -> None:
    """Draw a path over the contours of `f(x1, x2)`, which may take arrays, tensors or plain numbers.

    A path that diverges is drawn as far as it is finite.
    """
    path = np.array([[number(x1), number(x2)] for x1, x2 in results], dtype=np.float64).reshape(-1, 2)
    seen = path[np.isfinite(path).all(axis=1)]
    low = np.minimum(seen.min(axis=0, initial=0), (-5.5, -3.0))
    high = np.maximum(seen.max(axis=0, initial=0), 1.0)
    x1, x2 = np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 120))
    with np.errstate(all="ignore"):
        heights = np.broadcast_to(_heights(f, x1, x2), x1.shape)
    _, axes = plt.subplots()
    if np.isfinite(heights).any():
        axes.contour(x1, x2, np.ma.masked_invalid(heights), colors="#1f77b4")
    axes.plot(seen[:, 0], seen[:, 1], "-o", color="#ff7f0e")
    axes.set(xlabel="x1", ylabel="x2")


def _heights(f: Callable[[Any, Any], Any], x1: Any, x2: Any) -> Any:
    """The values of f by arrays, else by tensors, which `torch.exp(x1)` needs, else by numbers, which `math.exp(x1)` needs."""
    for a, b in ((x1, x2), (torch.from_numpy(x1), torch.from_numpy(x2))):
        try:
            return np.asarray(f(a, b))
        except (TypeError, ValueError, RuntimeError):
            continue
    return np.vectorize(f, otypes=[float])(x1, x2)
