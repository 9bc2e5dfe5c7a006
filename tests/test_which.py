"""`which` finds every catalogue rule, by its function and by torch's class, names slips, and says when nothing is near."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned

import steprule
from steprule import rule, rules
from steprule.checking import nearest, probe
from steprule.checking.mutants import mutants
from steprule.checking.stranger import Stranger
from steprule.cli import main
from steprule.compiler.variant import asks_for_shapes
from steprule.errors import InputError, StepruleError, UnknownNameError
from steprule.hyper import Decay, Epsilon, Rate
from steprule.maths import abs, sqrt
from steprule.rules.parts import composed

TORCH = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD")


@pytest.mark.parametrize("name", rules.names())
def test_every_rule_is_itself(name: str) -> None:
    found = steprule.which(name)
    assert found.same
    assert str(found) == f"nearest: {name}, the same for 40 steps"


@pytest.mark.parametrize("name", TORCH)
def test_every_class_of_torch_is_its_rule(name: str) -> None:
    found = steprule.which(f"torch.optim:{name}")
    assert str(found) == f"nearest: {name.lower()}, the same for 40 steps"


FACTORIES = {
    "sgd with nesterov": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam with amsgrad": lambda ps: torch.optim.Adam(ps, lr=0.1, amsgrad=True),
    "rmsprop with centered": lambda ps: torch.optim.RMSprop(ps, lr=0.1, centered=True),
    "sgd with maximize": lambda ps: torch.optim.SGD(ps, lr=0.1, maximize=True),
    "adagrad, the same": lambda ps: torch.optim.Adagrad(ps, lr=0.1, initial_accumulator_value=0.1),
    "lion, the same": lambda ps: steprule.optim.Lion(ps, lr=0.1),
}


@pytest.mark.parametrize("words", FACTORIES)
def test_a_factory_has_its_switches_named(words: str) -> None:
    assert str(steprule.which(FACTORIES[words])).startswith(f"nearest: {words}")


@rule
def twelve_lines(p, g, m, v, *, lr=0.1, t):  # type: ignore[no-untyped-def]
    """Numbers in place of hyperparameters, as pupils write."""
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    return p - lr * (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


@rule
def other_names(p, g, s, *, learning_rate: Rate = 0.01, rho: Decay = 0.9, epsilon: Epsilon = 1e-8):  # type: ignore[no-untyped-def]
    s = rho * s + (1 - rho) * g**2
    return p - learning_rate * g / (sqrt(s) + epsilon), s


@rule
def twice_too_long(p, g, m, v, *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, t):  # type: ignore[no-untyped-def]
    new_p, m, v, _ = rules.adam.function(p, g, m, v, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, amsgrad=False, t=t)
    return p + 2 * (new_p - p), m, v


@rule
def late(p, g, m, *, lr: Rate = 0.1, beta: Decay = 0.9, t):  # type: ignore[no-untyped-def]
    """Momentum whose second step is longer by 1 / (1 - beta)."""
    m = beta * m + g
    return p - lr * m / (1 - beta) ** (t - 1), m


@rule
def unheard_of(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g / (1 + abs(g))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (twelve_lines, "adam, the same for 40 steps (beta1=0.9 fixed, beta2=0.999 fixed, eps=1e-08 fixed)"),
        (other_names, "rmsprop, the same for 40 steps"),
        (twice_too_long, "adam, but for one thing (each step is multiplied by 2)"),
        (late, "sgd with momentum=0.9 until step 2: by 1 / (1 - beta)"),
        (unheard_of, "none near; "),
    ],
)
def test_what_is_said(what: steprule.Rule, words: str) -> None:
    assert words in str(steprule.which(what))


def stranger(formula: Any, hypers: dict[str, Any]) -> Stranger:
    numbers = {n: float(v) for n, v in hypers.items() if not isinstance(v, bool | str)}
    return Stranger("stranger", numbers, {}, lambda _: list(formula.walk(hypers)))


def slips_of(name: str) -> Any:
    known = composed(rules.get(name))
    hypers = {**known.defaults, **probe.probing(known)}
    slips = list(mutants(nearest.formula_of(known, hypers)))
    return hypers, [s for s in slips if _runs(s.formula, hypers)] if asks_for_shapes(known) else slips


def _runs(formula: Any, hypers: dict[str, Any]) -> bool:
    """A slip that mixes arrays of two shapes is no stranger: it stops at its first step."""
    try:
        next(formula.walk(hypers))
    except (ValueError, TypeError, StepruleError):
        return False
    return True


SLIPS = [(name, k) for name in rules.names() for k in range(len(slips_of(name)[1]))]


@pytest.mark.parametrize(("name", "k"), thinned(SLIPS, 120))
def test_a_slip_is_found_again(name: str, k: int) -> None:
    """By its own words, or by others of the same walk; what is finite nowhere, or never moves, is nothing to find."""
    hypers, slips = slips_of(name)
    slip = slips[k]
    walked = list(
        itertools.takewhile(lambda step: np.isfinite(step["p"]).sum() >= probe.FEWEST, slip.formula.walk(hypers))
    )
    found = nearest.nearest(stranger(slip.formula, hypers))
    if len(walked) == probe.STEPS and not probe.moves(walked):
        assert found.how == "it never moves"
        return
    assert len(walked) < probe.STEPS or (found.rule is not None and found.step is None), (slip.words, str(found))


def test_adams_slips_are_the_known_ones() -> None:
    words = [slip.words for slip in slips_of("adamw")[1]]
    assert len(set(words)) == len(words)
    assert {
        "no bias correction", "epsilon inside the root", "epsilon added before the bias correction", "g is not squared", "no square root",
        "the sign of the step is reversed: it goes up", "beta1 and beta2 exchanged", "beta1 in place of 1 - beta1",
        "weight decay goes through the gradient, not beside it", "no epsilon",
        "the steps are counted from 0, not from 1", "p and exp_avg are returned in each other's place",
        "the new exp_avg is not returned: it stays as it started", "the step uses exp_avg_sq from before its update",
    } <= set(words)  # fmt: skip
    assert "weight decay goes beside the gradient, not through it" in [slip.words for slip in slips_of("adam")[1]]


def test_every_number_of_the_catalogue_is_probed() -> None:
    """Away from its default and its neutral values; and no two factors that a walk may differ by are equal."""
    for known in map(composed, rules.CATALOGUE.values()):
        found = probe.probing(known)
        values = {n: v for n, v in found.items() if n != "weight_decay" or v}
        assert all(v not in (0.0, 1.0, known.defaults[n]) for n, v in found.items()), known.name
        factors = [v for _, v in nearest._expressions(values, 7)]
        assert all(abs(a / b - 1) > 1e-4 for a, b in itertools.combinations(factors, 2)), known.name


def test_bad_things() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        steprule.which("adm")
    with pytest.raises(InputError, match=r"expected a torch\.optim\.Optimizer, got a int"):
        steprule.which(lambda params: 3)
    with pytest.raises(InputError, match="SparseAdam does not support dense gradients"):
        steprule.which("torch.optim:SparseAdam")


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("own.py").write_text("import torch\ndef make(params):\n    return torch.optim.Adam(params, eps=1e-6)\n")
    assert main(["which", "own.py:make"]) == 0
    assert capsys.readouterr().out == "nearest: adam, the same for 40 steps\n"
    assert main(["which", "own.py:make", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rule"] == "adam"
    assert found["same"] is True
    assert main(["which", "own.py:other"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
