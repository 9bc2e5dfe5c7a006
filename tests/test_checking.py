"""The battery passes what is right, names what is wrong in a sentence, and shows where two rules part."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from thinning import thinned

import steprule
from steprule import optim, rule, rules
from steprule.checking import battery, forms, walks
from steprule.checking.judged import Judged
from steprule.checking.report import FailedError
from steprule.cli import main
from steprule.compiler import eager
from steprule.hyper import Decay, Epsilon, FirstMoment, Rate, StartsAt, WeightDecay
from steprule.maths import maximum, minimum, sqrt, where
from steprule.rules.parts import composed

HEAD = "from steprule import rule\nfrom steprule.hyper import *\nfrom steprule.maths import sqrt\n"


@pytest.fixture
def few_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes seconds to compile, for rules whose mistake no kernel is needed to see."""
    quick = ("floats", "numpy", "vmap", "lanes on tensors", "JavaScript")
    monkeypatch.setattr(forms, "FORMS", {name: walks.FORMS[name] for name in quick})
    monkeypatch.setattr(
        Judged,
        "optimizer",
        lambda self, params, variant: optim.from_rule(self.rule)(params, **variant, backend="eager"),
    )


@pytest.mark.parametrize("name", thinned(rules.names(), 7))
def test_every_rule_of_the_catalogue_passes(name: str) -> None:
    report = steprule.check(name)
    assert report.passed, str(report)
    assert [item.name for item in report.items] == [name for name, _ in battery._BATTERY]
    # Squares of 1e30 are beyond float32: a mean of them divides another, as in torch's Adafactor, or a matrix of them has no root.
    warned = {"huge and tiny gradients"} if name in ("adafactor", "came", "shampoo") else set()
    assert {item.name for item in report.items if item.verdict != "passed"} == warned
    assert report.versions["torch"] in str(report)
    assert report.nearest == f"nearest: {name}, the same for 40 steps"
    assert str(report).splitlines()[-1] == ("passed, 1 warning" if warned else "passed")
    assert list(report.forms) == ["torch", *forms.FORMS]
    reasons = {how for how in report.forms.values() if how != forms.RUN}
    assert reasons <= {
        "the rule reduces over a tensor",
        "not installed",
        "node is not on the PATH",
        "a rule of matrices has no such form",
        "soap, which asks for eigenvectors, qr, sort_by",
        "shampoo, which asks for inverse_root",
    }


