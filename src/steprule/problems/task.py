"""What is trained is one record: a model, data by part, and a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from steprule import metrics as named_metrics
from steprule.alone import drawing, seed as begin_anew
from steprule.counts import whole
from steprule.errors import InputError, InputTypeError
from steprule.foreign import refusal
from steprule.problems import batch, step
from steprule.problems.batch import as_batch
from steprule.problems.loaders import Loaded
from steprule.problems.source import Rows, Source, stream


def by_the_step(outputs: Any, targets: Any) -> Tensor:
    """The loss of a problem whose `training_step` computes it."""
    raise TypeError("a training step computes the loss of this problem")


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """What is trained: `loss(model(features), targets)` is minimised over the model's parameters."""

    name: str
    summary: str
    features: Any
    """The samples to train on, [samples, ...]: a tensor, an array, or a tuple or dict of them for a model of several inputs."""
    targets: Any
    """[samples, ...], the same; None where a training step finds all that it needs among the features."""
    model: Callable[[], nn.Module]
    """A fresh model, initialised as torch does, from torch's global generator."""
    loss: Callable[[Any, Any], Tensor] = by_the_step
    """Of the model's outputs and the targets: one number, a mean over the samples as a rule."""
    floor: float | None = None
    """The least loss there is, where it is known."""
    validation: tuple[Any, Any] | None = None
    """Features and targets to choose hyperparameters by."""
    test: tuple[Any, Any] | None = None
    """Features and targets for the last word."""
    batch_size: int = 10
    epochs: int = 2
    """How a sweep trains it, unless told otherwise."""
    training_step: Callable[[nn.Module, Any], Any] | None = None
    """In place of a loss: `training_step(model, batch)` returns the loss of a batch, alone or as the part `loss` of a dict or an object.
    A batch is what the data give: (features, targets), or features alone where there are no targets. It is also called in eval mode, to
    measure. Metrics take the parts `outputs` and `targets` of the dict that it returns."""
    metrics: Any = field(default_factory=dict)
    """Numbers beside the loss: functions of (outputs, targets) by name, or names of `steprule.metrics`. They choose nothing."""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The categories of each column of text; the data have their places in this order, from 0."""
    loaders: Mapping[str, Any] = field(default_factory=dict)
    """By part what gives its batches, in place of features and targets: see `Problem.from_dataloaders`."""

    def __post_init__(self) -> None:
        where = f"problem {self.name}"
        object.__setattr__(self, "metrics", named_metrics.resolve(self.metrics, f"{where}: metrics"))
        for name, value in (("batch_size", self.batch_size), ("epochs", self.epochs)):
            object.__setattr__(self, name, whole(f"{where}: {name}", value, 1))
        if isinstance(self.model, nn.Module) or not callable(self.model):
            hint = "Write lambda: Model(...): each training begins with a fresh one."
            got = f"a {type(self.model).__name__}"
            raise InputTypeError(f"{where}: model", expected="a function that makes a model", got=got, hint=hint)
        if (self.training_step is None) is (self.loss is by_the_step):
            got = "neither" if self.training_step is None else "both"
            raise InputError(where, expected="a loss or a training_step", got=got)
        for what in ("loss", "training_step"):
            if (function := getattr(self, what)) is not None and not callable(function):
                raise InputTypeError(f"{where}: {what}", expected="a function", got=repr(function)[:60])
        if not self.loaders:
            self._take_in(where)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self.summary})"

    def _take_in(self, where: str) -> None:
        """The data as tensors. Raises `InputError`, `InputTypeError` for what cannot be trained on."""
        parts = {"features": (self.features, self.targets), "validation": self.validation, "test": self.test}
        for name, pair in parts.items():
            if pair is None:
                continue
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                got = f"a {type(pair).__name__}"
                raise InputTypeError(f"{where}: {name}", expected="a pair (features, targets)", got=got)
            x = as_batch(pair[0], f"{where}: {name}")
            y = None if pair[1] is None and self.training_step else as_batch(pair[1], f"{where}: targets")
            samples = batch.count(x, f"{where}: {name}")
            answers = samples if y is None else batch.count(y, f"{where}: targets")
            if samples != answers or not samples:
                got = f"{samples} and {answers}"
                raise InputError(f"{where}: {name}", expected="as many targets as samples, 1 or more", got=got)
            for tensor in batch.tensors((x, y) if y is not None else x):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad = int((~torch.isfinite(tensor)).sum())
                    raise InputError(f"{where}: {name}", expected="finite numbers", got=f"{bad} that are not")
            if name == "features":
                object.__setattr__(self, "features", x)
                object.__setattr__(self, "targets", y)
            else:
                object.__setattr__(self, name, (x, y))

    @cached_property
    def parts(self) -> Mapping[str, Source]:
        """The data by part: "train", and "validation" and "test" where they are held out."""
        if self.loaders:
            return {name: Loaded(self.loaders[name], f"problem {self.name}: {name} loader") for name in self.loaders}
        held = {"train": (self.features, self.targets), "validation": self.validation, "test": self.test}
        return {name: Rows(*pair) for name, pair in held.items() if pair is not None}

    @property
    def samples(self) -> int:
        """How many samples there are to train on."""
        return self.parts["train"].samples

    @property
    def metric_columns(self) -> list[tuple[str, str]]:
        """Every metric on every part: (part, metric)."""
        return [(part, name) for part in self.parts for name in self.metrics]

    def batch_size_for(self, given: int | None) -> int:
        """The samples of a step: as given, or the problem's own. Raises `InputError` for another one than that of its loader."""
        fixed = self.parts["train"].batch_size
        if fixed is not None and given is not None and given != fixed:
            hint = "Set it where the loader is made."
            raise InputError("batch_size", expected=f"the loader's own, {fixed}", got=repr(given), hint=hint)
        return fixed or whole("batch_size", self.batch_size if given is None else given, 1)

    def outputs_of(self, model: nn.Module, data: Any) -> tuple[Any, Any]:
        """The model's outputs and the targets of a batch, as metrics take them."""
        if self.training_step is not None:
            return step.outputs_in(self.training_step(model, data), f"problem {self.name}: training_step")
        if not isinstance(data, tuple | list) or len(data) != 2:
            got = f"a {type(data).__name__}" + (f" of {', '.join(map(str, data))}" if isinstance(data, Mapping) else "")
            got += f" of {len(data)}" if isinstance(data, tuple | list) else ""
            hint = "Give a training_step(model, batch) in place of the loss."
            raise InputError(f"problem {self.name}", expected="batches (features, targets)", got=got, hint=hint)
        x, y = data
        return batch.called(model, x), y

    def loss_of(self, model: nn.Module, data: Any) -> Tensor:
        """The loss of a batch."""
        if self.training_step is not None:
            return step.loss_in(self.training_step(model, data), f"problem {self.name}: training_step")
        return self.loss(*self.outputs_of(model, data))

    def initial_model(self, seed: int) -> nn.Module:
        """The model before the first step: the same for the same seed. Raises `StepruleError` where there is none."""
        with drawing():
            begin_anew(stream(seed, 0))
            model = fresh_model(self.model, f"problem {self.name}")
            if any(nn.parameter.is_lazy(p) for p in model.parameters()):
                with torch.no_grad():
                    data = self.parts["train"].few(2)  # gives them their shapes
                    (self.loss_of if self.training_step else self.outputs_of)(model, data)
        return model


def fresh_model(make: Callable[[], nn.Module], where: str) -> nn.Module:
    """What a function of the user's makes. Raises `StepruleError` in one line where it raises, or makes something else."""
    try:
        found = make()
    except Exception as error:
        raise refusal(f"{where}: the model cannot be made", error) from error
    if not isinstance(found, nn.Module):
        got = f"one that makes a {type(found).__name__}"
        raise InputTypeError(f"{where}: model", expected="a function that makes a model", got=got)
    return found
