"""Lookahead around any rule: a plain loop's and pytorch_optimizer's numbers at every step, in every form, saved and resumed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer as po
import torch
from compare import apart
from drawn_forms import failing_forms
from drawn_walks import case_of
from tolerances import CLASS_FLOAT32_FEW_STEPS, CLASS_FLOAT64, LANE_AGAINST_SOLO, PRODIGY_FLOAT64, PUBLISHED_FLOAT64
from torch import Tensor

import steprule
from steprule import Rule, optim, rules
from steprule.compiler.eager import step
from steprule.errors import InputError, InputTypeError, RuleError, UnknownNameError

SHAPES = ((7,), (3, 5), (), (0,), (2, 1, 4))
STEPS = 23
INNER: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.7, "dampening": 0.2, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.6, "centered": True}),
    "rprop": (torch.optim.Rprop, {"lr": 0.03, "etas": (0.6, 1.3), "step_sizes": (0.01, 0.06)}),
}
EACH = pytest.mark.parametrize("name", INNER)


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in SHAPES]


def give(params: list[Tensor], t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        p.grad = p.detach() + 0.3 * torch.sin(5 * p.detach()) + 0.3 * noise


def same(found: Any, p: Tensor, theirs: Any, q: Tensor, tolerance: float, t: int) -> None:
    assert apart(p, q) <= tolerance, f"p after step {t}"
    assert apart(found.state[p]["slow"], theirs.state[q]["slow_params"]) <= tolerance, f"slow after step {t}"


@EACH
@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_it_is_pytorch_optimizers_around_torchs(name: str, backend: str, float64_default: None) -> None:
    """At every step, with a state that is saved and loaded in the middle."""
    kind, settings = INNER[name]
    mine, theirs = parameters(), parameters()
    make = optim.from_rule(rules.lookahead(rules.get(name), k=3, alpha=0.3))
    found = make(mine, **settings, backend=backend)
    wanted = po.Lookahead(kind(theirs, **settings, foreach=False), k=3, alpha=0.3, pullback_momentum="none")
    for t in range(1, STEPS):
        give(mine, t)
        give(theirs, t)
        found.step()
        wanted.step()
        for p, q in zip(mine, theirs, strict=True):
            same(found, p, wanted, q, CLASS_FLOAT64, t)
        if t == 10:  # between two looks back
            saved = copy.deepcopy(found.state_dict())
            found = make(mine, lr=1.0, backend=backend)
            found.load_state_dict(saved)


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_around_a_rule_with_totals(backend: str, float64_default: None) -> None:
    """Prodigy's distance is one number of the model; the pull back moves the parameters that its next step sees."""
    peer = pytest.importorskip("prodigyopt")
    settings = {"lr": 0.8, "betas": (0.85, 0.97), "eps": 1e-3, "d0": 1e-3, "weight_decay": 0.1}
    mine, theirs = parameters(), parameters()
    make = optim.from_rule(rules.lookahead(rules.prodigy, k=3, alpha=0.3))
    found = make(mine, **settings, backend=backend)
    wanted = po.Lookahead(peer.Prodigy(theirs, **settings), k=3, alpha=0.3, pullback_momentum="none")
    for t in range(1, STEPS):
        give(mine, t)
        give(theirs, t)
        found.step()
        wanted.step()
        for p, q in zip(mine, theirs, strict=True):
            same(found, p, wanted, q, PRODIGY_FLOAT64, t)
        assert apart(found.state[mine[0]]["d"], wanted.param_groups[0]["d"]) <= PRODIGY_FLOAT64
        if t == 10:
            saved = copy.deepcopy(found.state_dict())
            found = make(mine, backend=backend)
            found.load_state_dict(saved)
    assert float(found.state[mine[0]]["d"]) > 2e-3, "the distance has grown"


def test_a_model_that_is_read_elsewhere_is_refused() -> None:
    """Also where the author states the point behind a first Lookahead; slow weights may be a point themselves."""
    for given in ("lookahead_schedule_free_sgd", rules.schedule_free_adamw):
        with pytest.raises(
            InputError, match=r"^lookahead of schedule_free_\w+: expected a rule whose model is read at p, got "
        ):
            optim.from_rule(rules.lookahead(given) if isinstance(given, Rule) else given)
    own = replace(rules.sgd, name="own")
    rules.lookahead(own)
    own.evaluated(lambda p, momentum_buffer: p)
    with pytest.raises(InputError, match="lookahead of own: expected a rule whose model is read at p"):
        rules.lookahead(own)
    with pytest.raises(RuleError, match=r"expected a rule of your own, got one of the catalogue"):
        rules.lookahead(rules.sgd).evaluated(lambda p, slow: slow)
    read_slow = replace(rules.lookahead(rules.sgd, k=3), name="read_slow")
    read_slow.evaluated(lambda p, slow: slow)
    p = torch.tensor([2.0, -1.0], requires_grad=True)
    optimizer = optim.from_rule(read_slow)([p], lr=0.1)
    for _ in range(2):
        p.grad = torch.ones(2)
        optimizer.step()
    assert rules.lookahead(rules.sgd, k=3).point is None
    assert apart(p, torch.tensor([1.8, -1.2])) <= CLASS_FLOAT32_FEW_STEPS
    with optimizer.evaluated():
        assert torch.equal(p, torch.tensor([2.0, -1.0]))


