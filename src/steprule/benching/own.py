"""Measures how much of one's own training a swap of the optimizer saves, by whole iterations with both in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steprule.alone import drawing, seed
from steprule.benching.steps import contender, median_interval, silent
from steprule.display import Shown, size
from steprule.foreign import refusal
from steprule.held import most_held
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.problems.source import stream
from steprule.trainable import Optimizable, Trainable

ROUNDS = (7, 201)
"""The fewest and the most rounds."""
ENOUGH = 6.0
"""Rounds end after this many seconds."""
WORTH = 0.01
"""A swap is worth it from this share of a training on."""
PEER = "torch.optim.AdamW"


@dataclass(frozen=True, repr=False)
class Swap(Shown):
    """One optimizer in place of another in whole training iterations of one problem."""

    problem: str
    parameters: int
    batch_size: int
    optimizer: str
    peer: str
    milliseconds: dict[str, float]
    """A whole iteration by optimizer, median over rounds."""
    step_milliseconds: dict[str, float]
    """The step alone by optimizer, median over rounds."""
    share: float
    """The step's part of the peer's iteration."""
    saved: float
    """The share of the peer's iteration that the swap saves: the median difference of the steps over the median iteration."""
    interval: tuple[float, float]
    """The bootstrap's 95 % interval of `saved`."""
    extra_bytes: dict[str, int]
    """The bytes that a step holds at one time beside parameters, gradients and states, by optimizer."""
    rounds: int
    threads: int

    @property
    def verdict(self) -> str:
        """One sentence."""
        low, high = self.interval
        within = f"[{100 * low:.1f}, {100 * high:.1f}]"
        whole = self.milliseconds[self.peer]
        if low >= WORTH:
            time = f"{self.saved * whole:.3g} of {whole:.3g} ms per iteration"
            return f"Swapping saves {100 * self.saved:.1f} % of this training {within}: {time}."
        if high <= -WORTH:
            return f"Swapping costs {-100 * self.saved:.1f} % of this training {within}: stay with {self.peer}."
        saving = f"swapping saves {100 * self.saved:.1f} % {within} of it"
        return f"Not worth it here: the step is {100 * self.share:.1f} % of an iteration, and {saving}."

    def in_words(self) -> str:
        """The measurements in words, and the verdict."""
        model = f"{self.problem}: {self.parameters:,} parameters, batch {self.batch_size}"
        lines = [f"{model}; {self.rounds} rounds in turn, {self.threads} threads"]
        for name in (self.peer, self.optimizer):
            times = (
                f"{self.milliseconds[name]:.4g} ms per iteration, {self.step_milliseconds[name]:.3g} ms of it the step"
            )
            lines.append(f"    {name}: {times}, which holds {size(self.extra_bytes[name])} more")
        return "\n".join([*lines, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """The measurements as plain values, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}


def swap(
    optimizer: Optimizable | None = None, problem: str | Problem = "airfoil", *, peer: Optimizable | None = None,
    batch_size: int | None = None, progress: Callable[[str], None] = silent,
) -> Swap:  # fmt: skip
    """Time training iterations of `problem` with `peer` and with our class of `optimizer` in turn, each on its own copy of the model.

    Args:
        optimizer: one of torch's classes that we have, or any RULE; the peer's if not given.
        problem: a problem, its name, or `file.py:name`.
        peer: whatever trains, a rule by its compiled class; if not given, torch's class of the same name, or AdamW where torch has none.
        batch_size: samples per step; the problem's own if not given.
        progress: called with a word about what is being measured.

    Raises:
        StepruleError: an unknown name, or a model that fails.
    """
    task = problems.get(problem)
    samples = task.batch_size_for(batch_size)
    one = contender(optimizer or peer or PEER)
    other = Trainable.of(peer or one.theirs or torch.optim.AdamW)
    names = {"ours": f"steprule.optim.{one.name}" if one.theirs else one.name, "theirs": other.name}
    if names["ours"] == names["theirs"]:
        names["theirs"] += " (peer)"
    sides = {
        "theirs": _Side(task, other.make, names["theirs"], samples),
        "ours": _Side(task, one.ours, names["ours"], samples),
    }
    progress(f"{names['ours']} and {names['theirs']} on {task.name}")
    for side in sides.values():
        side.warm_up()
    whole, step = _in_turn(sides)
    median = statistics.median(whole["theirs"])
    # Only the steps are compared: forward and backward are the same for both, and their noise is larger than the difference.
    saved = [(a - b) / median for a, b in zip(step["theirs"], step["ours"], strict=True)]
    return Swap(
        problem=task.name,
        parameters=sum(p.numel() for p in sides["ours"].model.parameters()),
        batch_size=samples,
        optimizer=names["ours"],
        peer=names["theirs"],
        milliseconds={names[n]: statistics.median(v) * 1e3 for n, v in whole.items()},
        step_milliseconds={names[n]: statistics.median(v) * 1e3 for n, v in step.items()},
        share=statistics.median(step["theirs"]) / median,
        saved=statistics.median(saved),
        interval=median_interval(saved),
        extra_bytes={names[n]: side.extra for n, side in sides.items()},
        rounds=len(saved),
        threads=torch.get_num_threads(),
    )


Seconds = dict[str, list[float]]


def _in_turn(sides: Mapping[str, _Side]) -> tuple[Seconds, Seconds]:
    """The seconds of whole iterations and those of their steps, per side and round."""
    whole: Seconds = {name: [] for name in sides}
    step: Seconds = {name: [] for name in sides}
    began = time.perf_counter()
    fewest, most = ROUNDS
    order = list(sides)
    for k in range(most):
        order.reverse()
        for name in order:
            forward, own = sides[name].iterate()
            whole[name].append(forward + own)
            step[name].append(own)
        if k + 1 >= fewest and time.perf_counter() - began > ENOUGH:
            break
    return whole, step


class _Side:
    """A copy of the model with its optimizer."""

    def __init__(self, task: Problem, make: Any, name: str, samples: int) -> None:
        self.task, self.name, self.samples = task, name, samples
        self.model: nn.Module = task.initial_model(0)
        self.data = self._batches()
        self.extra = 0
        try:
            self.optimizer = make(self.model.parameters())
        except Exception as error:
            raise refusal(name, error) from error

    def _batches(self) -> Iterator[Any]:
        epoch = 0
        while True:
            for data, _ in self.task.parts["train"].batches(self.samples, 1, epoch):
                yield data
            epoch += 1

    def warm_up(self) -> None:
        """Take steps until all is built, then measure the memory of a step."""
        for _ in range(3):
            self.iterate()
        self._backward()
        self.extra = most_held(self._step)

    def iterate(self) -> tuple[float, float]:
        """Seconds of forward and backward, and of the step."""
        began = time.perf_counter()
        self._backward()
        middle = time.perf_counter()
        self._step()
        return middle - began, time.perf_counter() - middle

    def _backward(self) -> None:
        self.optimizer.zero_grad()
        try:
            with drawing():
                seed(stream(0, 2))
                loss: Tensor = self.task.loss_of(self.model, next(self.data))
            loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            raise refusal(f"problem {self.task.name}: the model failed", error) from error

    def _step(self) -> None:
        try:
            self.optimizer.step()
        except Exception as error:
            hint = "Optimizers that want a closure are not compared." if "closure" in str(error) else ""
            raise refusal(self.name, error, hint=hint) from error
