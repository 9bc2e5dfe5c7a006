"""A problem: a model, data, a loss; and the catalogue of those that travel with the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from steprule import metrics as named_metrics
from steprule.alone import drawing
from steprule.alone import seed as begin_anew
from steprule.counts import whole
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.foreign import refusal
from steprule.problems import airfoil, batch, step
from steprule.problems.batch import as_batch
from steprule.problems.loaders import Loaded
from steprule.problems.names import EMBEDDED
from steprule.problems.source import Rows, Source, stream
from steprule.rules.load import load_object
from steprule.rules.rule import Rule

PARTS = ("train", "validation", "test")


def by_the_step(outputs: Any, targets: Any) -> Tensor:
    """The loss of a problem whose `training_step` computes it."""
    raise TypeError("a training step computes the loss of this problem")


class Options(TypedDict, total=False):
    """What `Problem.from_arrays` can be told of data in a file."""

    name: str
    summary: str
    split: Any
    groups: Any
    shuffle: bool
    split_seed: int
    columns: Sequence[str] | None
    standardize: bool
    metrics: Any
    training_step: Callable[[nn.Module, Any], Any] | None
    batch_size: int
    epochs: int
    floor: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """What is trained: `loss(model(features), targets)` is minimised over the model's parameters.

    A problem of one's own is this record around an ordinary `nn.Module`, tensors and a loss; `from_arrays` makes one of whatever holds
    the data.

    >>> from torch.nn.functional import mse_loss
    >>> x = torch.randn(60, 3)
    >>> mine = Problem("mine", "a line", x[:40], x[:40].sum(1, keepdim=True), lambda: nn.Linear(3, 1), mse_loss)
    """

    name: str
    summary: str
    features: Any
    """Of the samples to train on, [samples, ...]: a tensor, an array, or a tuple or dict of them for a model of several inputs."""
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
    """Of each column of text its categories; the data have their places in this order, from 0."""

    loaders: Mapping[str, Any] = field(default_factory=dict)
    """By part what gives its batches, in place of features and targets: see `from_dataloaders`."""

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
        return f"Problem({self.name!r}: {self.summary})"

    def _take_in(self, where: str) -> None:
        """The data as tensors. Raises `InputError`, `InputTypeError` for what cannot be trained on."""
        parts = {"features": (self.features, self.targets), "validation": self.validation, "test": self.test}
        for name, pair in parts.items():
            if pair is None:
                continue
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputTypeError(f"{where}: {name}", expected="a pair (features, targets)", got=_kind(pair))
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
            for key, data in zip(("features", "targets"), (x, y), strict=True) if name == "features" else ():
                object.__setattr__(self, key, data)
            if name != "features":
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

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        targets: Any,
        model: Callable[..., nn.Module],
        loss: Callable[[Any, Any], Tensor] | None = None,
        *,
        name: str = "mine",
        summary: str = "",
        split: Any = None,
        groups: Any = None,
        shuffle: bool = True,
        split_seed: int = 0,
        validation: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        columns: Sequence[str] | None = None,
        standardize: bool = False,
        metrics: Any = (),
        training_step: Callable[[nn.Module, Any], Any] | None = None,
        batch_size: int = 32,
        epochs: int = 10,
        floor: float | None = None,
    ) -> Problem:
        """A problem from numpy arrays, tables (pandas, polars, pyarrow), tensors or lists; a few rows are tried at once.

        Floats take the dtype of the model's parameters, float32 as a rule. A table's columns become one float tensor [rows, columns];
        an array of whole numbers stays one, for a model that embeds them. Text becomes the place of its category in sorted order, which
        `Problem.categories` tells; truth values become 0 and 1. A missing or infinite value is refused with its column and row.

        Args:
            features: [rows, ...]; or several inputs, as a tuple for `model(a, b)` or a dict for `model(a=..., b=...)`.
            targets: [rows, ...]; or, where the features are a table, the name of its column, or a list of names. None where a training
                step finds them among the features.
            model: a function that makes a fresh model; or one of (inputs, outputs), as `nn.Linear` is, which gets the number of feature
                columns, and of classes or target columns.
            loss: of the outputs and the targets. None chooses by the targets: mean squared error for floats, which then take the
                outputs' shape where that is [rows, 1], and cross entropy for whole numbers, truth values and text.
            name: in results and errors.
            summary: a line on it; the number of rows where none is given.
            split: what is held out: shares such as (0.8, 0.2) for train and validation or (0.6, 0.2, 0.2) with test; or for each row
                "train", "validation" or "test", as an array or a table's column; or a dict of row numbers or masks by part.
            groups: for each row what it belongs to, as an array or a table's column: with shares, a group is in one part alone.
            shuffle: draw the rows of a share; False takes them in order.
            split_seed: of that draw. The same data and seed give the same split.
            validation: a pair (features, targets), where it is apart already.
            test: the same.
            columns: of a table, the features; all columns that are not named otherwise, if not given.
            standardize: bring every float feature to mean 0 and standard deviation 1 of the training rows.
            metrics: beside the loss: names of `steprule.metrics`, functions of (outputs, targets), or a dict of them by name.
            training_step: in place of a loss (see `Problem.training_step`).
            batch_size: samples per step, 1 or more.
            epochs: passes over the data, 1 or more.
            floor: the least loss there is, where it is known.

        Raises:
            StepruleError: in one line, what does not fit, with its place.

        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> mine = Problem.from_arrays(rows, rows.sum(axis=1), nn.Linear, split=(0.6, 0.2, 0.2), metrics="r2")
        >>> mine.summary, list(mine.targets.shape)
        ('36 rows to train on, 12 for validation, 12 for test', [36, 1])
        """
        from steprule.problems import given  # which imports this file

        return given.from_arrays(
            features, targets, model, loss, name=name, summary=summary, split=split, groups=groups, shuffle=shuffle,
            split_seed=split_seed, validation=validation, test=test, standardize=standardize, metrics=metrics,
            training_step=training_step, batch_size=batch_size, epochs=epochs, floor=floor, columns=columns,
        )  # fmt: skip

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        target: str | list[str],
        model: Callable[..., nn.Module],
        loss: Callable[[Any, Any], Tensor] | None = None,
        *,
        delimiter: str | None = None,
        decimal: str = ".",
        encoding: str = "utf-8",
        **options: Unpack[Options],
    ) -> Problem:
        """A problem from a CSV file with a header; `steprule.train("adam", problem)` and a few rows are tried at once.

        Args:
            path: of the file.
            target: the name of the target's column, or a list of names.
            model: as in `from_arrays`; `nn.Linear`, say, gets the number of feature columns, and of classes or target columns.
            loss: as in `from_arrays`.
            delimiter: between fields; the one of `,` `;` tab `|` that the header has most often, if not given.
            decimal: what stands before decimals, "." or ",".
            encoding: of the file's text.
            options: as in `from_arrays`: `split`, `groups` and `columns` name columns; `name` is the file's if not given.

        Raises:
            StepruleError: in one line, what cannot be read, with its column and line.

        >>> _ = Path("heights.csv").write_text("age,kind,height\\n1,a,75\\n2,b,86\\n3,a,95\\n")
        >>> Problem.from_csv("heights.csv", "height", nn.Linear).categories
        {'kind': ('a', 'b')}
        >>> Path("heights.csv").unlink()
        """
        from steprule.problems import reading

        lines = reading.read_csv(path, delimiter, decimal, encoding)
        return cls.from_arrays(lines, target, model, loss, **{"name": Path(path).stem, **options})  # type: ignore[arg-type]

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        target: str | list[str],
        model: Callable[..., nn.Module],
        loss: Callable[[Any, Any], Tensor] | None = None,
        **options: Unpack[Options],
    ) -> Problem:
        """The same from a Parquet file."""
        from steprule.problems import reading

        table = reading.read_parquet(path)
        return cls.from_arrays(table, target, model, loss, **{"name": Path(path).stem, **options})  # type: ignore[arg-type]

    @classmethod
    def from_dataloaders(
        cls,
        train: Any,
        model: Callable[[], nn.Module],
        loss: Callable[[Any, Any], Tensor] | None = None,
        *,
        training_step: Callable[[nn.Module, Any], Any] | None = None,
        validation: Any = None,
        test: Any = None,
        metrics: Any = (),
        name: str = "mine",
        summary: str = "",
        epochs: int = 10,
        floor: float | None = None,
    ) -> Problem:
        """A problem from torch's DataLoaders as they are: their batches, collate functions, augmentation and workers.

        In pass e of a training with seed s, from 0, everything that the loader draws begins at `stream(s, (1, e))`: torch's, numpy's and
        Python's global generators, and those that the loader, its sampler or its dataset holds. So every optimizer sees the same
        batches, and the caller's generators stay as they were. A loader is measured in its own batches, on the pass of `stream(0, 3)`;
        a loss that is no mean or sum over samples is the mean over batches by their samples. One first pass counts them.

        Args:
            train: a DataLoader, or whatever gives the batches of a pass each time it is iterated.
            model: a function that makes a fresh model.
            loss: of the outputs and the targets, where a batch is a pair (features, targets).
            training_step: in place of a loss, for any batch (see `Problem.training_step`).
            validation: as `train`; None where nothing is held out.
            test: the same.
            metrics: as in `from_arrays`; tried when it is first trained.
            name: in results and errors.
            summary: a line on it.
            epochs: passes over the data, 1 or more.
            floor: the least loss there is, where it is known.

        Raises:
            StepruleError: in one line, what does not fit; the first batch of each loader is tried at once.

        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> rows = torch.randn(60, 3)
        >>> loader = DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=10, shuffle=True)
        >>> mine = Problem.from_dataloaders(loader, lambda: nn.Linear(3, 1), nn.functional.mse_loss)
        >>> mine.batch_size, mine.samples
        (10, 60)
        """
        from steprule.problems import given

        loaders = {"train": train, "validation": validation, "test": test}
        return given.from_dataloaders(
            {part: loader for part, loader in loaders.items() if loader is not None}, model, loss, training_step=training_step,
            metrics=metrics, name=name, summary=summary, epochs=epochs, floor=floor,
        )  # fmt: skip

    def initial_model(self, seed: int) -> nn.Module:
        """The model before the first step: the same for the same seed."""
        with drawing():
            begin_anew(stream(seed, 0))
            model = self.model()
            if any(nn.parameter.is_lazy(p) for p in model.parameters()):
                with torch.no_grad():
                    data = self.parts["train"].few(2)  # gives them their shapes
                    (self.loss_of if self.training_step else self.outputs_of)(model, data)
        return model


def _kind(thing: object) -> str:
    return f"a {type(thing).__name__}"


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
    (features, targets), validation, test = parts
    linear = name == "airfoil-linear"
    model = partial(nn.Linear, 5, 1) if linear else _mlp
    size, epochs = (10, 2) if linear else (50, 5)
    return Problem(
        name,
        EMBEDDED[name],
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

    models: dict[str, Callable[[], nn.Module]] = {
        "digits-softmax": lambda: nn.Linear(64, 10),
        "digits-mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        "digits-cnn": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
        ),
    }
    return _classes(name, _held_out(*digits.load(), shuffle=True), models[name], epochs=5)


@cache
def _letters(name: str) -> Problem:
    from steprule.problems import letters

    count, width = len(letters.ALPHABET), 8

    def model() -> nn.Module:
        body = [nn.Flatten(), nn.Linear(letters.BEFORE * width, 32), nn.Tanh(), nn.Linear(32, count)]
        return nn.Sequential(nn.Embedding(count, width), *body)

    return _classes(name, _held_out(*letters.load(), shuffle=False), model, epochs=4)


def _classes(name: str, parts: list[tuple[Tensor, Tensor]], model: Callable[[], nn.Module], *, epochs: int) -> Problem:
    """A classification in batches of 50, by cross entropy."""
    (features, targets), validation, test = parts
    loss = nn.functional.cross_entropy
    return Problem(
        name,
        EMBEDDED[name],
        features,
        targets,
        model,
        loss,
        validation=validation,
        test=test,
        batch_size=50,
        epochs=epochs,
    )


@cache
def _walk(name: str) -> Problem:
    from steprule.problems import on_surfaces as walks  # sympy takes a third of a second
    from steprule.surfaces import catalogue as surfaces

    return walks.problem_of(surfaces.get(name))


_FAMILIES = {"airfoil": _airfoil_split, "digits": _digits, "letters": _letters}
_MAKERS: dict[str, Callable[[], Problem]] = {
    name: partial(_airfoil if name == "airfoil" else _FAMILIES[name.partition("-")[0]], name) for name in EMBEDDED
}


def names() -> tuple[str, ...]:
    """The names of the embedded problems."""
    from steprule.surfaces import catalogue as surfaces

    return (*_MAKERS, *surfaces.names())


def embedded() -> list[Problem]:
    """The problems that train a model on data of the package: all but the surfaces."""
    return [make() for make in _MAKERS.values()]


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
        hint = f"Write {problem}:NAME." if problem.endswith(".py") else ""
        raise unknown_name("problem", problem, names(), hint=hint)
    return _walk(problem)


@lru_cache(maxsize=64)
def _loaded(spec: str, file: str, changed: int) -> Problem:
    """A problem of one's own, once: `file` and when it `changed` say whether it is still the same."""
    found = load_object(spec, kind="problem")
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
