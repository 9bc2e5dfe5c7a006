"""Noise from a counter: its bits and its distribution, rules that draw it in every form, and what may go wrong."""

from __future__ import annotations

import copy
import json
import math
import pickle
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium_page import needs_chromium
from compare import all_apart, apart, states_apart
from own_page import walks_as_trace
from playwright.sync_api import Browser
from scipy import special, stats
from thinning import thinned
from tolerances import (
    CLASS_FLOAT32_FEW_STEPS,
    CLASS_FLOAT64,
    FORMS_BFLOAT16,
    LANE_AGAINST_SOLO,
    NORMAL_QUANTILE,
    TRAIN_RULE_AGAINST_CLASS,
)
from torch import Tensor, nn

import steprule
from steprule import maths, optim, rules
from steprule.arithmetic import philox
from steprule.checking.forms import RUN
from steprule.cli import main
from steprule.compiler import drawing, eager, formula, javascript
from steprule.compiler.drawing import Key, noise
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, InputTypeError, RuleError
from steprule.hyper import MomentumBuffer, Rate
from steprule.maths import norm, sqrt, total
from steprule.paths import best_rate
from steprule.problems.source import stream
from steprule.rules import rule


@rule
def langevin(p, g, *, lr: Rate = 0.01, temperature: Rate = 1e-3):  # type: ignore[no-untyped-def]
    """Stochastic gradient Langevin dynamics (Welling and Teh, 2011)."""
    return p - lr * g + sqrt(2 * lr * temperature) * maths.noise(p)


def _pulled(x: Any) -> Any:
    """A helper that draws, as a stranger would write one."""
    return 0.5 * maths.noise(x)


@rule
def several(p, g, v: MomentumBuffer, *, lr: Rate = 0.02, more: bool = True, t):  # type: ignore[no-untyped-def]
    """By a helper, behind a flag, behind a plain `if` on the step, with a total, a norm and a slot that is absent at first."""
    push = _pulled(p)
    if more:
        push = (push + maths.noise(p)) / sqrt(1 + total(push**2))
    v = g if v is None else 0.9 * v + g + push * norm(g) / t
    if t % 3 == 1:
        v = v + 0.1 * maths.noise(p)
    return p - lr * v, v


@rule
def curved(p, g, m, h, *, lr: Rate = 0.02, far: Rate = 1e-3, t, gradient):  # type: ignore[no-untyped-def]
    """Hutchinson's estimate of the Hessian's diagonal, in each second step: noise says where it looks."""
    if t % 2 == 1:
        z = maths.noise(p)
        h = 0.9 * h + 0.1 * z * (gradient(p + far * z) - g) / far
    m = 0.9 * m + 0.1 * g
    return p - lr * m / (abs(h) + 0.1), m, h


@rule(as_matrix=True)
def turned(p, g, *, lr: Rate = 0.02):  # type: ignore[no-untyped-def]
    """Of matrices: the noise has the shape in which the rule sees them."""
    x = g + 0.1 * maths.noise(p)
    return p - lr * (x @ x.T) @ x / (norm(x) ** 2 + 1e-3)


OWN = (langevin, several, curved)
EACH = pytest.mark.parametrize("own", OWN, ids=lambda r: r.name)


