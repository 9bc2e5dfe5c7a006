"""Rules that ask for the loss of their step: Polyak's and MoMo's steps in every form, and what may go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium_page import needs_chromium
from compare import apart
from own_page import walks_as_trace
from playwright.sync_api import Browser
from thinning import thinned
from tolerances import CLASS_FLOAT64, LANE_AGAINST_SOLO, TRAIN_RULE_AGAINST_CLASS
from torch import nn

import steprule
from steprule import optim, rules
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Decay, Epsilon, OnePerTensor, Rate
from steprule.maths import clamp, maximum, minimum, norm, sum, total
from steprule.paths import best_rate
from steprule.rules import rule


@rule
def polyak(p, g, *, lr: Rate = 1.0, least: Rate = 0.0, eps: Epsilon = 1e-12, loss):  # type: ignore[no-untyped-def]
    """Polyak's step, capped as in stochastic gradient descent with it (Loizou et al., 2021)."""
    return p - minimum(lr, (loss - least) / (total(g**2) + eps)) * g


@rule
def momo(p, g, d, f: OnePerTensor(0.0), c: OnePerTensor(0.0), *, lr: Rate = 0.5, beta: Decay = 0.9, loss, t):  # type: ignore[no-untyped-def, valid-type]
    """MoMo per tensor (Schaipp et al., 2024): averages of losses, gradients, and of gradients by parameters."""
    d = beta * d + (1 - beta) * g
    f = beta * f + (1 - beta) * loss
    c = beta * c + (1 - beta) * sum(g * p)
    bias = 1 - beta**t
    above = maximum((f - c + sum(d * p)) / bias, 0.0)
    return p - clamp(above / (norm(d / bias) ** 2 + 1e-12), 0.0, lr) * d / bias, d, f, c


OWN = (polyak, momo)
EACH = pytest.mark.parametrize("own", OWN, ids=lambda r: r.name)


# numpy warns of nan and inf, in Triton's interpreter and on its own.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("own", thinned(OWN, 2, [r.name for r in OWN]))
def test_every_form_is_the_same(own: rules.Rule) -> None:
    report = steprule.check(own)
    assert report.passed, str(report)


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_a_class_is_a_plain_loop(backend: str, float64_default: None) -> None:
    """The loss changes from step to step; two groups, a frozen parameter, and SAM around the rule."""
    weights = [torch.tensor([2.0, -3.0]), torch.tensor([[0.5]]), torch.tensor([1.0])]
    a, b, frozen = (nn.Parameter(w.clone()) for w in weights)
    frozen.requires_grad_(False)
    optimizer = optim.from_rule(polyak)([{"params": [a, frozen]}, {"params": [b], "lr": 0.1}], lr=0.3, backend=backend)
    theirs = [w.clone() for w in weights[:2]]

    def value(x: Any, y: Any) -> Any:
        return 1.5 * (x**2).sum() + (y**4).sum() + 0.25

    for _ in range(20):
        optimizer.zero_grad()
        loss = value(a, b)
        loss.backward()
        optimizer.step(lambda loss=loss: loss)  # type: ignore[misc]
        f = value(*theirs)
        grads = [3 * theirs[0], 4 * theirs[1] ** 3]
        square = np.sum([float((g**2).sum()) for g in grads])
        theirs = [
            x - min(lr, float(f) / (square + 1e-12)) * g for x, g, lr in zip(theirs, grads, (0.3, 0.1), strict=True)
        ]
        assert apart(a, theirs[0]) <= CLASS_FLOAT64
        assert apart(b, theirs[1]) <= CLASS_FLOAT64
        assert "loss" not in optimizer.param_groups[0], "it is no setting"
    assert "loss" not in optimizer.state_dict()["param_groups"][0]


@EACH
def test_lanes_are_trainings(own: rules.Rule) -> None:
    how = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep(own, "airfoil", {"lr": [0.003, 0.03]}, **how)  # type: ignore[arg-type]
    for k, rate in enumerate((0.003, 0.03)):
        alone = steprule.train(own, "airfoil", 0, lr=rate, **how)  # type: ignore[arg-type]
        assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)
        made = steprule.train(optim.from_rule(own), "airfoil", 0, lr=rate, **how)  # type: ignore[arg-type]
        assert made.final_loss == pytest.approx(alone.final_loss, rel=TRAIN_RULE_AGAINST_CLASS)


def test_a_path_has_the_surfaces_value() -> None:
    path = steprule.trace(polyak, "quadratic", steps=4, lr=5.0)
    p = path.points[0]
    for t in range(4):
        g = path.ground.gradient(p)
        p = p - min(5.0, path.ground.value(p) / ((g**2).sum() + 1e-12)) * g
        assert path.points[t + 1] == pytest.approx(p, rel=CLASS_FLOAT64)
    assert "loss" not in path.hypers
    assert "loss" not in str(path)
    assert best_rate(polyak, "quadratic") is not None


OWN_FILE = """
from steprule import rule
from steprule.hyper import Rate
from steprule.maths import minimum, total

@rule
def polyak(p, g, *, lr: Rate = 1.0, loss):
    return p - minimum(lr, loss / (total(g**2) + 1e-12)) * g
"""


@needs_chromium
def test_the_page_walks_and_shows_it(browser: Browser, in_folder: Path) -> None:
    Path("own.py").write_text(OWN_FILE)
    walks_as_trace(browser, "own.py:polyak", lr=5.0)


def test_what_may_go_wrong() -> None:
    assert polyak(2.0, 4.0, loss=4.0, eps=0.0) == 1.0
    with pytest.raises(InputTypeError, match="polyak: loss: expected the loss of this step, got nothing"):
        polyak(2.0, 4.0)
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.from_rule(polyak)([p])
    p.grad = torch.ones(2)
    with pytest.raises(InputTypeError, match=r"polyak.step: expected a closure: its rule asks for the loss, got none"):
        optimizer.step()
    for wrong in (None, torch.ones(2), "much"):
        with pytest.raises(InputTypeError, match=r"polyak.step: expected the loss, one number, got"):
            optimizer.step(lambda wrong=wrong: wrong)  # type: ignore[misc]
    assert p.tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="by_kind: matrix: expected a rule that looks once"):
        steprule.by_kind(matrix=polyak, other="adamw")
    with pytest.raises(Exception, match="loss"):
        optim.from_rule(polyak)([p], loss=0.5)


def test_a_loss_that_is_a_setting_stays_one() -> None:
    @rule
    def own(p, g, *, lr: Rate = 0.1, loss: Rate = 0.5):  # type: ignore[no-untyped-def]
        return p - lr * loss * g

    assert not own.asks_for_loss
    assert own(1.0, 2.0, lr=0.5, loss=0.5) == 0.5


def test_an_annotation_changes_nothing() -> None:
    @rule
    def own(p, g, *, lr: Rate = 0.1, loss: float):  # type: ignore[no-untyped-def]
        return p - lr * loss * g

    assert own.asks_for_loss
    assert own(1.0, 2.0, lr=0.5, loss=0.5) == 0.5
