"""Where a race looks: a range that cannot be is refused when it is made, and none leads out of a domain."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from thinning import thinned
from tolerances import ROUNDED64, SPREAD_EVENLY

from steprule import rule, sweeps
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Rate, Search
from steprule.races import Competitor, race, spaces
from steprule.races.spec import spec_of

IMPOSSIBLE: list[tuple[tuple[Any, ...], str]] = [
    ((1e-4, 1, "ln"), "expected a scale of 'log', 'linear', 'complement', got 'ln'"),
    ((1e-4, 1, None), "a scale of"),
    ((0.0, 0.1), r'a logarithmic range to begin above 0, got 0.0. Write Search\(0.0, 0.1, "linear"\)'),
    ((-1, 1), "a logarithmic range to begin above 0, got -1"),
    ((0.5, 1.0, "complement"), "a range towards 1 to end below it, got 1.0"),
    ((1, 1, "linear"), "low below high"),
    ((2, 1, "linear"), "low below high"),
    ((0, math.inf, "linear"), "finite numbers"),
    ((math.nan, 1, "linear"), "finite numbers"),
    (("a", 1), "two numbers and a scale"),
    ((None, 1, "linear"), "two numbers and a scale"),
    ((True, 2), "two numbers and a scale"),
]


@pytest.mark.parametrize(("given", "words"), IMPOSSIBLE)
def test_a_range_that_cannot_be(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises((InputError, InputTypeError), match=words) as caught:
        Search(*given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [(1e-4, 1), (-1, 1, "linear"), (0, 0.999, "complement"), (np.float64(0.1), np.int64(2)), (Fraction(1, 3), 2)],
)
def test_a_range_that_can_be(given: tuple[Any, ...]) -> None:
    found = Search(*given)
    shares = np.linspace(0, 1, 101)
    assert all(found.low <= found.at(share) <= found.high for share in shares)


OF_CLASSES = [
    (torch.optim.Adam, {"weight_decay": Search(0.0, 0.1, "linear")}),
    (torch.optim.SGD, {"momentum": Search(0.5, 0.99, "linear")}),
    (torch.optim.SGD, {"momentum": Search(0.5, 0.99, "complement"), "lr": Search(1e-4, 1)}),
    (torch.optim.Adam, {"eps": Search(1e-9, 1e-7)}),
    (torch.optim.RMSprop, {"alpha": Search(0.9, 0.95, "linear")}),
    (torch.optim.Rprop, {"lr": Search(1e-3, 1e-1)}),
]


@pytest.mark.parametrize(("make", "space"), thinned(OF_CLASSES, 3))
def test_a_class_is_searched_where_its_user_says(make: Any, space: dict[str, Search]) -> None:
    own = Competitor(make, space, label="mine")
    result = race([own, "sgd"], "airfoil-linear", trials=4, seeds=2, fresh=2, schedules=["linear"], epochs=1)
    found = result.spec.entrant("mine").space
    assert found == {n: spaces.RATE if n == "lr" else s for n, s in space.items()}
    for name, values in result.chain("airfoil-linear", "linear", "mine")[0].lanes.hypers.items():
        assert values.min() >= found[name].low
        assert values.max() <= found[name].high


@rule
def bounded(
    p: Any,
    g: Any,
    *,
    lr: Rate = 0.1,
    share: Annotated[float, Gt(0.6), Lt(0.9), Search(0.7, 0.8, "complement")] = 0.7,
    scale: Annotated[float, Gt(0.01), Le(2), Search(0.1, 1.0)] = 0.5,
    line: Annotated[float, Ge(-1), Lt(3), Search(0.0, 1.0, "linear")] = 0.5,
    free: Annotated[float, Search(-0.2, 0.2, "linear")] = 0.1,
) -> Any:
    """One of each kind."""
    return p - lr * (share + scale + line + free) * g


def test_a_rules_ranges_widen_within_its_bounds() -> None:
    (entrant,) = spec_of([bounded], "airfoil-linear", schedules=["linear"]).entrants
    space = entrant.space
    assert space["share"].low > 0.6
    assert space["share"].high < 0.9
    assert space["scale"] == Search(math.nextafter(0.01, 1), 2.0)
    assert space["line"] == Search(-1.0, math.nextafter(3, 0), "linear")
    assert space["free"] == Search(-0.5, 0.5, "linear")
    for name, search in space.items():
        for share in (0.0, 0.5, 1.0):
            bounded.hyper(name).validate(search.at(share), "bounded")


def test_sobol_points_lie_in_their_ranges() -> None:
    found = sweeps.sobol({"lr": Search(1e-4, 1.0), "beta1": Search(0.5, 0.999, "complement")}, 100)
    assert all(len(v) == 100 for v in found.values())
    assert 1e-4 <= found["lr"].min() < 2e-4 < 0.5 < found["lr"].max() <= 1.0
    assert 0.5 <= found["beta1"].min() < 0.55 < 0.99 < found["beta1"].max() <= 0.999
    # On its own scale each is spread evenly.
    assert np.log10(found["lr"]).mean() == pytest.approx(-2, abs=SPREAD_EVENLY)


def test_sobol_needs_a_point() -> None:
    with pytest.raises(InputError, match="points"):
        sweeps.sobol({"lr": Search(0.1, 1)}, 0)
    assert sweeps.sobol({}, 3) == {}
    assert math.isclose(Search(1e-2, 1).at(1.0), 1.0, rel_tol=ROUNDED64)