# The numbers.


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([0] * 6, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 6, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_its_authors_known_answers(given: list[int], wanted: str) -> None:
    """Those of Random123, `kat_vectors`; on Python's numbers, numpy's and torch's."""
    assert " ".join(f"{word:08x}" for word in philox.philox(*given)) == wanted
    arrays = philox.philox(*(np.array([x], np.int64) for x in given))
    assert " ".join(f"{int(word[0]):08x}" for word in arrays) == wanted
    tensors = philox.philox(*(torch.tensor([x]) for x in given))
    assert " ".join(f"{int(word[0]):08x}" for word in tensors) == wanted


def test_a_word_becomes_the_normal_quantile() -> None:
    words = np.concatenate(
        [np.arange(2000.0), 2.0**32 - 1 - np.arange(2000.0), np.linspace(0, 2**32 - 1, 20_001).round()]
    )
    found = philox.normal(words, np.where, np.sqrt, np.frexp)
    wanted = special.ndtri((words + 0.5) / 2**32)
    assert apart(found, wanted) <= NORMAL_QUANTILE
    assert np.abs(found / wanted - 1).max() <= NORMAL_QUANTILE


KEYS = [Key(), Key(seed=2**40 + 5, tensor=3), Key(seed=2**53 - 1, tensor=70_000)]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_every_machine_has_the_same_bits(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain Python, numpy, the compiled loop serial and on threads, and a GPU's operations."""
    wanted = noise(np.zeros(1003), key, 17, 2)
    words = philox.philox(*philox.counter(250, 2, 17, key.tensor), *philox.key_of(key.seed))
    by_hand = [philox.normal(float(word), lambda c, a, b: a if c else b, math.sqrt, math.frexp) for word in words][:3]
    assert wanted[1000:].tolist() == by_hand
    assert noise(0.0, key, 17, 2) == wanted[0]
    assert noise(torch.zeros(17, 59, dtype=torch.float64), key, 17, 2).ravel().tolist() == wanted.tolist()
    monkeypatch.setattr(drawing, "COMPILED_FROM", 1)
    assert noise(np.zeros(1003), key, 17, 2).tolist() == wanted.tolist()
    with steprule.compiler.threads.one_thread():
        assert noise(np.zeros(1002), key, 17, 2).tolist() == wanted[:1002].tolist()
    # A GPU's roots are exact, those of torch on the CPU are not.
    exact = lambda x: torch.from_numpy(np.sqrt(x.numpy()))  # noqa: E731
    monkeypatch.setattr(torch, "sqrt", exact)
    assert drawing._on_device(torch, torch.zeros(1003), key, 17, 2).tolist() == wanted.tolist()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_javascript_has_the_same_bits(key: Key) -> None:
    code = f"{javascript.NOISE}\nconsole.log(JSON.stringify(normals(40003, {key.seed}, {key.tensor}, 17, 2)));"
    done = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == noise(np.zeros(40_003), key, 17, 2).tolist()


def test_it_is_normal_and_nothing_repeats() -> None:
    """A hundred thousand numbers of fixed seeds: against the normal distribution, and against what differs in one part of the counter."""
    size = 100_000
    base = noise(np.zeros(size), Key(5, 1), 3, 0)
    assert stats.kstest(base, "norm").pvalue > 0.001
    assert stats.kstest(base[:-1] * base[1:], (base[::2] * base[1::2])).pvalue > 0.001
    others = [
        noise(np.zeros(size), Key(6, 1), 3, 0),
        noise(np.zeros(size), Key(5 + 2**32, 1), 3, 0),
        noise(np.zeros(size), Key(5, 2), 3, 0),
        noise(np.zeros(size), Key(5, 1), 4, 0),
        noise(np.zeros(size), Key(5, 1), 3, 1),
        np.roll(base, 1),
        np.roll(base, 4),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(size)
        assert abs(np.corrcoef(base**2, other**2)[0, 1]) < 5 / np.sqrt(size)


# Rules that draw.


# numpy warns of nan and inf, in Triton's interpreter and on its own.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("own", thinned(reversed(OWN), 3, [r.name for r in reversed(OWN)]))
def test_every_form_is_the_same(own: rules.Rule) -> None:
    report = steprule.check(own)
    assert report.passed, str(report)
    assert report.forms["compiled lanes"] == report.forms["Triton in its interpreter"] == RUN


SHAPES = ((7, 3), (1,), (), (5, 2, 3), (0,), (257,), (300, 260))


@EACH
@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_a_class_steps_as_the_reference(own: rules.Rule, backend: str, float64_default: None) -> None:
    """Parameters and states at every step, saved and loaded in the middle, with a tensor large enough for the compiled loop."""
    mine, theirs = parameters(), parameters()
    made = optim.from_rule(own)
    whole, found = made.rule, made(mine, lr=0.03, seed=11, backend=backend)
    hypers, states = whole.bind({"lr": 0.03}), [eager.State() for _ in theirs]
    model: eager.State = {}
    for t in range(1, 9):
        found.step(partial(pull, mine, t))
        seen = zip(theirs, gradients(theirs, t), states, strict=True)
        ones = [eager.One(p.detach(), g, s, t, hypers, Key(11, k)) for k, (p, g, s) in enumerate(seen)]
        ones = eager.look_together(whole, ones, model, lambda points, t=t: gradients(points, t))  # type: ignore[misc]
        for k, (new, state) in enumerate(eager.step_together(whole, ones, model)):
            states[k] = state
            theirs[k].data.copy_(new)
        assert all_apart(mine, theirs) <= CLASS_FLOAT64, t
        for p, state in zip(mine, states, strict=True):
            kept = {n: v for n, v in found.state[p].items() if n != "step"}
            assert states_apart(kept, state) <= CLASS_FLOAT64, t
        if t == 4:
            saved = copy.deepcopy(found.state_dict())
            found = made(mine, seed=99, backend=backend)
            found.load_state_dict(saved)
            found = copy.deepcopy(found) if own is langevin else found
            mine = found.param_groups[0]["params"]


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(params: list[Any], t: int) -> list[Tensor]:
    return [p.detach() - 1.5 * torch.sin(5 * p.detach() + 0.1 * t) for p in params]


def pull(params: list[nn.Parameter], t: int) -> float:
    for p, g in zip(params, gradients(params, t), strict=True):
        p.grad = g
    return 0.0


def test_it_is_a_plain_loop(float64_default: None) -> None:
    """Langevin's step written out, tensor by tensor: frozen ones, several groups, other memory orders, float32 and bfloat16, complex."""
    a = nn.Parameter(torch.zeros(4, 6).T)
    frozen = nn.Parameter(torch.zeros(3))
    b = nn.Parameter(torch.zeros(9, dtype=torch.float32))
    c = nn.Parameter(torch.zeros(5, dtype=torch.complex128))
    d = nn.Parameter(torch.zeros(5, dtype=torch.bfloat16))
    groups = [{"params": [a, frozen]}, {"params": [b, c, d], "lr": 0.5}]
    optimizer = optim.from_rule(langevin)(groups, lr=0.1, temperature=0.2, seed=4)
    wanted = [torch.zeros(p.shape, dtype=torch.complex128 if p.is_complex() else torch.float64) for p in (a, b, c, d)]
    for t in range(1, 4):
        for k, p, lr, at in ((0, a, 0.1, 0), (2, b, 0.5, 1), (3, c, 0.5, 2), (4, d, 0.5, 3)):
            p.grad = torch.full_like(p, 0.25)
            size = wanted[at].numel() * (2 if p.is_complex() else 1)
            drawn = torch.from_numpy(noise(np.zeros(size), Key(4, k), t, 0))
            drawn = torch.view_as_complex(drawn.reshape(-1, 2)) if p.is_complex() else drawn.reshape(p.shape)
            wanted[at] = wanted[at] - lr * 0.25 + (2 * lr * 0.2) ** 0.5 * drawn
        optimizer.step()
    assert apart(a, wanted[0]) <= CLASS_FLOAT64
    assert apart(b, wanted[1]) <= CLASS_FLOAT32_FEW_STEPS
    assert apart(c, wanted[2]) <= CLASS_FLOAT64
    assert apart(d, wanted[3]) <= 3 * FORMS_BFLOAT16
    assert frozen.tolist() == [0.0] * 3
    assert set(optimizer.state[a]) <= {"step"}, "no noise lives longer than its step"


def test_the_seed_is_torchs_unless_said() -> None:
    def after(**seed: int) -> list[float]:
        p = nn.Parameter(torch.zeros(3))
        optimizer = optim.from_rule(langevin)([p], **seed)
        p.grad = torch.ones(3)
        optimizer.step()
        return p.tolist()  # type: ignore[no-any-return]

    torch.manual_seed(7)
    first = after()
    assert first == after(), "nothing is drawn from torch's generator"
    assert first == after(seed=7)
    torch.manual_seed(8)
    assert first != after()
    assert after(seed=2**64 - 1) != after(seed=2**32 - 1)


def test_it_is_pickled_and_its_seed_is_saved() -> None:
    optimizer = optim.from_rule(langevin)([nn.Parameter(torch.zeros(3))], seed=5)
    assert optimizer.state_dict()["param_groups"][0]["seed"] == 5
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.param_groups[0]["seed"] == 5


# Trainings, sweeps, races, paths, pages.


@pytest.mark.parametrize("own", thinned([*OWN, turned], 2, [r.name for r in (*OWN, turned)]))
def test_lanes_are_trainings(own: rules.Rule) -> None:
    how = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep(own, "airfoil", {"lr": [0.003, 0.03]}, seeds=2, **how)
    for k, rate in enumerate((0.003, 0.03)):
        for seed in range(2):
            alone = steprule.train(own, "airfoil", seed, **how, lr=rate)
            assert found.train[k, seed] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)
            made = steprule.train(optim.from_rule(own), "airfoil", seed, **how, lr=rate)
            assert made.final_loss == pytest.approx(alone.final_loss, rel=TRAIN_RULE_AGAINST_CLASS)


def test_lanes_draw_by_their_own_seed() -> None:
    seeds = np.array([stream(0, 2), stream(1, 2)])
    found = drawing.lanes([5, 0, 7], seeds, 4, 1)
    for lane, seed in enumerate(seeds):
        for tensor, rows in ((0, slice(0, 5)), (2, slice(5, 12))):
            wanted = noise(np.zeros(rows.stop - rows.start), Key(int(seed), tensor), 4, 1)
            assert found[rows, lane].tolist() == wanted.tolist()


def test_a_path_draws_by_its_seed() -> None:
    path = steprule.trace(langevin, "quadratic", steps=3, lr=0.1, temperature=0.5, seed=2)
    p = path.points[0]
    for t in range(3):
        p = p - 0.1 * path.ground.gradient(p) + np.sqrt(0.1) * noise(np.zeros(2), Key(2), t + 1, 0)
        assert path.points[t + 1] == pytest.approx(p, rel=CLASS_FLOAT64)
    assert dict(path.anatomy(2))["noise"].tolist() == noise(np.zeros(2), Key(2), 2, 0).tolist()
    assert best_rate(langevin, "quadratic", seed=2) == best_rate(langevin, "quadratic", seed=2)


def test_its_formula_says_what_is_drawn(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    variant = variant_of(curved, curved.defaults)
    told = formula.whole(variant).splitlines()
    assert told[0] == "noise ~ N(0, 1), a draw for each element"
    assert told[1].startswith("gradient = the gradient at: ")
    assert formula.whole_latex(variant)[0] == r"\xi_{t} \sim N\left(0, 1\right)"
    known = {name: meaning for _, name, meaning in formula.where(variant.graph(), *(q.graph() for q in variant.looks))}
    assert known["noise"] == "a standard normal number for each element"
    Path("own.py").write_text(LANGEVIN)
    for form in ("text", "python", "numba", "triton", "javascript"):
        assert main(["show", "own.py:langevin", "--as", form]) == 0
        assert "noise" in capsys.readouterr().out, form


LANGEVIN = """
from steprule import rule
from steprule.hyper import Rate
from steprule.maths import noise, sqrt

@rule
def langevin(p, g, *, lr: Rate = 0.01, temperature: Rate = 1e-2):
    return p - lr * g + sqrt(2 * lr * temperature) * noise(p)
"""


@needs_chromium
def test_the_page_draws_the_same(browser: Browser, in_folder: Path) -> None:
    Path("own.py").write_text(LANGEVIN)
    told, taken_apart = walks_as_trace(browser, "own.py:langevin", lr=0.2, temperature=0.3, seed=1)
    assert "𝜉" in taken_apart, "the noise that it draws"
    assert "--seed 1" in told, "the command that gives this path"


# What may go wrong.


def test_by_hand_it_is_given() -> None:
    assert langevin(1.0, 2.0, lr=0.5, temperature=1.0, noise=0.25) == 0.25
    assert several(1.0, 2.0, None, t=1, noise=(0.1, 0.2, 0.3)) != several(1.0, 2.0, None, t=1, noise=(0.1, 0.2, 0.4))
    with pytest.raises(RuleError, match="noise: expected the noise of this step, got none: nobody drew it"):
        langevin(1.0, 2.0)
    with pytest.raises(InputTypeError, match="several: noise: expected a tuple of 3, one per draw, got 1"):
        several(1.0, 2.0, None, t=1, noise=0.1)
    with pytest.raises(
        RuleError, match=r"noise of steprule\.maths: expected a step that supplies it, got a call outside"
    ):
        maths.noise(1.0)


def test_what_is_refused() -> None:
    made = optim.from_rule(langevin)
    for wrong, kind in (
        ("a", InputTypeError),
        (1.5, InputTypeError),
        (True, InputTypeError),
        (-1, InputError),
        (2**64, InputError),
    ):
        with pytest.raises(kind, match="langevin: seed: expected a whole number"):
            made([nn.Parameter(torch.zeros(2))], seed=wrong)
    with pytest.raises(InputError, match="by_kind: matrix: expected a rule that looks once"):
        steprule.by_kind(matrix=langevin, other="adamw")

    @rule
    def seeded(p, g, *, seed: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - seed * maths.noise(p)

    with pytest.raises(RuleError, match="expected the seed of its noise as the class's own, got a hyperparameter seed"):
        optim.from_rule(seeded)
    with pytest.raises(RuleError, match="expected a name for each slot and hyperparameter, got noise twice"):

        @rule
        def named(p, g, noise, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
            return p - lr * maths.noise(p), noise

    with pytest.raises(RuleError, match="expected at most 64 draws of noise in a step, got more"):

        @rule
        def endless(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
            while True:
                p = p - lr * maths.noise(p)


class Drawer:
    """Draws by its methods, as a stranger's object would."""

    def outer(self, x: Any) -> Any:
        return self.draw(x)

    def draw(self, x: Any) -> Any:
        return maths.noise(x)

    __call__ = draw


HELPERS: dict[str, Any] = {
    "method": Drawer().outer,
    "object": Drawer(),
    "partial": partial(lambda x, by: by * maths.noise(x), by=1.0),
    "module": sys.modules[__name__],
}


@pytest.mark.parametrize("name", HELPERS)
def test_a_helper_of_any_kind_draws(name: str, float64_default: None) -> None:
    kept = HELPERS[name]

    @rule
    def by_helper(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g + (kept._pulled(p) if name == "module" else kept(p))

    p = nn.Parameter(torch.zeros(3))
    optimizer = optim.from_rule(by_helper)([p], seed=3)
    p.grad = torch.zeros(3)
    optimizer.step()
    assert p.tolist() == ((0.5 if name == "module" else 1) * noise(np.zeros(3), Key(3), 1, 0)).tolist()


class Odd:
    """Whose attributes are no dictionary, which leads to itself, or which leads on for ever."""

    __slots__ = ("__weakref__", "next")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return 3


class Link:
    """One of a chain."""

    def __init__(self, on: Any) -> None:
        self.on = on


def _chain(length: int, end: Any) -> Any:
    found = end
    for _ in range(length):
        found = Link(found)
    return found


STRANGE: dict[str, Any] = {
    "odd": Odd(),
    "chain": _chain(20_000, None),
    "library": torch.nn.functional,
    "interpreter": sys.modules,
    "circle": (circle := Link(None)),
}
circle.on = circle


@pytest.mark.parametrize("name", STRANGE)
def test_what_a_strangers_rule_leads_to_is_looked_through_once(name: str) -> None:
    """Whatever an author's names lead to: no recursion, no error, and no noise where there is none."""
    kept = STRANGE[name]

    @rule
    def plain(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g if kept is not None else p

    assert not plain.draws


def test_noise_at_the_end_of_a_long_chain_is_found() -> None:
    kept = _chain(20_000, Drawer())

    @rule
    def far_away(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        drawer = kept
        while isinstance(drawer, Link):
            drawer = drawer.on
        return p - lr * drawer(p)

    assert far_away.draws == 1


def test_every_branch_is_counted(float64_default: None) -> None:
    """More draws in a later step, behind an `if` on a number, on a shape, and where a slot is absent; beside them written out."""

    @rule
    def branching(p, g, v: MomentumBuffer, *, lr: Rate = 0.0, far: Rate = 0.0, t):  # type: ignore[no-untyped-def]
        v = maths.noise(p) + maths.noise(p) if v is None else v
        if t % 50 == 0:
            v = v + 2 * maths.noise(p)
        if far > 0.3:
            v = v + 3 * maths.noise(p)
        if maths.ndim(p) > 1:
            v = v + 4 * maths.noise(p)
        return p - lr * g, v

    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    optimizer = optim.from_rule(branching)(params, far=0.5, seed=3)
    wanted = [torch.zeros(3), torch.zeros(2, 2)]
    for t in range(1, 51):
        for k, p in enumerate(params):
            p.grad = torch.zeros_like(p)
            weights = [1, 1] * (t == 1) + [2] * (t % 50 == 0) + [3] + [4] * (p.ndim > 1)
            for draw, weight in enumerate(weights):
                wanted[k] += weight * torch.from_numpy(noise(np.zeros(p.shape), Key(3, k), t, draw))
        optimizer.step()
    for k, p in enumerate(params):
        assert apart(optimizer.state[p]["v"], wanted[k]) <= CLASS_FLOAT64

    @rule
    def either(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        return p - lr * (maths.noise(p) if t < 3 else 2 * maths.noise(p))

    assert either.draws == 1


def test_a_loop_longer_than_its_default_is_refused() -> None:
    @rule
    def looping(p, g, *, lr: Rate = 0.1, k: int = 2):  # type: ignore[no-untyped-def]
        for _ in range(k):
            p = p - lr * maths.noise(p)
        return p

    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.zeros(2)
    optim.from_rule(looping)([p], k=1).step()
    with pytest.raises(RuleError, match="a loop over a whole number draws as often as its default says"):
        optim.from_rule(looping)([p], k=3).step()


def test_a_call_of_nothing_names_noise() -> None:
    @rule
    def nothing(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * maths.noise(None)

    with pytest.raises(RuleError, match="noise: expected what it lies beside, as the parameter, got None"):
        nothing(1.0, 2.0, noise=0.5)


def test_a_subclass_with_operations_of_its_own_is_refused() -> None:
    class Whole(Tensor):
        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    p = torch.zeros(3).as_subclass(Whole).requires_grad_()
    optimizer = optim.from_rule(langevin)([p])
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="langevin draws noise, which a Whole does not support"):
        optimizer.step()
