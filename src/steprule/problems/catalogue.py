"""The problems that travel with the package, and any problem by its name or in a user's file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.foreign import refusal
from steprule.problems import airfoil, digits, letters
from steprule.problems.deep import Deep
from steprule.problems.names import EMBEDDED
from steprule.problems.problem import Loss, Problem
from steprule.rules.load import load_object, module_from
from steprule.rules.rule import Rule

Parts = list[tuple[Tensor, Tensor]]
"""Features and targets of training, validation and test."""


def half_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error."""
    return ((prediction.view(target.shape) - target) ** 2 / 2).mean()


def _small_linear() -> nn.Linear:
    """The tutorial's model, with the first weights of its cells from the formula: nearly zero."""
    model = nn.Linear(5, 1)
    nn.init.normal_(model.weight, std=0.01)
    nn.init.zeros_(model.bias)
    return model


@cache
def _airfoil(name: str) -> Problem:
    features, labels = airfoil.tutorial()
    return Problem(
        name=name,
        summary=EMBEDDED[name],
        features=torch.from_numpy(features),
        targets=torch.from_numpy(labels),
        model=_small_linear,
        loss=half_mse,
        floor=airfoil.least_squares_floor(),
    )


@cache
def _airfoil_split(name: str) -> Problem:
    split = airfoil.grouped_split()
    data = airfoil.load()
    data = (data - data[split.train].mean(axis=0)) / data[split.train].std(axis=0)
    parts = [_pair(data[rows, :-1], data[rows, -1:]) for rows in (split.train, split.validation, split.test)]
    if name == "airfoil-linear":
        return _of_parts(name, parts, partial(nn.Linear, 5, 1), half_mse, batch_size=10, epochs=2)
    return _of_parts(name, parts, _mlp, half_mse, batch_size=50, epochs=5)


def _of_parts(
    name: str, parts: Parts, model: Callable[[], nn.Module], loss: Loss, *, batch_size: int, epochs: int
) -> Problem:
    """Of training, validation and test data."""
    (features, targets), validation, test = parts
    return Problem(
        name, EMBEDDED[name], features, targets, model, loss,
        validation=validation, test=test, batch_size=batch_size, epochs=epochs,
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1))


def _pair(features: Any, targets: Any) -> tuple[Tensor, Tensor]:
    kind = torch.float32 if np.issubdtype(targets.dtype, np.floating) else torch.int64
    x = torch.from_numpy(np.ascontiguousarray(features))
    return x.float() if x.is_floating_point() else x, torch.from_numpy(np.ascontiguousarray(targets)).to(kind)


def _held_out(features: Any, targets: Any, *, shuffle: bool) -> Parts:
    """Training, validation and test: three fifths and a fifth each, of shuffled rows or in the order of a text."""
    rows = np.random.default_rng(0).permutation(len(features)) if shuffle else np.arange(len(features))
    cuts = [len(rows) * 3 // 5, len(rows) * 4 // 5]
    return [_pair(features[part], targets[part]) for part in np.split(rows, cuts)]


@cache
def _digits(name: str) -> Problem:
    models: dict[str, Callable[[], nn.Module]] = {
        "digits-softmax": lambda: nn.Linear(64, 10),
        "digits-mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        "digits-cnn": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
        ),
    }
    parts = _held_out(*digits.load(), shuffle=True)
    return _of_parts(name, parts, models[name], nn.functional.cross_entropy, batch_size=50, epochs=5)


@cache
def _letters(name: str) -> Problem:
    count, width = len(letters.ALPHABET), 8

    def model() -> nn.Module:
        body = [nn.Flatten(), nn.Linear(letters.BEFORE * width, 32), nn.Tanh(), nn.Linear(32, count)]
        return nn.Sequential(nn.Embedding(count, width), *body)

    parts = _held_out(*letters.load(), shuffle=False)
    if name == "letters-deep":
        deep = partial(Deep, count, letters.BEFORE)
        return _of_parts(name, parts, deep, nn.functional.cross_entropy, batch_size=50, epochs=2)
    return _of_parts(name, parts, model, nn.functional.cross_entropy, batch_size=50, epochs=4)


@cache
def _on_surface(name: str) -> Problem:
    from steprule.problems import on_surfaces  # sympy takes a third of a second
    from steprule.surfaces import catalogue as surfaces

    return on_surfaces.problem_of(surfaces.get(name))


_FAMILIES = {"airfoil": _airfoil_split, "digits": _digits, "letters": _letters}
_MAKERS: dict[str, Callable[[], Problem]] = {
    name: partial(_airfoil if name == "airfoil" else _FAMILIES[name.partition("-")[0]], name) for name in EMBEDDED
}


def names() -> tuple[str, ...]:
    """The names of the embedded problems."""
    from steprule.surfaces import catalogue as surfaces

    return (*_MAKERS, *surfaces.names())


def get(problem: str | Problem) -> Problem:
    """The problem of that name, or of `file.py:name`, where that is a problem or a function without arguments that gives
    one. Raises `UnknownNameError` with the nearest name."""
    if isinstance(problem, Problem):
        return problem
    if ":" in problem or problem.endswith(".py"):
        file = Path(problem if problem.endswith(".py") else problem.rpartition(":")[0]).absolute()
        return _loaded(problem, str(file), file.stat().st_mtime_ns if file.is_file() else 0)
    if problem in _MAKERS:
        return _MAKERS[problem]()
    if problem not in names():
        raise unknown_name("problem", problem, names())
    return _on_surface(problem)


def only_problem_in(path: Path) -> Any:
    """The one problem of a user's file, or the one function in it that says it returns one. Raises `InputError` where it is not one."""
    public = {n: v for n, v in vars(module_from(path, "problem")).items() if not n.startswith("_")}
    found = {n: v for n, v in public.items() if isinstance(v, Problem)}
    found = found or {n: v for n, v in public.items() if _returns_a_problem(v)}
    if len({id(v) for v in found.values()}) == 1:
        return next(iter(found.values()))
    hint = f"Write {path}:{next(iter(found), 'NAME')}."
    raise InputError(str(path), expected="one problem", got=", ".join(found) or "none", hint=hint)


def _returns_a_problem(thing: Any) -> bool:
    said = getattr(thing, "__annotations__", {}).get("return") if isfunction(thing) else None
    return said is Problem or (isinstance(said, str) and said.rpartition(".")[2] == "Problem")


@lru_cache(maxsize=64)
def _loaded(spec: str, file: str, changed: int) -> Problem:
    """A problem of one's own, once: `file` and when it `changed` say whether it is still the same."""
    found = only_problem_in(Path(spec)) if spec.endswith(".py") else load_object(spec, kind="problem")
    made = found
    if callable(found) and not isinstance(found, Problem | Rule):
        try:
            made = found()
        except Exception as error:
            raise refusal(f"problem {spec}", error) from error
    if not isinstance(made, Problem):
        hint = "Make one with steprule.Problem(name, summary, features, targets, model, loss)."
        raise InputTypeError(spec, expected="a steprule.Problem", got=f"a {type(made).__name__}", hint=hint)
    return made