def test_a_broken_contract_is_a_report() -> None:
    @steprule.rule
    def broken(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g

    report = steprule.check(broken)
    assert not report.passed
    (item,) = report.items
    assert "2 results (p, m)" in item.detail
    assert "test_checking.py" in item.detail


# Ten mistakes that pupils make, and what they are told. `t` and `eps` as in the reference.

_counter = itertools.count(1)


@rule
def no_bias_correction(p, g, m, v, *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8):  # type: ignore[no-untyped-def]
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return p - lr * m / (sqrt(v) + eps), m, v


@rule
def epsilon_inside(p, g, m, v, *, lr: Rate = 1e-3, b1: Decay = 0.9, b2: Decay = 0.999, eps: Epsilon = 1e-8, t):  # type: ignore[no-untyped-def]
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    return p - lr * (m / (1 - b1**t)) / sqrt(v / (1 - b2**t) + eps), m, v


@rule
def wrong_order(p, g, m, *, lr: Rate = 0.1, mu: Decay = 0.9):  # type: ignore[no-untyped-def]
    m = mu * m + g
    return m, p - lr * m


@rule
def uphill(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p + lr * g


@rule
def state_not_returned(p, g, m, *, lr: Rate = 0.1, beta: Decay = 0.9):  # type: ignore[no-untyped-def]
    new = beta * m + (1 - beta) * g
    return p - lr * new, m


@rule
def not_squared(p, g, v, *, lr: Rate = 0.01, alpha: Decay = 0.9, eps: Epsilon = 1e-8):  # type: ignore[no-untyped-def]
    v = alpha * v + (1 - alpha) * g
    return p - lr * g / (sqrt(v) + eps), v


@rule
def no_epsilon(p, g, v, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    v = v + g**2
    return p - lr * g / sqrt(v), v


@rule
def counts_outside(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g / next(_counter)


@rule
def in_place(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    m += g
    return p - lr * m, m


@rule
def of_torch(p, g, v, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    v = v + g**2
    return p - lr * g / (torch.sqrt(v) + 1e-8), v


@rule
def one_result_short(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * m


@rule
def hides_nan(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * where(g > 0, minimum(g, 1.0), where(g < 0, maximum(g, -1.0), 0.0))


@rule
def never_moves(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * 0.0 * g


@rule
def looks_up_nothing(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - {}["lr"] * g


@rule
def calls_itself(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    def again(x: Any) -> Any:
        return again(x)

    return again(p - lr * g)


@rule
def raises_on_tensors_only(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    if isinstance(p, torch.Tensor):
        raise KeyError("a tensor")
    return p - lr * g


@rule
def idle_start(p, g, v: Annotated[Any, StartsAt(5.0)], *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    v = 2 * g
    return p - lr * v, v


@rule
def cubed(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g**3


NEAREST = "nearest"
BROKEN = [
    (no_bias_correction, "passed", NEAREST, "adam, but for one thing (no bias correction)"),
    (epsilon_inside, "passed", NEAREST, "adam, but for one thing (epsilon inside the root)"),
    (wrong_order, "failed", "states", "results in the wrong order: m is the new p, and p is not; return p, m"),
    (wrong_order, "failed", "descent", "it ends above its start"),
    (uphill, "failed", "descent", "it goes up: the sign of the step is reversed"),
    (state_not_returned, "failed", "states", "m comes back as it went in, so it never changes: return its new value"),
    (not_squared, "failed", "descent", "is not finite after 50 steps, at every learning rate tried"),
    (not_squared, "failed", NEAREST, "rmsprop, but for one thing (g is not squared)"),
    (no_epsilon, "failed", "zero gradients", "p becomes nan, by 0 / 0; add an epsilon to the denominator"),
    (counts_outside, "failed", "pure function", "it gives another result: it depends on something outside"),
    (in_place, "failed", "contract", "got an operation in place (+=, -=, *=, /=). Write x = x + y"),
    (of_torch, "failed", "contract", "expected a function of steprule.maths, got a function of torch on a symbol"),
    (one_result_short, "failed", "contract", "expected 2 results (p, m), got 1"),
    (hides_nan, "passed", "nan is honest", "a nan gradient is hidden: neither p nor a state shows it"),
    (never_moves, "passed", "descent", "it never moves: p comes back as it went in"),
    (looks_up_nothing, "failed", "contract", "KeyError: 'lr'"),
    (calls_itself, "failed", "contract", "it calls itself without end"),
    (raises_on_tensors_only, "failed", "forms agree", "KeyError: 'a tensor'"),
    (idle_start, "passed", "states start right", "the start of v has no effect"),
    (cubed, "passed", "huge and tiny gradients", "gradients of 1e+30 in float32 make p inf"),
]


@pytest.mark.parametrize(("broken", "verdict", "item", "words"), BROKEN, ids=lambda v: getattr(v, "name", None))
def test_a_broken_rule_is_told_why(broken: steprule.Rule, verdict: str, item: str, words: str, few_forms: None) -> None:
    report = steprule.check(broken)
    assert report.passed == (verdict == "passed"), str(report)
    told = {i.name: i.detail for i in report.items if i.verdict != "passed"} | {NEAREST: report.nearest}
    assert words in told[item]
    assert all("\n" not in i.detail for i in report.items)


@pytest.mark.long
@pytest.mark.parametrize("broken", dict.fromkeys(case[0] for case in BROKEN), ids=lambda v: v.name)
def test_a_broken_rule_has_the_same_verdict_in_every_form(broken: steprule.Rule) -> None:
    verdict = next(v for r, v, *_ in BROKEN if r is broken)
    assert steprule.check(broken).passed == (verdict == "passed")


@pytest.mark.parametrize("broken", [looks_up_nothing, raises_on_tensors_only, in_place])
def test_what_a_rule_raises_has_the_authors_line(broken: steprule.Rule, few_forms: None) -> None:
    item = next(i for i in steprule.check(broken).items if i.verdict == "failed")
    file, line = item.detail.split(": ")[0].rsplit(":", 1)
    first = broken.lines[1]
    assert file == __file__
    assert first < int(line) <= first + 4


def test_warnings_are_counted_at_the_end(few_forms: None) -> None:
    report = steprule.check(idle_start)
    assert report.verdict == "passed, 2 warnings"
    assert str(report).splitlines()[-1] == report.verdict
    assert str(report).splitlines()[0] == f"idle_start: {report.verdict}"
    assert steprule.check(uphill).verdict == "FAILED, 1 of 14 items"


@pytest.mark.long
def test_optimized_python_fails_what_python_fails(in_folder: Path) -> None:
    """`python -O` drops assertions: none may do a judge's work."""
    Path("mine.py").write_text(
        HEAD + "@rule\ndef mine(p, g, m, *, lr: Rate = 0.1):\n    new = 0.9 * m + g\n    return p - lr * new, m\n"
    )
    code = (
        "import sys; from steprule import optim; from steprule.checking import forms, judged, walks; from steprule.cli import main\n"
        "forms.FORMS = {'numpy': lambda cases: [walks.walk(c, lambda a: a * 1.001) for c in cases]}\n"
        "eager = lambda self, params, variant: optim.from_rule(self.rule)(params, **variant, backend='eager')\n"
        "judged.Judged.optimizer = eager\n"
        "assert False\n"
        "sys.exit(main(['check', 'mine.py:mine', '--json']))"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    failed = {item["name"]: item["detail"] for item in json.loads(done.stdout)["items"] if item["verdict"] == "failed"}
    assert "in numpy" in failed["forms agree"]
    assert "m comes back as it went in" in failed["states"]


def test_a_form_that_differs_is_named(few_forms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = forms.FORMS["floats"]

    def wrong(cases: Any) -> Any:
        walks = right(cases)
        walks[0][2]["p"][4] += 1e-9
        return walks

    monkeypatch.setitem(forms.FORMS, "floats", wrong)
    item = next(i for i in steprule.check("rmsprop_eps_inside").items if i.name == "forms agree")
    assert item.verdict == "failed"
    assert item.detail.startswith("step 3: p is ")
    assert "in floats" in item.detail


def test_a_form_that_is_not_there_is_named(few_forms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    report = steprule.check("rmsprop_eps_inside")
    assert report.passed
    assert report.forms["JavaScript"] == "node is not on the PATH"
    assert "not run: JavaScript (node is not on the PATH)" in str(report)


def test_a_kernel_that_writes_too_far_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.compiler import numba_cpu as cpu

    run = cpu.NumbaKernel.run

    def one_too_many(self: Any, k: int, chunks: Any, *rest: Any) -> None:
        addresses, tensors, offsets, lengths, *others = chunks.taken
        chunks.taken = addresses, tensors, offsets, lengths + 1, *others
        run(self, k, chunks, *rest)

    monkeypatch.setattr(cpu.NumbaKernel, "run", one_too_many)
    with pytest.raises(FailedError, match="memory around p was written to"):
        battery._no_write_outside(Judged(rules.sgd, composed(rules.sgd)))


def test_a_students_rule_is_marked(few_forms: None) -> None:
    @steprule.rule
    def student(
        p,
        g,
        exp_avg: FirstMoment,
        exp_avg_sq,
        *,
        lr: Rate = 1e-3,
        beta1: Decay = 0.9,
        beta2: Decay = 0.999,
        eps: Epsilon = 1e-8,
        t,
    ):  # type: ignore[no-untyped-def]
        exp_avg = beta1 * exp_avg + (1 - beta1) * g
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
        return p - lr * exp_avg / (sqrt(exp_avg_sq / (1 - beta2**t)) + eps), exp_avg, exp_avg_sq

    report = steprule.check(student, against="adam")
    assert not report.passed
    assert report.parting is not None
    assert (report.parting.step, report.parting.quantity) == (1, "p")
    states: dict[str, Any] = {}
    ours, _ = eager.step(
        rules.adam,
        np.random.default_rng(0).normal(size=5),
        np.random.default_rng(1).normal(size=5),
        states,
        1,
        rules.adam.bind({"lr": 0.01}),
    )
    assert report.parting.theirs in ours.tolist()
    assert f"parts from adam at step 1 in p: {report.parting.ours!r}" in str(report)


def test_the_first_state_that_differs_is_named(few_forms: None) -> None:
    report = steprule.check("rmsprop", against="rmsprop_eps_inside")
    assert report.parting is not None
    assert (report.parting.step, report.parting.quantity) == (1, "square_avg")
    assert steprule.check("adam", against="adam").passed
    late = steprule.check("sgd", against="lion").parting
    assert late is not None
    assert late.step == 1


def test_what_defaults_hide_is_seen_away_from_them(few_forms: None) -> None:
    """At the default of 0 a weight decay of the wrong sign is none."""

    @rule
    def mine(p, g, *, lr: Rate = 1e-3, weight_decay: WeightDecay = 0.0):  # type: ignore[no-untyped-def]
        if weight_decay:
            g = g - weight_decay * p
        return p - lr * g

    report = steprule.check(mine, "sgd")
    assert report.parting is not None
    assert report.parting.settings["weight_decay"] != 0
    assert report.verdict == "parts from sgd"
    assert "weight_decay=0.11" in str(report)


def test_check_on_the_command_line(capsys: pytest.CaptureFixture[str], in_folder: Path, few_forms: None) -> None:
    assert main(["check", "adam"]) == 0
    assert capsys.readouterr().out.startswith("adam: passed\n")
    Path("nan.py").write_text(
        HEAD.replace("sqrt", "log") + "@rule\ndef nr(p, g, *, lr: Rate = 0.1):\n    return p - lr * log(-abs(g) - 1)\n"
    )
    assert main(["check", "nan.py:nr", "--against", "sgd", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["parting"]["ours"] == "nan"
    Path("mine.py").write_text(HEAD + "@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * g * 1.0001\n")
    assert main(["check", "mine.py:mine", "--against", "sgd", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["parting"]["quantity"] == "p"
    assert report["parting"]["step"] == 1
