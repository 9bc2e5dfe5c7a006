"""DoG, LDoG and D-Adapted Adam at every step beside loops from their papers, and beside their authors' classes where installed."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer as po
import torch
from compare import all_apart
from test_totals import BACKENDS, slide, tensors
from tolerances import PRODIGY_FLOAT64, RUN64
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.errors import InputError
from steprule.problems import catalogue as problems

STEPS = 40
Tensors = list[Tensor]
Numbers = dict[str, float]


class Loop:
    """The paper's loop over all tensors; `numbers` holds what it keeps of them all, or of each."""

    def __init__(self, params: Tensors, **settings: Any) -> None:
        self.params, self.h, self.t = params, settings, 0
        self.numbers: list[Numbers] = [{} for _ in params]

    @torch.no_grad()
    def step(self) -> None:
        self.t += 1
        self.go([p.grad for p in self.params])  # type: ignore[misc]

    def go(self, gradients: Tensors) -> None:
        raise NotImplementedError


class DoG(Loop):
    """Ivgi et al., 2023, section 2, each of `blocks` as a model of its own; weight decay goes through the gradient."""

    def blocks(self) -> list[list[int]]:
        return [list(range(len(self.params)))]

    def go(self, gradients: Tensors) -> None:
        if self.t == 1:
            self.start = [p.clone() for p in self.params]
        decay = self.h["weight_decay"]
        gradients = [g + decay * p for g, p in zip(gradients, self.params, strict=True)]
        for block in self.blocks():

            def over(values: Tensors, block: list[int] = block) -> float:
                return math.fsum(float((values[k] ** 2).sum()) for k in block)

            kept = self.numbers[block[0]]
            if self.t == 1:
                kept["rbar"] = self.h["reps_rel"] * (1 + math.sqrt(over(self.start)))
                kept["squares"] = self.h["eps"]
            moved = [p - q for p, q in zip(self.params, self.start, strict=True)]
            kept["rbar"] = max(kept["rbar"], math.sqrt(over(moved)))
            kept["squares"] += over(gradients)
            for k in block:
                self.numbers[k] = kept
                self.params[k].sub_(self.h["lr"] * kept["rbar"] / math.sqrt(kept["squares"]) * gradients[k])


class LDoG(DoG):
    """The same for each tensor on its own."""

    def blocks(self) -> list[list[int]]:
        return [[k] for k in range(len(self.params))]


class DAdaptAdam(Loop):
    """Defazio and Mishchenko, 2023, algorithm 5; weight decay, correction and limit as their class has them."""

    def go(self, gradients: Tensors) -> None:
        h, root = self.h, math.sqrt(self.h["beta2"])
        if self.t == 1:
            self.s, self.m, self.v = ([torch.zeros_like(p) for p in self.params] for _ in range(3))
            self.d, self.r = h["d0"], 0.0
        coupled = 0.0 if h["decoupled_weight_decay"] else h["weight_decay"]
        gradients = [g + coupled * p for g, p in zip(gradients, self.params, strict=True)]
        rate = self.d * h["lr"]
        if h["use_bias_correction"]:
            rate *= math.sqrt(1 - h["beta2"] ** self.t) / (1 - h["beta1"] ** self.t)
        along = sum(
            float((g * s / (v.sqrt() + h["eps"])).sum()) for g, s, v in zip(gradients, self.s, self.v, strict=True)
        )
        self.r = root * self.r + (1 - root) * rate * along
        for k, g in enumerate(gradients):
            self.m[k] = h["beta1"] * self.m[k] + (1 - h["beta1"]) * rate * g
            self.v[k] = h["beta2"] * self.v[k] + (1 - h["beta2"]) * g**2
            self.s[k] = root * self.s[k] + (1 - root) * rate * g
        bound = self.r / ((1 - root) * sum(float(s.abs().sum()) for s in self.s))
        self.d = max(self.d, min(bound, self.d * (h["growth_rate"] or math.inf)))
        for p, m, v in zip(self.params, self.m, self.v, strict=True):
            p.mul_(1 - rate * (h["weight_decay"] - coupled)).sub_(m / (v.sqrt() + h["eps"]))
        self.numbers = [{"d": self.d, "numerator": self.r}] * len(self.params)


OF_DOG = {"lr": 0.7, "reps_rel": 1e-2, "eps": 0.3, "weight_decay": 0.1}
OF_ADAM = {"lr": 0.8, "beta1": 0.85, "beta2": 0.97, "eps": 1e-2, "d0": 1e-3, "weight_decay": 0.03}
CASES: dict[str, tuple[type[Loop], dict[str, Any]]] = {
    "dog": (DoG, OF_DOG),
    "ldog": (LDoG, OF_DOG),
    "dadapt_adam": (
        DAdaptAdam,
        {**OF_ADAM, "growth_rate": 1.3, "use_bias_correction": True, "decoupled_weight_decay": True},
    ),
    "dadapt_adam, coupled": (
        DAdaptAdam,
        {**OF_ADAM, "growth_rate": 0.0, "use_bias_correction": False, "decoupled_weight_decay": False},
    ),
}


def authors(package: str, name: str) -> Callable[..., torch.optim.Optimizer]:
    pytest.importorskip(package)
    return getattr(importlib.import_module(package), name)  # type: ignore[no-any-return]


def dadapt_by(make: Callable[..., Any], words: dict[str, str], params: Tensors, **h: Any) -> torch.optim.Optimizer:
    """A class of others that say some of it in other words."""
    same = {words.get(n, n): v for n, v in h.items() if n not in ("beta1", "beta2", "growth_rate")}
    betas = (h["beta1"], h["beta2"])
    return make(params, betas=betas, growth_rate=h["growth_rate"] or math.inf, **same)  # type: ignore[no-any-return]


