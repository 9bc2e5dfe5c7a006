"""A problem: a model, data, a loss. The catalogue of those that travel with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from steprule.alone import drawing
from steprule.counts import whole
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.problems import airfoil, batch
from steprule.problems.batch import as_batch
from steprule.rules.load import load_object

Init = Literal["same", "tutorial"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What is trained: `loss(model(features), targets)` is minimised over the model's parameters.

    A problem of one's own is this record around an ordinary `nn.Module`, tensors and a loss:

    >>> from torch.nn.functional import mse_loss
    >>> x = torch.randn(60, 3)
    >>> mine = Problem("mine", "a line", x[:40], x[:40].sum(1, keepdim=True), lambda: nn.Linear(3, 1), mse_loss)
    """

    name: str
    summary: str
    features: Any
    """Of the samples to train on, [samples, ...]: a tensor, an array, or a tuple or dict of them for a model of several inputs."""
    targets: Any
    """[samples, ...], the same."""
    model: Callable[[], nn.Module]
    """A fresh model, initialised as torch does, from torch's global generator."""
    loss: Callable[[Any, Any], Tensor]
    """Of the model's outputs and the targets: one number, a mean over the samples as a rule."""
    from_formula: Callable[[nn.Module], None] = lambda model: None
    """Initialises a model as the tutorial's cells from the formula do; others keep torch's own initialisation."""
    floor: float | None = None
    """The least loss there is, where it is known."""
    validation: tuple[Any, Any] | None = None
    """Features and targets to choose hyperparameters by."""
    test: tuple[Any, Any] | None = None
    """Features and targets for the last word."""
    batch_size: int = 10
    epochs: int = 2
    """How a sweep trains it, unless told otherwise."""

    def __post_init__(self) -> None:
        where = f"problem {self.name}"
        for name, value in (("batch_size", self.batch_size), ("epochs", self.epochs)):
            object.__setattr__(self, name, whole(f"{where}: {name}", value, 1))
        if isinstance(self.model, nn.Module) or not callable(self.model):
            hint = "Write lambda: Model(...): each training begins with a fresh one."
            got = f"a {type(self.model).__name__}"
            raise InputTypeError(f"{where}: model", expected="a function that makes a model", got=got, hint=hint)
        parts = {"features": (self.features, self.targets), "validation": self.validation, "test": self.test}
        for name, pair in parts.items():
            if pair is None:
                continue
            x, y = (as_batch(data, f"{where}: {what}") for data, what in zip(pair, (name, "targets"), strict=True))
            samples, answers = batch.count(x, f"{where}: {name}"), batch.count(y, f"{where}: targets")
            if samples != answers or not samples:
                got = f"{samples} and {answers}"
                raise InputError(f"{where}: {name}", expected="as many targets as samples, 1 or more", got=got)
            for tensor in (*batch.tensors(x), *batch.tensors(y)):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad = int((~torch.isfinite(tensor)).sum())
                    raise InputError(f"{where}: {name}", expected="finite numbers", got=f"{bad} that are not")
            for key, data in zip(("features", "targets"), (x, y), strict=True) if name == "features" else ():
                object.__setattr__(self, key, data)
            if name != "features":
                object.__setattr__(self, name, (x, y))

    @property
    def samples(self) -> int:
        """How many samples there are to train on."""
        return batch.count(self.features)

    def initial_model(self, seed: int, init: Init, *, torch_class: bool) -> nn.Module:
        """The model before the first step: the same for the same seed.

        `init="same"`: the formula's initialisation for everyone. `init="tutorial"`: as in the tutorial, where the cells
        with torch's class start from `nn.Linear`'s own.
        """
        if init not in ("same", "tutorial"):
            raise InputError("init", expected="'same' or 'tutorial'", got=repr(init))
        with drawing():
            torch.manual_seed(stream(seed, 0))
            model = self.model()
            if any(nn.parameter.is_lazy(p) for p in model.parameters()):
                with torch.no_grad():
                    batch.called(model, batch.taken(self.features, slice(2)))  # gives them their shapes
            if init == "same" or not torch_class:
                self.from_formula(model)
        return model


def stream(seed: int, which: int | tuple[int, ...]) -> int:
    """The seed of one of the independent streams of randomness of a run: 0 the initial weights, 1 the batches; (2, t) what the
    model draws in step t, from 1."""
    key = which if isinstance(which, tuple) else (which,)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)


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