@EACH
def test_it_is_the_plain_loop_of_the_paper(name: str) -> None:
    """k fast steps of the rule itself; then the slow weights move, and the fast ones begin from them."""
    k, alpha = 4, 0.7
    whole = rules.lookahead(rules.get(name), k=k, alpha=alpha)
    inner = rules.get(name)
    hypers = {n: v for n, v in INNER[name][1].items() if n in {*inner.defaults, *inner.tuples}}
    rng = np.random.default_rng(2)
    p = fast = slow = rng.normal(size=5)
    state: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for t in range(1, STEPS):
        g = rng.normal(size=5)
        p, state = step(whole, p, g, state, t, whole.bind(hypers))
        fast, own = step(inner, fast, g, own, t, inner.bind(hypers))
        if t % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow
        assert apart(p, fast) <= PUBLISHED_FLOAT64
        assert apart(state["slow"], slow) <= PUBLISHED_FLOAT64


# numpy warns of nan and inf, in Triton's interpreter and on its own.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam", "lamb", "prodigy"])
def test_every_form_is_the_same(name: str) -> None:
    rule = rules.lookahead(rules.get(name), k=2, alpha=0.3)
    hypers = rule.bind({"lr": 0.03, "weight_decay": 0.1})
    found = failing_forms(
        lambda: iter([case_of(rule, hypers, np.random.default_rng(1), steps=5)]), seed=0, compiled=name == "adamw"
    )
    assert not found, found


def test_decoupled_decay_is_a_part_of_the_fast_step() -> None:
    """So the slow weights start before it, as around torch's AdamW."""
    rule = rules.lookahead(rules.adam)
    hypers = rule.bind({"weight_decay": 0.5, "decoupled_weight_decay": True, "lr": 0.1})
    _, state = step(rule, 3.0, 1.0, {}, 1, hypers)
    assert state["slow"] == 3.0


def test_with_clipping_and_an_average_around_it(float64_default: None) -> None:
    """The average follows what Lookahead leaves, and the clip comes first."""
    kind = optim.from_rule("lookahead_sgd")
    p = torch.tensor([3.0, -1.0], requires_grad=True)
    optimizer = kind([p], lr=0.1, clip_norm=0.5, ema_decay=0.9, lookahead_k=2, lookahead_alpha=0.25)
    fast = slow = p.detach().clone()
    ema = None
    for t in range(1, 7):
        p.grad = p.detach() * 2
        g = fast * 2
        fast = fast - 0.1 * g * min(0.5 / (float(g.norm()) + 1e-6), 1.0)
        if t % 2 == 0:
            fast = slow = slow + 0.25 * (fast - slow)
        ema = fast if ema is None else ema + (1 - 0.9) * (fast - ema)
        optimizer.step()
        assert apart(p, fast) <= CLASS_FLOAT64
        assert apart(optimizer.state[p]["ema"], ema) <= CLASS_FLOAT64


def test_a_sweep_and_a_training_agree() -> None:
    how = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep("lookahead_adam", "airfoil", {"lr": [0.003, 0.03], "lookahead_k": 3}, **how)
    for k, rate in enumerate((0.003, 0.03)):
        alone = steprule.train("lookahead_adam", "airfoil", 0, **how, lr=rate, lookahead_k=3)
        assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def test_it_is_found_by_its_name() -> None:
    assert rules.resolve("Lookahead-Adam") is rules.lookahead(rules.adam)
    assert optim.from_rule("lookahead_adam") is optim.from_rule(rules.lookahead(rules.adam))
    kind = optim.from_rule("lookahead_lion")
    assert pickle.loads(pickle.dumps(kind)) is kind
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        rules.resolve("lookahead_adm")


def test_bad_input() -> None:
    with pytest.raises(InputTypeError, match=r"lookahead: expected a rule, got 'adam'\. Write lookahead"):
        rules.lookahead("adam")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"lookahead_k: expected a whole number in \[1, inf\), got 0"):
        rules.lookahead(rules.adam, k=0)
    with pytest.raises(InputError, match=r"lookahead_k: expected a whole number in \[1, inf\), got 2\.5"):
        rules.lookahead(rules.adam, k=2.5)  # type: ignore[arg-type]
    for wrong in ("5", [5], None, True, torch.tensor(5)):
        with pytest.raises(InputTypeError, match=r"^lookahead: hyperparameter lookahead_k: expected a whole number"):
            rules.lookahead(rules.adam, k=wrong)  # type: ignore[arg-type]
    assert rules.lookahead(rules.adam, k=np.int64(7), alpha=np.float32(0.25)) is rules.lookahead(
        rules.adam, k=7, alpha=0.25
    )
    with pytest.raises(InputError, match=r"lookahead_alpha: expected a number in \[0, 1\], got 1.5"):
        rules.lookahead(rules.adam, alpha=1.5)
    with pytest.raises(InputError, match="lookahead of lookahead_adam: expected a rule without slow"):
        rules.lookahead(rules.lookahead(rules.adam))