def by_authors(name: str, params: Tensors, **h: Any) -> torch.optim.Optimizer:
    if name in ("dog", "ldog"):
        return authors("dog", {"dog": "DoG", "ldog": "LDoG"}[name])(params, **h)
    return dadapt_by(authors("dadaptation", "DAdaptAdam"), {"decoupled_weight_decay": "decouple"}, params, **h)


def by_pytorch_optimizer(_: str, params: Tensors, **h: Any) -> torch.optim.Optimizer:
    words = {"decoupled_weight_decay": "weight_decouple", "use_bias_correction": "bias_correction"}
    return dadapt_by(po.DAdaptAdam, words, params, **h, foreach=False)


def beside(name: str, backend: str, other: Callable[[Tensors], Any]) -> None:
    """All tensors, and where the other tells them all numbers, at every step; ours in two groups, saved and loaded half-way."""
    _, settings = CASES[name]
    mine, theirs = tensors(), tensors()
    make = optim.from_rule(rules.get(name.partition(",")[0]))
    own = make([{"params": mine[:2]}, {"params": mine[2:]}], **settings, backend=backend)
    wanted = other(theirs)
    for t in range(1, STEPS + 1):
        if t == STEPS // 2:
            saved = copy.deepcopy(own.state_dict())
            own = make([{"params": mine[:2]}, {"params": mine[2:]}], backend=backend)
            own.load_state_dict(saved)
        rate = settings["lr"] * (1.5 - t / STEPS)  # a schedule
        for group in (*own.param_groups, *([wanted.h] if isinstance(wanted, Loop) else wanted.param_groups)):
            group["lr"] = rate
        slide(mine, t)
        slide(theirs, t)
        own.step()
        wanted.step()
        assert all_apart(mine, theirs) <= PRODIGY_FLOAT64, t
        for p, numbers in zip(mine, getattr(wanted, "numbers", [{}] * len(mine)), strict=True):
            found = [own.state[p][n].double() for n in numbers]
            assert all_apart(found, [torch.tensor(v, dtype=torch.float64) for v in numbers.values()]) <= PRODIGY_FLOAT64
    state = own.state[mine[0]]
    assert float(state["rbar" if "rbar" in state else "d"]) > 0.02, "it has found no distance"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_papers_loop(name: str, backend: str, float64_default: None) -> None:
    kind, settings = CASES[name]
    beside(name, backend, lambda params: kind(params, **settings))


@pytest.mark.parametrize(
    ("name", "reference"),
    [*((name, by_authors) for name in CASES), *((n, by_pytorch_optimizer) for n in CASES if n.startswith("dadapt"))],
)
def test_it_is_the_class_of_others(name: str, reference: Callable[..., Any], float64_default: None) -> None:
    _, settings = CASES[name]
    beside(name, "numba", lambda params: reference(name.partition(",")[0], params, **settings))


@pytest.mark.parametrize("name", CASES)
def test_every_hyperparameter_is_seen(name: str, float64_default: None) -> None:
    """All are given away from their defaults or from what switches them off, and a little more of one moves the end of a run."""
    kind, settings = CASES[name]
    own = rules.get(name.partition(",")[0])
    assert set(settings) - {"weight_decay"} == set(own.defaults) - {"weight_decay"}

    def ends(**other: Any) -> Tensors:
        params = tensors()
        loop = kind(params, **settings | other)
        for t in range(1, STEPS + 1):
            slide(params, t)
            loop.step()
        return [p.detach() for p in params]

    right = ends()
    for hyper, value in settings.items():
        found = ends(**{hyper: not value if isinstance(value, bool) else 1.01 * value + 0.001})
        assert all_apart(found, right) > 1000 * PRODIGY_FLOAT64, hyper


@pytest.mark.parametrize(("name", "given"), [("dog", "reps_rel"), ("ldog", "reps_rel"), ("dadapt_adam", "d0")])
def test_lanes_of_both_engines_and_a_training_alone_agree(name: str, given: str) -> None:
    """Of a model with four tensors, in float64, with the norm of all gradients clipped."""
    task = problems.get("airfoil-mlp")
    double = steprule.Problem(
        "double", "", task.features.double(), task.targets.double(), lambda: task.model().double(), task.loss
    )
    set_, how = {given: [1e-4, 1e-3], "clip_norm": [0.5, 2.0]}, {"epochs": 1, "batch_size": 256}
    points = [dict(zip(set_, values, strict=True)) for values in zip(*set_.values(), strict=True)]
    solo = [steprule.train(name, double, **point, **how).final_loss for point in points]
    for compiled in (True, False):
        found = steprule.sweep(name, double, set_, compile=compiled, **how)
        assert np.allclose(found.train[:, 0], solo, rtol=RUN64, atol=0), found.engine


def test_on_one_tensor_ldog_is_dog_and_a_name_tells_them_apart() -> None:
    for name in ("dog", "ldog"):
        assert str(steprule.which(name)) == f"nearest: {name}, the same for 40 steps"
    assert steprule.which(optim.class_of("LDoG")).rule == "ldog"


def test_dadapt_adam_asks_for_an_epsilon() -> None:
    """Its estimate divides by the root of a second moment that is zero at first."""
    with pytest.raises(InputError, match=r"dadapt_adam: hyperparameter eps: expected a number in \(0, inf\), got 0"):
        optim.class_of("DAdaptAdam")(tensors(), eps=0.0)