@cache
def _airfoil_split(name: str) -> Problem:
    split = airfoil.grouped_split()
    data = airfoil.load()
    data = (data - data[split.train].mean(axis=0)) / data[split.train].std(axis=0)
    parts = [_pair(data[rows, :-1], data[rows, -1:]) for rows in (split.train, split.validation, split.test)]
    (features, targets), validation, test = parts
    linear = name == "airfoil-linear"
    model = partial(nn.Linear, 5, 1) if linear else _mlp
    summary = "the same with whole experiments held out" + ("" if linear else ", 64 tanh units")
    size, epochs = (10, 2) if linear else (50, 5)
    return Problem(
        name,
        summary,
        features,
        targets,
        model,
        half_mse,
        validation=validation,
        test=test,
        batch_size=size,
        epochs=epochs,
    )


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1))


def _pair(features: Any, targets: Any) -> tuple[Tensor, Tensor]:
    kind = torch.float32 if np.issubdtype(targets.dtype, np.floating) else torch.int64
    x = torch.from_numpy(np.ascontiguousarray(features))
    return x.float() if x.is_floating_point() else x, torch.from_numpy(np.ascontiguousarray(targets)).to(kind)


def _held_out(features: Any, targets: Any, *, shuffle: bool) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test: three fifths and a fifth each, of shuffled rows or in the order of a text."""
    rows = np.random.default_rng(0).permutation(len(features)) if shuffle else np.arange(len(features))
    cuts = [len(rows) * 3 // 5, len(rows) * 4 // 5]
    return [_pair(features[part], targets[part]) for part in np.split(rows, cuts)]


@cache
def _digits(name: str) -> Problem:
    from steprule.problems import digits

    models: dict[str, tuple[str, Callable[[], nn.Module]]] = {
        "digits-softmax": ("softmax regression", lambda: nn.Linear(64, 10)),
        "digits-mlp": (
            "one hidden layer of 32",
            lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        ),
        "digits-cnn": (
            "a small convolutional network",
            lambda: nn.Sequential(
                nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
            ),
        ),
    }
    text, model = models[name]
    summary = f"handwritten digits of 8 x 8 pixels, {text}"
    return _classes(name, summary, _held_out(*digits.load(), shuffle=True), model, epochs=5)


@cache
def _letters(name: str) -> Problem:
    from steprule.problems import letters

    count, width = len(letters.ALPHABET), 8

    def model() -> nn.Module:
        body = [nn.Flatten(), nn.Linear(letters.BEFORE * width, 32), nn.Tanh(), nn.Linear(32, count)]
        return nn.Sequential(nn.Embedding(count, width), *body)

    summary = "the next letter of six sonnets from the four before, embedding and one hidden layer"
    return _classes(name, summary, _held_out(*letters.load(), shuffle=False), model, epochs=4)


def _classes(
    name: str, summary: str, parts: list[tuple[Tensor, Tensor]], model: Callable[[], nn.Module], *, epochs: int
) -> Problem:
    """A classification in batches of 50, by cross entropy."""
    (features, targets), validation, test = parts
    loss = nn.functional.cross_entropy
    return Problem(
        name, summary, features, targets, model, loss, validation=validation, test=test, batch_size=50, epochs=epochs
    )


@cache
def _walk(name: str) -> Problem:
    from steprule.problems import surfaces, walks  # sympy takes a third of a second

    return walks.problem_of(surfaces.get(name))


_MAKERS: dict[str, Callable[[], Problem]] = {
    "airfoil": _airfoil,
    **{n: partial(_airfoil_split, n) for n in ("airfoil-linear", "airfoil-mlp")},
    **{n: partial(_digits, n) for n in ("digits-softmax", "digits-mlp", "digits-cnn")},
    "letters": partial(_letters, "letters"),
}


def names() -> tuple[str, ...]:
    """The names of the embedded problems."""
    from steprule.problems import surfaces

    return (*_MAKERS, *surfaces.names())


def get(problem: str | Problem) -> Problem:
    """The problem of that name, or of `file.py:name`, where that is a problem or a function without arguments that gives
    one. Raises `UnknownNameError` with the nearest name."""
    if isinstance(problem, Problem):
        return problem
    if ":" in problem:
        file = Path(problem.rpartition(":")[0]).absolute()
        return _loaded(problem, str(file), file.stat().st_mtime_ns if file.is_file() else 0)
    if problem in _MAKERS:
        return _MAKERS[problem]()
    if problem not in names():
        raise unknown_name("problem", problem, names())
    return _walk(problem)


@lru_cache(maxsize=64)
def _loaded(spec: str, file: str, changed: int) -> Problem:
    """A problem of one's own, once: `file` and when it `changed` say whether it is still the same."""
    found = load_object(spec, kind="problem")
    made = found() if callable(found) and not isinstance(found, Problem) else found
    if not isinstance(made, Problem):
        hint = "Make one with steprule.Problem(name, summary, features, targets, model, loss)."
        raise InputTypeError(spec, expected="a steprule.Problem", got=f"a {type(made).__name__}", hint=hint)
    return made
