"""RULE means the same everywhere: every command and every function takes every way to say one, or says in one line why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import steprule
from steprule import benching, optim, paths, rules
from steprule.benching import own
from steprule.cli import main
from steprule.errors import InputTypeError, StepruleError
from steprule.races.spec import spec_of
from steprule.rules.load import load_object
from steprule.trainable import Trainable

FILE = '''
from functools import partial

import torch

from steprule import rule
from steprule.hyper import Rate


@rule
def mine(p, g, *, lr: Rate = 0.1):
    """Mine."""
    return p - lr * g


class Theirs(torch.optim.SGD):
    pass


def factory(params, lr=0.01):
    return torch.optim.SGD(params, lr=lr)


def bare(p, g, *, lr=0.1):
    return p - lr * g


set_already = partial(torch.optim.SGD, lr=0.02)
number = 3
'''
A_RULE = {
    "adam": "adam",
    "ADAM": "adam",
    "adagrad-eps-inside": "adagrad_eps_inside",
    "mine.py:mine": "mine",
    "mine.py": "mine",
    "package.rules:mine": "mine",
}
"""Ways to say a rule, and its name."""
OF_TORCH = {"torch.optim.Adam": "torch.optim.Adam", "torch.optim:Adam": "torch.optim.Adam"}
A_CLASS = {
    **OF_TORCH,
    "steprule.optim:Adam": "Adam",
    "mine.py:Theirs": "Theirs",
    "mine.py:factory": "factory",
    "mine.py:set_already": "partial",
}
"""Ways to say a class or a factory."""
NEITHER = ["adma", "torch.optim.Adma", "torch.optim.Optimizer", "mine.py:bare", "mine.py:number", "mine.py:mien"]
EVERY = {**A_RULE, **A_CLASS}
RACE = [
    "--on",
    "airfoil-linear",
    "--epochs",
    "1",
    "--schedule",
    "linear",
    "--workers",
    "1",
    "--shard",
    "1/1",
    "--out",
    "r",
]
FORMULA = {
    "show": ["show", "RULE"],
    "trace": ["trace", "RULE", "--steps", "2"],
    "play": ["play", "--rule", "RULE", "--out", "p.html"],
    "check": ["check", "RULE"],
    "against": ["check", "sgd", "--against", "RULE"],
}
TRAINS = {
    "train": ["train", "RULE", "--epochs", "1"],
    "sweep": ["sweep", "RULE", "--points", "2", "--epochs", "1", "--no-compile"],
    "race": ["race", "RULE", "--trials", "1", "--seeds", "1", "--fresh", "1", *RACE],
    "as given": ["race", "RULE", "--trials", "0", "--seeds", "1", "--out", "r"],
    "which": ["which", "RULE"],
    "peer": ["bench", "sgd", "--on", "airfoil-linear", "--peer", "RULE"],
}
COMPARED = {"swap": ["bench", "RULE", "--on", "airfoil-linear"]}
"""What has a kernel of ours: a rule, torch's classes that we have too, our own."""
SLOW = {"check", "against", "race", "which"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "rules.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(own, "ROUNDS", (1, 1))


def said(command: list[str], way: str) -> int:
    return main([way if word == "RULE" else word for word in command])


def compared(way: str) -> bool:
    return way in A_RULE or way in OF_TORCH or way == "steprule.optim:Adam"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.long if n in SLOW else []) for n in [*FORMULA, *TRAINS, *COMPARED]],
)
def test_every_command_takes_every_way(name: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = said({**FORMULA, **TRAINS, **COMPARED}[name], way)
    err = capsys.readouterr().err
    taken = True
    if name in FORMULA:
        taken = way in A_RULE
    elif name in COMPARED:
        taken = compared(way)
    if taken:
        assert code == (1 if name == "against" and EVERY[way] != "mine" else 0), err
        return
    assert code == 2
    assert err.count("\n") == 1
    if name in FORMULA:
        assert f"{way}: expected a rule, a catalogue name or 'file.py:name', got a " in err
        assert ("The rule is called adam." in err) is way.endswith("Adam")
    else:
        assert "expected a rule, or one of torch's Adadelta" in err.replace("SGD, Adagrad, RMSprop, ", "")


def of(way: str) -> Any:
    """The thing that a way names, for functions take it too."""
    if way in OF_TORCH:
        return torch.optim.Adam
    return load_object(way, kind="optimizer") if ":" in way else rules.resolve(way)


FUNCTIONS: dict[str, Callable[[Any], str]] = {
    "train": lambda one: steprule.train(one, epochs=1).optimizer,
    "sweep": lambda one: steprule.sweep(one, epochs=1, compile=False).optimizer,
    "race": lambda one: spec_of([one], "airfoil-linear", trials=1, seeds=1, fresh=1).entrants[0].label,
    "race of one": lambda one: spec_of(one, "airfoil-linear", trials=1, seeds=1, fresh=1).entrants[0].label,
    "as given": lambda one: spec_of(one, "airfoil-linear", trials=0, seeds=1).entrants[0].label,
    "trainable": lambda one: Trainable.of(one).name,
    "trainable again": lambda one: Trainable.of(Trainable.of(one)).name,
    "peer": lambda one: benching.swap("sgd", "airfoil-linear", peer=one).peer,
}
WALKS: dict[str, Callable[[Any], object]] = {
    "resolve": rules.resolve,
    "trace": lambda one: paths.trace(one, steps=2),
    "best rate": lambda one: paths.best_rate(one, steps=2),
    "tuned trace": lambda one: paths.tuned_trace(one, steps=2),
    "a class": optim.from_rule,
    "check": steprule.check,
    "against": lambda one: steprule.check("sgd", one),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_takes_every_way_and_the_thing_itself(function: str, way: str) -> None:
    assert FUNCTIONS[function](way) == EVERY[way]
    assert FUNCTIONS[function](of(way)) == EVERY[way]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", A_CLASS)
@pytest.mark.parametrize("function", WALKS)
def test_what_has_no_formula_is_refused_where_one_is_needed(function: str, way: str) -> None:
    for one in (way, of(way)):
        with pytest.raises(InputTypeError, match=r"expected a rule, a catalogue name or 'file.py:name', got a"):
            WALKS[function](one)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", A_RULE)
def test_a_contender_is_the_same_however_it_is_said(way: str) -> None:
    pairs = {"adam": ("Adam", torch.optim.Adam)}
    for one in (way, of(way)):
        found = benching.contender(one)
        assert (found.name, found.theirs) == pairs.get(A_RULE[way], (A_RULE[way], None))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", NEITHER)
@pytest.mark.parametrize("function", [*FUNCTIONS, "swap", *WALKS])
def test_what_is_neither_is_one_line_that_names_it(function: str, way: str) -> None:
    takes = {**FUNCTIONS, **WALKS, "swap": lambda one: benching.swap(one, "airfoil-linear")}[function]
    with pytest.raises(StepruleError) as caught:
        takes(way)
    text = str(caught.value)
    assert "\n" not in text
    assert way.rpartition(".")[2].rpartition(":")[2] in text
    if way.endswith(("adma", "mien")) or (way == "torch.optim.Adma" and function not in WALKS):
        assert "Did you mean" in text
    if way.endswith("bare"):
        assert "Put @steprule.rule above the function." in text


@pytest.mark.parametrize("wrong", [None, 3, True, 0.1, int, object()])
def test_what_can_never_train_is_refused(wrong: Any) -> None:
    with pytest.raises(InputTypeError, match=r"expected a rule, a torch.optim.Optimizer class or a factory"):
        Trainable.of(wrong)
    with pytest.raises(InputTypeError):
        rules.resolve(wrong)


@pytest.mark.usefixtures("files")
def test_what_can_be_set_of_each() -> None:
    of_rule, of_class = Trainable.of("mine.py"), Trainable.of("mine.py:factory")
    assert (of_rule.is_rule, of_class.is_rule) == (True, False)
    assert of_rule.accepts("lr")
    assert of_rule.accepts("clip_norm")
    assert not of_rule.accepts("momentum")
    assert of_rule.defaults["lr"] == 0.1
    assert of_rule.hypers["lr"].default == 0.1
    assert (of_class.known, of_class.defaults, of_class.hypers) == (["lr"], {"lr": 0.01}, {})
    assert not of_class.accepts("momentum")
    assert Trainable.of(lambda params, **whatever: torch.optim.SGD(params, **whatever)).accepts("momentum")
    assert Trainable.of("adam").accepts("betas")
    with pytest.raises(StepruleError, match=r"unknown hyperparameter of factory: expected one of lr, got 'lrr'"):
        steprule.train("mine.py:factory", epochs=1, lrr=0.1)


def test_a_rule_is_found_without_torch() -> None:
    """So that what shows and walks rules starts at once."""
    import subprocess
    import sys

    code = (
        "import sys; from steprule.trainable import Trainable; t = Trainable.of('adam');"
        "assert t.accepts('lr') and t.name == 'adam'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("way", "hint"),
    [("torch.optim.LBFGS", "steprule which names"), ("torch.optim:SGD", "called sgd"), (torch.optim.SGD, "called sgd")],
)
def test_a_class_has_no_formula(way: Any, hint: str) -> None:
    with pytest.raises(InputTypeError, match=hint):
        rules.resolve(way)


@pytest.mark.usefixtures("files")
def test_a_sweep_of_a_class_varies_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["sweep", "torch.optim.SGD", "--points", "2", "--epochs", "1"]
    assert main([*sweep, "--vary", "momentum=0..0.9", "--set", "lr=0.05"]) == 0
    out = capsys.readouterr().out
    assert "momentum" in out
    assert "one by one: an optimizer that is not a rule" in out
    assert main([*sweep, "--vary", "momentum"]) == 2
    assert "Write momentum=low..high." in capsys.readouterr().err
    assert main([*sweep, "--vary", "momentun=0..1"]) == 2
    assert "Did you mean 'momentum'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "says"), [({"paper": "Smith 2020"}, "a Paper as paper"), ({"title": 5}, "a title in words")]
)
def test_what_a_rule_is_told_has_its_kind(told: dict[str, Any], says: str) -> None:
    def mine(p: Any, g: Any, *, lr: float = 0.1) -> Any:
        return p - lr * g

    with pytest.raises(steprule.errors.RuleError, match=says):
        steprule.rule(**told)(mine)
