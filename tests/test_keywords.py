"""Functions that take the keywords of a record: `help` and `inspect.signature` show each, and what is shown as a default is one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steprule
from steprule import races
from steprule.problems.options import ArrayOptions, Options
from steprule.races.spec import Settings
from steprule.sweeps import Options as SweepOptions

SHOWN: dict[Callable[..., Any], type] = {
    steprule.race: races.RaceSettings,
    races.estimate: Settings,
    races.within: Settings,
    races.merge: Settings,
    steprule.sweep: SweepOptions,
    steprule.Problem.from_arrays: ArrayOptions,
    steprule.Problem.from_csv: ArrayOptions,
    steprule.Problem.from_parquet: ArrayOptions,
    steprule.Problem.from_dataloaders: Options,
}
EXPLAINED = [steprule.race, steprule.sweep, steprule.Problem.from_arrays, steprule.Problem.from_dataloaders]


def names(function: Callable[..., Any]) -> str:
    return str(function.__qualname__)


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Those of the record."""
    return {n: p for n, p in inspect.signature(function).parameters.items() if n in SHOWN[function].__annotations__}


@pytest.mark.parametrize("function", SHOWN, ids=names)
def test_the_signature_has_each_keyword_with_its_type_and_its_default(function: Callable[..., Any]) -> None:
    shown = inspect.signature(function).parameters.values()
    assert all(p.kind is not p.VAR_KEYWORD for p in shown)
    own = keywords(function)
    assert list(own) == list(SHOWN[function].__annotations__)
    for parameter in own.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert isinstance(parameter.annotation, str)
        assert parameter.annotation
        assert parameter.default is not parameter.empty


@pytest.mark.parametrize("function", EXPLAINED, ids=names)
def test_the_docstring_explains_each_keyword_with_the_same_default(function: Callable[..., Any]) -> None:
    explained = re.findall(r"^ +- `(\w+)=(.*?)`: \w", inspect.getdoc(function) or "", re.MULTILINE)
    stated = {n: repr(p.default).replace("'", '"') for n, p in keywords(function).items()}
    assert dict(explained) == stated


def test_a_sweep_told_its_defaults_is_the_sweep_that_is_told_nothing() -> None:
    told = {n: p.default for n, p in keywords(steprule.sweep).items()}
    first, second = (steprule.sweep("sgd", "airfoil", {"lr": [0.01, 0.1]}, epochs=1, **how) for how in ({}, told))
    np.testing.assert_array_equal(first.train, second.train)
    assert first.engine == second.engine


@pytest.mark.parametrize("trials", [0, 2])
def test_a_race_told_its_defaults_is_the_race_that_is_told_nothing(trials: int) -> None:
    told = {n: p.default for n, p in keywords(steprule.race).items()} | {"epochs": 1}
    first, second = (
        steprule.race(["sgd"], "airfoil-linear", trials=trials, seeds=2, **how) for how in ({"epochs": 1}, told)
    )
    assert first.spec.stated == second.spec.stated
    assert list(first.phases) == list(second.phases)
    for chain in first.phases:
        np.testing.assert_array_equal(
            first.phases[chain][-1].results["train"], second.phases[chain][-1].results["train"]
        )
