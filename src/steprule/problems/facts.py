"""What a model does beside computing, found by one look at a few samples: draw random numbers, move buffers, leave parameters unused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steprule.alone import drawing
from steprule.errors import InputError, StepruleError
from steprule.foreign import refusal
from steprule.held import most_held
from steprule.problems.batch import Batch, called, count, taken
from steprule.problems.problem import Problem

Reduction = Literal["mean", "sum", "whole"]
AT_ONCE = 4_096
"""Samples that are measured at once, at most."""
HELD = 1 << 29
"""Bytes that measuring them may hold, at most. Both are the same on every machine: a sum in parts has other bits."""
LIKE = 1e-4
"""Losses that differ by less than this share are one."""
ROWS = 4


@dataclass(frozen=True)
class Facts:
    """What decides how a problem's models can be trained and measured."""

    draws: bool
    """Training draws random numbers: dropout, noise."""
    moves_buffers: bool
    """Training changes buffers: the running means of a batch norm."""
    own_buffers: bool
    """Buffers begin otherwise with another seed."""
    unused: bool
    """A parameter gets no gradient."""
    reduction: Reduction
    """How the loss of all samples follows from that of parts of them: their mean, their sum, or not at all."""
    sample_bytes: int
    """What measuring holds for each sample, in bytes."""

    @property
    def at_once(self) -> int:
        """How many samples are measured at once."""
        return max(1, min(AT_ONCE, HELD // max(1, self.sample_bytes)))

    @property
    def one_by_one(self) -> str:
        """Why lanes of such a model are not trained together; empty where they can be."""
        reasons = {
            "the model draws random numbers while it trains (dropout, noise)": self.draws,
            "the model changes its buffers while it trains (batch norm)": self.moves_buffers,
            "the model's buffers are other ones with another seed": self.own_buffers,
            "a parameter of the model gets no gradient": self.unused,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")


@lru_cache(maxsize=64)
def facts_of(task: Problem) -> Facts:
    """The facts, from a few samples, in training mode and in eval mode. Raises `InputError` in one line, with the user's own file
    and line, where the model, the loss or the data do not fit together."""
    with drawing(), _one_line(task, "the model cannot be made"):
        model, other = (task.initial_model(seed, "same", torch_class=False) for seed in (0, 1))
    _check_parameters(task, model)
    own_buffers = any(not _equal(a, b) for a, b in zip(model.buffers(), other.buffers(), strict=True))
    x, y = taken(task.features, slice(ROWS)), taken(task.targets, slice(ROWS))
    reduction = _reduction(task, model, x, y)
    what = "the model failed on its first samples"
    held = most_held(lambda: _loss(task, model, x, y, what, training=False))
    for name, part in (("validation", task.validation), ("test", task.test)):
        if part is not None:
            few = taken(part[0], slice(1)), taken(part[1], slice(1))
            _loss(task, model, *few, f"the model failed on a sample of the {name} data", training=False)
    before, state = [b.clone() for b in model.buffers()], torch.random.get_rng_state()
    with drawing():
        torch.random.set_rng_state(state)
        loss = _loss(task, model, x, y, "the model failed on its first samples", training=True)
        draws = not torch.equal(state, torch.random.get_rng_state())
        with _one_line(task, "the gradient failed on the first samples"):
            wanted = [p for p in model.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    moved = any(not _equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    return Facts(draws, moved, own_buffers, any(g is None for g in gradients), reduction, held // count(x))


def _check_parameters(task: Problem, model: nn.Module) -> None:
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    if not kinds:
        raise InputError(f"problem {task.name}: model", expected="a parameter that can be trained", got="none")
    if strange := kinds - {"float32", "float64"}:
        raise InputError(f"problem {task.name}: model", expected="parameters of float32 or float64", got=strange.pop())


def _loss(task: Problem, model: nn.Module, x: Batch, y: Batch, what: str, *, training: bool) -> Tensor:
    """The loss of a few samples, which is one finite number that depends on the parameters."""
    where = f"problem {task.name}"
    with warnings.catch_warnings(record=True) as said, _one_line(task, what):
        warnings.simplefilter("always")
        if training:
            outputs = called(model, x)
            loss = task.loss(outputs, y)
        else:
            with torch.no_grad(), evaluating(model):
                outputs = called(model, x)
                loss = task.loss(outputs, y)
    if any("target size" in str(w.message) for w in said):
        _refuse_shapes(where, outputs, y)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"{where}: loss", expected="one number", got=got, hint="Take its mean over the samples.")
    if training and not loss.requires_grad:
        raise InputError(
            f"{where}: loss", expected="one that depends on the model's parameters", got="one that does not"
        )
    if bool(torch.isnan(loss)):
        raise InputError(f"{where}: loss of the first samples", expected="a number", got="nan")
    return loss


def _refuse_shapes(where: str, outputs: Any, y: Batch) -> None:
    ours, theirs = (list(t.shape) if isinstance(t, Tensor) else "several" for t in (outputs, y))
    hint = "Such a loss compares every output with every target. Give both one shape, by targets[:, None], say."
    raise InputError(f"{where}: loss", expected=f"targets of the outputs' shape {ours}", got=f"{theirs}", hint=hint)


def _reduction(task: Problem, model: nn.Module, x: Batch, y: Batch) -> Reduction:
    """Mean, sum, or neither: from the samples one by one and together, in eval mode."""
    what = "the model failed on its first samples"
    whole = float(_loss(task, model, x, y, what, training=False))
    rows = range(count(x))
    try:
        alone = [
            float(_loss(task, model, taken(x, slice(k, k + 1)), taken(y, slice(k, k + 1)), what, training=False))
            for k in rows
        ]
    except InputError:
        return "whole"  # a loss that needs more than one sample
    total = sum(alone)
    size = max(map(abs, [*alone, whole]))
    if len(alone) < 2 or size == 0:
        return "mean" if len(alone) < 2 else "whole"
    for name, expected in (("mean", total / len(alone)), ("sum", total)):
        if abs(whole - expected) <= LIKE * size * (1 if name == "mean" else len(alone)):
            return name  # type: ignore[return-value]
    with torch.no_grad(), evaluating(model):
        outputs = called(model, x)
    match outputs, y:
        case Tensor(), Tensor() if y.is_floating_point() and outputs.shape != y.shape:
            if outputs.squeeze().shape == y.squeeze().shape:
                _refuse_shapes(f"problem {task.name}", outputs, y)
    return "whole"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; behind it each of its modules is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _one_line(task: Problem, what: str) -> Iterator[None]:
    """Whatever a user's model or loss raises, in one line with the user's own file and line."""
    try:
        yield
    except StepruleError:
        raise
    except Exception as error:
        raise refusal(f"problem {task.name}: {what}", error) from error


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
