"""What a model does beside computing is found by one look at a few samples.

It may draw random numbers, move buffers, leave parameters unused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steprule.alone import Drawn, drawing
from steprule.counts import counted
from steprule.errors import InputError, StepruleError
from steprule.foreign import refusal
from steprule.held import most_held
from steprule.problems import batch
from steprule.problems.task import Task

Reduction = Literal["mean", "sum", "whole"]
AT_ONCE = 4_096
"""Samples that are measured at once, at most."""
HELD = 1 << 29
"""Bytes that measuring them may hold, at most. Both are the same on every machine: a sum in parts has other bits."""
LIKE = 1e-4
"""Losses that differ by less than this share are one."""
ROWS = 4
SPREAD = 16
"""Samples from everywhere in the data, by which the reduction is found, beside one of each class: a weighted mean is a plain one where
all are of one class."""


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
    hooks: bool
    """A hook sees a gradient: of a parameter, a module, or what the model computes in between."""
    changes: bool
    """Training computes otherwise when it is called again: a model that counts its calls, say."""
    apart: str
    """Why the data or the loss keep lanes apart; empty where they do not."""
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
            "a hook in the model sees gradients": self.hooks,
            "the model computes otherwise each time it is called": self.changes,
        }
        return self.apart or next((reason for reason, holds in reasons.items() if holds), "")


@lru_cache(maxsize=64)
def facts_of(task: Task) -> Facts:
    """The facts, from a few samples, in training mode and in eval mode. Raises `InputError` in one line, with the user's own file
    and line, where the model, the loss or the data do not fit together."""
    with drawing(), _one_line(task, "the model cannot be made"):
        model, other = (task.initial_model(seed) for seed in (0, 1))
    _check_parameters(task, model)
    own_buffers = any(not same(a, b) for a, b in zip(model.buffers(), other.buffers(), strict=True))
    data = task.parts["train"].few(ROWS)
    _check_classes(task, model, data)
    _loss(task, model, data, "the model failed on its first samples", training=False)
    reduction = _reduction(task, model, task.parts["train"].spread(SPREAD))
    if reduction == "whole" and not task.parts["train"].whole:
        reduction = "mean"  # of the loader's batches, by their samples
    for name, part in task.parts.items():
        if name != "train":
            _loss(task, model, part.few(1), f"the model failed on a sample of the {name} data", training=False)
    what = "the model failed on its first samples"
    part = task.parts["train"]
    rows = min(ROWS, part.samples) if part.whole else part.batch_size or 1
    held = most_held(lambda: _loss(task, model, data, what, training=False)) // rows
    before = [b.clone() for b in model.buffers()]
    with drawing():
        state = Drawn.now()
        with _hooks_set() as hooked:
            gradients = _gradients(task, model, data)
        draws = not state.same(Drawn.now())
        moved = any(not same(a, b) for a, b in zip(before, model.buffers(), strict=True))
        state.put_back()
        again = _gradients(task, model, data)
        pairs = zip(gradients, again, strict=True)
        changes = not all(alike(a, b) for a, b in pairs if a is not None and b is not None)
    apart = task.parts["train"].one_by_one or ("a training step computes the loss" if task.training_step else "")
    unused = any(g is None for g in gradients)
    hooks = bool(hooked) or _has_hooks(model)
    return Facts(draws, moved, own_buffers, unused, hooks, changes, apart, reduction, held)


def _gradients(task: Task, model: nn.Module, data: Any) -> list[Tensor | None]:
    """The gradients of the loss of these samples, by each parameter that is trained."""
    loss = _loss(task, model, data, "the model failed on its first samples", training=True)
    with _one_line(task, "the gradient failed on the first samples"):
        wanted = [p for p in model.parameters() if p.requires_grad]
        return list(torch.autograd.grad(loss, wanted, allow_unused=True))


def alike(ours: Tensor, theirs: Tensor, within: float = LIKE) -> bool:
    """Whether two gradients differ by rounding alone, relative to the largest element: sums may come in another order."""
    ours, theirs = (g.to_dense() if g.layout != torch.strided else g for g in (ours, theirs))
    largest = float(ours.abs().nan_to_num(0.0, 0.0).max()) if ours.numel() else 0.0
    return torch.allclose(ours, theirs, rtol=within, atol=within * largest, equal_nan=True)


def _has_hooks(model: nn.Module) -> bool:
    of_parameters = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())
    of_all = nn.modules.module._global_backward_hooks or nn.modules.module._global_backward_pre_hooks
    of_modules = any(m._backward_hooks or m._backward_pre_hooks for m in model.modules())
    return bool(of_parameters or of_modules or of_all)


@contextmanager
def _hooks_set() -> Iterator[list[Any]]:
    """Gives what `Tensor.register_hook` is called on inside."""
    seen: list[Any] = []
    real = Tensor.register_hook

    def register_hook(self: Tensor, hook: Any) -> Any:
        seen.append(self)
        return real(self, hook)  # type: ignore[no-untyped-call]

    Tensor.register_hook = register_hook  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Tensor.register_hook = real  # type: ignore[method-assign]


def _check_parameters(task: Task, model: nn.Module) -> None:
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    if not kinds:
        raise InputError(f"problem {task.name}: model", expected="a parameter that can be trained", got="none")
    if strange := kinds - {"float32", "float64"}:
        raise InputError(f"problem {task.name}: model", expected="parameters of float32 or float64", got=strange.pop())


def _check_classes(task: Task, model: nn.Module, data: Any) -> None:
    """Every class number has an output: cross entropy would fail at the first that has none, late in a training."""
    ignored = -100
    if isinstance(task.loss, nn.CrossEntropyLoss | nn.NLLLoss):
        ignored = task.loss.ignore_index
    elif task.loss not in (nn.functional.cross_entropy, nn.functional.nll_loss):
        return
    if not isinstance(task.targets, Tensor) or task.targets.is_floating_point():
        return
    with _one_line(task, "the model failed on its first samples", data), _measuring(model):
        outputs, _ = task.outputs_of(model, batch.copied(data))
    if not isinstance(outputs, Tensor) or outputs.ndim < 2:
        return
    held = {"train": (None, task.targets), "validation": task.validation, "test": task.test}
    for part, pair in held.items():
        if pair is None or not bool(
            (bad := (pair[1] != ignored) & ((pair[1] < 0) | (pair[1] >= outputs.shape[1]))).any()
        ):
            continue
        at = torch.nonzero(bad)[0].tolist()
        found, outs = int(pair[1][tuple(at)]), outputs.shape[1]
        hint = f"The model has {counted(outs, 'output')}. For a regression give floats as targets."
        where = f"problem {task.name}: {'' if part == 'train' else part + ' '}targets"
        raise InputError(where, expected=f"classes 0 to {outs - 1}", got=f"{found} in row {at[0]}", hint=hint)


def _loss(task: Task, model: nn.Module, data: Any, what: str, *, training: bool) -> Tensor:
    """The loss of a few samples, which is one finite number that depends on the parameters."""
    where, data, outputs = f"problem {task.name}", batch.copied(data), None
    with warnings.catch_warnings(record=True) as said, _one_line(task, what, data):
        warnings.simplefilter("always")
        with nullcontext() if training else _measuring(model):
            if task.training_step is not None:
                loss = task.loss_of(model, data)
            else:
                outputs, targets = task.outputs_of(model, data)
                loss = task.loss(outputs, targets)
    if any("target size" in str(w.message) for w in said):
        _refuse_shapes(where, outputs, data)
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


def _refuse_shapes(where: str, outputs: Any, data: Any) -> None:
    targets = data[1] if outputs is not None else None
    ours, theirs = (list(t.shape) if isinstance(t, Tensor) else "several" for t in (outputs, targets))
    hint = "Such a loss compares every output with every target. Give both one shape, by targets[:, None], say."
    if outputs is None:
        raise InputError(f"{where}: training_step", expected="outputs and targets of one shape", got="two", hint=hint)
    raise InputError(f"{where}: loss", expected=f"targets of the outputs' shape {ours}", got=f"{theirs}", hint=hint)


def _reduction(task: Task, model: nn.Module, data: Any) -> Reduction:
    """Mean, sum, or neither: from the samples one by one and together, in eval mode."""
    what = "the model failed on its first samples"
    whole = float(_loss(task, model, data, what, training=False))
    if not batch.can_be_cut(data):
        return "whole"
    try:
        alone = [float(_loss(task, model, one, what, training=False)) for one in batch.each(data)]
    except InputError:
        return "whole"  # a loss that needs more than one sample
    total = sum(alone)
    size = max(map(abs, [*alone, whole]))
    if len(alone) < 2 or size == 0:
        return "mean" if len(alone) < 2 else "whole"
    for name, expected in (("mean", total / len(alone)), ("sum", total)):
        if abs(whole - expected) <= LIKE * size * (1 if name == "mean" else len(alone)):
            return name  # type: ignore[return-value]
    if task.training_step is None:
        with _measuring(model):
            outputs, y = task.outputs_of(model, batch.copied(data))
        match outputs, y:
            case Tensor(), Tensor() if y.is_floating_point() and outputs.shape != y.shape:
                if outputs.squeeze().shape == y.squeeze().shape:
                    _refuse_shapes(f"problem {task.name}", outputs, data)
    return "whole"


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    with torch.no_grad(), evaluating(model):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; behind it each of its modules is as it was."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _one_line(task: Task, what: str, data: Any = None) -> Iterator[None]:
    """Whatever a user's model or loss raises, in one line with the user's own file and line."""
    try:
        yield
    except StepruleError:
        raise
    except Exception as error:
        raise refusal(f"problem {task.name}: {what}", error, hint=hint_for(error, data)) from error


def hint_for(error: Exception, data: Any) -> str:
    """What to change where torch's message tells of dtypes or class numbers; else nothing."""
    text = str(error)
    if "out of bounds" in text and text.startswith("Target"):
        return "Classes are numbered from 0, and the model needs an output for each."
    if any(words in text for words in ("expected scalar type Long but found", "expected target dtype to be Long")):
        return "cross_entropy takes class numbers: targets.long()."
    pair = isinstance(data, tuple | list) and len(data) == 2
    kinds = {t.dtype for t in batch.leaves(data[0]) if isinstance(t, Tensor)} if pair else set()
    if not any(word in text for word in ("dtype", "scalar type", "Input type", "same type")):
        return ""
    if any(not kind.is_floating_point and not kind.is_complex for kind in kinds):
        return "The features are whole numbers: features.float(), unless the model embeds them."
    if torch.float64 in kinds:
        return "The features are float64 and the parameters are not: features.float()."
    return ""


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same numbers, nan among them."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
