"""The battery passes what is right, names what is wrong, and shows where two rules part."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thinning import thinned

import steprule
from steprule import checking, rules
from steprule.cli import main
from steprule.compiler import eager
from steprule.hyper import Decay, Epsilon, FirstMoment, Rate
from steprule.maths import sqrt

HEAD = "from steprule import rule\nfrom steprule.hyper import *\nfrom steprule.maths import sqrt\n"


@pytest.mark.parametrize("rule", thinned(rules.names(), 7))
def test_every_rule_of_the_catalogue_passes(rule: str) -> None:
    report = steprule.check(rule)
    assert report.passed, str(report)
    assert [item.name for item in report.items] == [name for name, _ in checking._BATTERY]
    assert {item.verdict for item in report.items} == {"passed"}
    assert report.versions["torch"] in str(report)


def verdicts(rule: Any) -> dict[str, str]:
    return {item.name: item.verdict for item in steprule.check(rule).items}


def test_a_broken_contract_is_a_report() -> None:
    @steprule.rule
    def broken(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g

    report = steprule.check(broken)
    assert not report.passed
    (item,) = report.items
    assert "2 results (p, m)" in item.detail
    assert "test_checking.py" in item.detail


def test_a_rule_that_differs_from_run_to_run_fails() -> None:
    """The author's function reads a counter: each trace and each call computes something else."""
    counter = itertools.count(1)

    @steprule.rule
    def moody(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * next(counter) * g

    assert verdicts(moody)["forms agree"] == "failed"


def test_a_rule_that_does_not_descend_is_a_warning() -> None:
    @steprule.rule
    def still(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * 0.0 * g

    report = steprule.check(still)
    assert report.passed
    assert verdicts(still)["descent"] == "warning"


def test_a_kernel_that_writes_too_far_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.compiler import cpu

    run = cpu.NumbaKernel.run

    def one_too_many(self: Any, k: int, chunks: Any, *rest: Any) -> None:
        addresses, tensors, offsets, lengths, *others = chunks.taken
        chunks.taken = addresses, tensors, offsets, lengths + 1, *others
        run(self, k, chunks, *rest)

    monkeypatch.setattr(cpu.NumbaKernel, "run", one_too_many)
    item = checking._no_write_outside
    with pytest.raises(AssertionError, match="memory around p was written to"):
        item(steprule.rules.parts.composed(rules.sgd), "no write outside")


def test_a_students_rule_is_marked() -> None:
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


def test_the_first_state_that_differs_is_named() -> None:
    report = steprule.check("rmsprop", against="rmsprop_eps_inside")
    assert report.parting is not None
    assert (report.parting.step, report.parting.quantity) == (1, "square_avg")
    assert steprule.check("adam", against="adam").passed
    late = steprule.check("sgd", against="lion").parting
    assert late is not None
    assert late.step == 1


def test_check_on_the_command_line(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    assert main(["check", "adam"]) == 0
    assert capsys.readouterr().out.startswith("adam: passed\n")
    Path("mine.py").write_text(HEAD + "@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * g * 1.0001\n")
    assert main(["check", "mine.py:mine", "--against", "sgd", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["parting"]["quantity"] == "p"
    assert report["parting"]["step"] == 1
