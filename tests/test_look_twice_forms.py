"""Rules that look twice where they train, sweep, walk a path, are shown as a formula, and stand on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium_page import needs_chromium
from looking import crowded, each_second, thrice
from own_page import walks_as_trace
from playwright.sync_api import Browser
from tolerances import (
    LANE_AGAINST_SOLO,
    PUBLISHED_FLOAT64,
    TRAIN_RULE_AGAINST_CLASS,
)

import steprule
from steprule import optim, rules
from steprule.cli import main
from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.play.network import NETWORK
from steprule.play.trainings import code


@pytest.mark.parametrize("what", ["sam_adamw", each_second, thrice, crowded])
def test_lanes_are_trainings(what: Any) -> None:
    """By the kernel, and by torch's batched functions where the rule looks more than once."""
    how = {"epochs": 1, "batch_size": 50}
    for compile in (True, False):
        found = steprule.sweep(what, "airfoil", {"lr": [0.003, 0.03]}, compile=compile, **how)
        for k, rate in enumerate((0.003, 0.03)):
            alone = steprule.train(what, "airfoil", 0, **how, lr=rate)
            assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def test_a_training_is_its_class_in_a_loop() -> None:
    run = steprule.train("sam_sgd", "airfoil", 0, epochs=1, batch_size=50, lr=0.03, sam_rho=0.2)
    made = steprule.train(optim.from_rule("sam_sgd"), "airfoil", 0, epochs=1, batch_size=50, lr=0.03, sam_rho=0.2)
    assert made.final_loss == pytest.approx(run.final_loss, rel=TRAIN_RULE_AGAINST_CLASS)


def test_a_path_looks_with_the_noise_of_its_step() -> None:
    path = steprule.trace("sam_sgd", "quadratic", steps=3, lr=0.1, sam_rho=0.3, noise=0.5, seed=2)
    surface, noise = path.ground, 0.5 * np.random.default_rng(2).standard_normal((3, 2))
    p = path.points[0]
    for t in range(3):
        g = surface.gradient(p) + noise[t]
        p = p - 0.1 * (surface.gradient(p + 0.3 * g / (np.sqrt((g**2).sum()) + 1e-12)) + noise[t])
        assert path.points[t + 1] == pytest.approx(p, rel=PUBLISHED_FLOAT64)
    assert "gradient" in dict(path.anatomy(2))
    assert np.isnan(dict(steprule.trace(each_second, steps=3).anatomy(1))["gradient"]).all(), "it did not look"


def test_its_formula_says_where_it_looks(capsys: pytest.CaptureFixture[str]) -> None:
    variant = variant_of(rules.sam(rules.sgd), rules.sam(rules.sgd).defaults)
    assert formula.whole(variant).splitlines() == [
        "gradient = the gradient at: p + sam_rho * g / (sqrt(total(g**2)) + 1e-12)",
        "p = p - lr * gradient",
    ]
    assert r"\tilde{g}_{t} = \nabla f\left(" in formula.whole_latex(variant)[0]
    for form in ("python", "numba", "triton", "javascript"):
        assert main(["show", "sam_sgd", "--as", form]) == 0
        assert "look1" in capsys.readouterr().out, form


LOOKING = """
from steprule import rule, rules
from steprule.hyper import Rate, Whole
from steprule.maths import norm

@rule
def each_second(p, g, v, *, lr: Rate = 0.1, rho: Rate = 0.05, t, gradient):
    if t % 2 == 0:
        v = gradient(p + rho * g / (norm(g) + 1e-12)) - g
    return p - lr * (g + v), v

sam_momentum = rules.sam(rules.sgd)
"""


@needs_chromium
@pytest.mark.parametrize("name", ["each_second", "sam_momentum"])
def test_the_page_walks_and_shows_it(name: str, browser: Browser, in_folder: Path) -> None:
    """Path, ends of maps and the step taken apart, with noise too."""
    Path("looking.py").write_text(LOOKING)
    _, taken_apart = walks_as_trace(browser, f"looking.py:{name}", lr=0.2, noise=0.3, seed=1)
    assert "\u2207" in taken_apart, "the gradient that it sees there"


def test_a_page_that_trains_refuses_it() -> None:
    with pytest.raises(
        InputError,
        match="expected a rule that steps each tensor for itself, got sam_sgd, which looks at the gradient twice",
    ):
        code(NETWORK, [("sam", rules.sam(rules.sgd), {"lr": 0.1})])
