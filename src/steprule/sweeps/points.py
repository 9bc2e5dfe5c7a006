"""The points of a sweep: drawn, or as they are given, with the recipe by which each trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steprule import extras, schedules
from steprule.counts import whole
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Search
from steprule.lanes.records import Array
from steprule.per_kind import PerKind
from steprule.problems.problem import Problem
from steprule.rules.rule import Rule
from steprule.schedules import Schedule, WarmUp
from steprule.trainable import Trainable
from steprule.training.recipe import Recipe


def sobol(ranges: Mapping[str, Search], count: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """`count` scrambled Sobol points over ranges, each on its own scale: by name, [count].

    Raises `InputError` for less than one point.
    """
    count = whole("points", count, 1)
    if not ranges:
        return {}
    with extras.needed():
        from scipy.stats import qmc  # half a second, which a sweep over a grid need not wait for

    shares = qmc.Sobol(len(ranges), rng=seed).random_base2(int(np.ceil(np.log2(count))))[:count]
    return {n: np.array([s.at(share) for share in shares[:, k]]) for k, (n, s) in enumerate(ranges.items())}


@dataclass(frozen=True)
class Points:
    """What differs from point to point."""

    hypers: dict[str, Array]
    """As they were given, by name, [points]."""
    recipes: list[Recipe]
    """Of each point."""

    def __len__(self) -> int:
        return len(self.recipes)

    def point(self, k: int) -> dict[str, Any]:
        """The hyperparameters of one point, as plain values."""
        return {n: v[k].item() for n, v in self.hypers.items()}


def points_of(
    task: Problem, what: Any, hypers: Mapping[str, ArrayLike], plan: Mapping[str, Any], device: str
) -> Points:
    """The points from one value for all of them, or one each, of every hyperparameter and of `plan`: schedule, epochs, batch_size.

    Raises `StepruleError` for what does not fit.
    """
    where = Trainable.of(what).name
    given = {n: _array(f"{where}: {n}", v) for n, v in _each_by_itself(hypers, what).items()}
    lengths = {n: len(a) for n, a in given.items() if a.ndim}
    lengths |= {n: len(v) for n, v in plan.items() if not _is_one(v)}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{n}: {c}" for n, c in lengths.items())
        hint = "One value per point: np.meshgrid(...) and ravel() give all combinations."
        raise InputError(f"{where}: hypers", expected="arrays of one length", got=got, hint=hint)
    count = next(iter(lengths.values()), 1)
    each = {n: _each(n, v, count) for n, v in plan.items()}
    for size in set(each["batch_size"]):
        task.batch_size_for(size)
    rows = list(zip(each["epochs"], each["batch_size"], each["schedule"], strict=True))
    recipes = {row: Recipe(*row, device) for row in dict.fromkeys(rows)}
    hypers_of = {n: np.broadcast_to(v, (count,)).copy() for n, v in given.items()}
    return Points(hypers_of, [recipes[row] for row in rows])


def _array(where: str, value: ArrayLike) -> Array:
    """An array of one dimension, or of none for what is the same for all points."""
    array = np.asarray(value)
    if array.ndim > 1 or array.size == 0 or array.dtype.kind not in "bifU":
        expected = "a number or a choice, or an array of one dimension"
        raise InputTypeError(where, expected=expected, got=repr(value)[:60])
    return array


def _each(name: str, given: Any, points: int) -> list[Any]:
    """A schedule, a number of epochs or a batch size for each point."""
    values = [_plain(v) for v in ([given] * points if _is_one(given) else given)]
    if name == "schedule":
        return [schedules.get(v) for v in values]
    for one in dict.fromkeys(values):
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise InputError(name, expected="a whole number, 1 or more", got=repr(one))
    return values


def _plain(value: Any) -> Any:
    """A number of numpy's or torch's as one of Python's."""
    return value.item() if hasattr(value, "item") else value


def _is_one(value: Any) -> bool:
    """One value for all points, and no sequence of them."""
    return isinstance(value, str | int | float | np.generic | Schedule | WarmUp) or callable(value)


def _each_by_itself(hypers: Mapping[str, Any], what: Any) -> dict[str, Any]:
    """`betas` as beta1, beta2 and so on, for a rule that has them; and so all its tuples."""
    if isinstance(what, PerKind):
        return what.each_beta(hypers)
    found = dict(hypers)
    tuples = what.tuples if isinstance(what, Rule) else {}
    for name, members in tuples.items():
        if name not in found:
            continue
        values = found.pop(name)
        if not isinstance(values, tuple | list) or len(values) != len(members):
            expected = f"{len(members)} numbers, or arrays by the name of each"
            raise InputTypeError(f"{what.name}: {name}", expected=expected, got=repr(values)[:60])
        found |= zip(members, values, strict=True)
    return found
