"""What a stranger types or calls by mistake is one clear line, and what is counted is said in the right number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import steprule
from steprule import races
from steprule.cli import main
from steprule.errors import InputError, InputTypeError, StepruleError, UnknownNameError
from steprule.optim.backends import target_for
from steprule.problems import catalogue
from steprule.races import Competitor
from steprule.races.setting import Setting, in_words
from steprule.reports import setting_charts

SMALL: dict[str, Any] = {"epochs": 1, "compile": False}
CELL = ("airfoil-linear", "linear", "sgd")


@pytest.fixture(scope="module")
def given() -> races.Race:
    return steprule.race(["sgd", "adam"], "airfoil-linear", trials=0, seeds=1, schedules="linear", **SMALL)


@pytest.fixture(scope="module")
def tuned() -> races.Race:
    return steprule.race(["sgd", "adam"], "airfoil-linear", 2, 2, fresh=2, schedules="linear", **SMALL)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a command that exits with 2."""
    code = main(list(args))
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err


def no_model() -> Any:
    raise ZeroDivisionError("nothing to divide")


MODELS: dict[str, tuple[Any, str]] = {
    "a text": (lambda: "x", "expected a function that makes a model, got one that makes a str"),
    "an error": (no_model, "the model cannot be made: ZeroDivisionError: nothing to divide"),
    "an argument": (lambda size: nn.Linear(size, 1), "the model cannot be made: .*argument: 'size'"),
}


@pytest.mark.parametrize(("model", "words"), MODELS.values(), ids=MODELS)
def test_a_model_that_is_none(model: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(StepruleError, match=words) as caught:
        steprule.race([Competitor("sgd", model=model)], "airfoil-linear", trials=0, seeds=1, **SMALL)
    assert "problem airfoil-linear" in str(caught.value)
    assert "\n" not in str(caught.value)
    linear = catalogue.get("airfoil-linear")
    with pytest.raises(StepruleError, match="model"):
        steprule.Problem.from_arrays(linear.features, linear.targets, model)


ASKED: dict[str, Callable[[races.Race], Any]] = {
    "outcomes": lambda race: race.outcomes(*CELL),
    "losses": lambda race: race.losses(*CELL),
    "below_least": lambda race: race.below_least(*CELL),
    "sensitivity": lambda race: race.sensitivity(*CELL),
    "best_of_k": lambda race: race.best_of_k(*CELL),
    "cell": lambda race: race.cell(*CELL[:2]),
    "agreement": lambda race: race.agreement,
    "profile": lambda race: race.profile,
    "tells_luck": lambda race: race.tells_luck,
    "tuning": lambda race: race.tuning,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_settings_as_given_say_alike_that_nothing_was_tuned(
    ask: Callable[[races.Race], Any], given: races.Race, tuned: races.Race
) -> None:
    with pytest.raises(InputError, match=r"expected one that tuned, got settings as given\. See Race\.settings"):
        ask(given)
    ask(tuned)


@pytest.mark.parametrize("name", ["outcomes", "losses", "below_least", "sensitivity", "best_of_k", "chain"])
def test_names_that_are_not_in_a_race(name: str, tuned: races.Race) -> None:
    ask = getattr(tuned, name)
    ask(*CELL)
    with pytest.raises(UnknownNameError, match=r"unknown problem of this race: .*Did you mean 'airfoil-linear'"):
        ask("airfoil", *CELL[1:])
    with pytest.raises(UnknownNameError, match="unknown schedule of this race: expected one of linear, got 'cosine'"):
        ask(CELL[0], "cosine", CELL[2])
    with pytest.raises(UnknownNameError, match=r"unknown competitor of this race: .*Did you mean 'adam'"):
        ask(*CELL[:2], "adm")


def test_cells_and_pairs_that_are_none(tuned: races.Race) -> None:
    cell = tuned.cell(*CELL[:2])
    assert {cell.pair("adam", "sgd").first, cell.pair("sgd", "adam").second} == {"adam", "sgd"}
    with pytest.raises(UnknownNameError, match="unknown problem"):
        tuned.cell("digits", "linear")
    with pytest.raises(UnknownNameError, match="unknown schedule"):
        tuned.cell(CELL[0], "constant")
    with pytest.raises(UnknownNameError, match="unknown competitor of airfoil-linear, linear"):
        cell.pair("adam", "lion")
    with pytest.raises(InputError, match="expected two labels, got 'adam' twice"):
        cell.pair("adam", "adam")


def setting(label: str, losses: list[float]) -> Setting:

    own = np.array(losses)
    low, high = np.percentile(own, (2.5, 97.5))
    about = {"seconds": 0.0, "diverged": 0, "metrics": {}, "finals": own, "sd": own.std(ddof=1), "mean": own.mean()}
    return Setting("p", "constant", label, label, True, low=low, high=high, **about)


def test_the_lowest_is_not_counted_among_those_that_overlap_with_it() -> None:
    lowest, near, far = setting("a", [1.0, 2.0]), setting("b", [1.5, 2.5]), setting("c", [8.0, 9.0])
    assert "For 0 of 1 other the middle 95 % of seeds overlaps with that of the lowest: its lead" in in_words(
        [lowest, far]
    )
    assert "For 1 of 1 other" in in_words([near, lowest])
    assert "For 1 of 2 others" in in_words([near, far, lowest])
    assert "between those and the lowest, one seed ranks nothing" in in_words([near, far, lowest])
    assert "one seed ranks nothing here" in in_words([near, lowest])


def test_one_is_said_as_one(given: races.Race, tuned: races.Race, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(given).startswith("Race of 2 on 1 problem: 2 trainings\n")
    assert "epochs" not in " ".join(races.in_words(tuned))
    assert "1 epoch, linear learning rate, best of 2 trials" in races.in_words(tuned)[0]
    assert "1 epoch, batch" in repr(steprule.train("sgd", "airfoil-linear", epochs=1))
    assert "1 point x 1 seed\n" in repr(steprule.sweep("sgd", "airfoil-linear", {"lr": 0.1}, **SMALL))


@pytest.mark.parametrize("access", ["optim.Admw", "rules.admw"])
def test_a_name_that_a_module_lacks_is_told_the_near_one_once(access: str) -> None:
    """By Python itself, which adds a hint of its own when it prints the error."""
    done = subprocess.run([sys.executable, "-c", f"import steprule; steprule.{access}"], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("AttributeError: unknown ")
    assert last.count("Did you mean") == 1


def test_a_finished_race_checks_how_it_would_run(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "race",
        "sgd",
        "--on",
        "airfoil-linear",
        "--trials",
        "0",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--out",
        "out",
    ]
    for _ in range(2):  # begun anew, and finished
        assert "unknown engine: " in refused(capsys, *command, "--engine", "raay")
        assert "workers: expected 1 or more, got -3" in refused(capsys, *command, "--workers", "-3")
        assert main(command) == 0
        capsys.readouterr()


@pytest.mark.parametrize("page", ["surfaces", "luck"])
def test_a_page_ends_as_a_page(page: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("q.png", "q"):
        assert "expected a name that ends in .html" in refused(capsys, "play", page, "--out", name)
        assert not Path(name).exists()


def test_a_rule_that_is_typed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert "rules: expected each once, got 'Adam' twice\n" in refused(capsys, "trace", "adam", "sgd", "Adam")
    for command in (["trace"], ["race", "--on", "airfoil-linear"]):
        assert "rules: expected each once, got 'adam' twice\n" in refused(capsys, *command, "adam", "adam")


def test_a_second_one_of_a_name_is_told_how_to_be_told_apart() -> None:
    with pytest.raises(InputError, match=r"got 'adam' twice\. A Competitor gives one of them a label of its own"):
        steprule.race(["adam", Competitor("adam", hypers={"lr": 0.1})], "airfoil-linear")


def test_a_folder_that_is_missing(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pupils/", "class/pupils", "./pupils"):
        line = refused(capsys, "check", name, "--against", "adam")
        assert f"folder {name}: expected a folder of files to mark, got nothing there" in line
    assert "There is no folder of that name either." in refused(capsys, "check", "pupils")
    assert "Did you mean 'adam'?" in refused(capsys, "check", "adm")


def test_curves_name_only_the_kinds_that_run(given: races.Race) -> None:
    assert setting_charts.curves(given, given.settings).legends == []
    both = steprule.race(["sgd", "torch.optim.SGD"], "airfoil-linear", trials=0, seeds=1, **SMALL)
    (legend,) = setting_charts.curves(both, both.settings).legends
    assert [text.get_text() for text in legend.get_texts()] == ["formula", "class"]


def test_a_backend_steps_its_own_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    target_for.cache_clear()
    assert target_for("numba", "cpu") == "numba"
    assert target_for("eager", "cuda") is None
    for backend, device, place in (
        ("numba", "cuda", "the CPU"),
        ("numba", "mps", "the CPU"),
        ("triton", "cpu", "an NVIDIA GPU"),
    ):
        with pytest.raises(
            InputError, match=f"backend '{backend}': expected parameters on {place}, got one on {device}"
        ):
            target_for(backend, device)


def test_a_race_without_a_kernel(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "race",
        "sgd",
        "--on",
        "airfoil-linear",
        "--trials",
        "2",
        "--seeds",
        "1",
        "--fresh",
        "1",
        "--schedule",
        "linear",
    ]
    engines = {}
    for option in ("--compile", "--no-compile"):
        assert main([*small, "--epochs", "1", option, "--json"]) == 0

        engines[option] = json.loads(capsys.readouterr().out)["spec"]["engines"]["airfoil-linear"]
    assert engines == {"--compile": "kernel", "--no-compile": "vmap"}
    assert "--no-compile: expected a race that tunes" in refused(capsys, "race", "sgd", "--trials", "0", "--no-compile")


def test_an_entrant_with_a_model_that_is_a_module() -> None:
    with pytest.raises(InputTypeError, match="expected a function that makes a model, got a Linear"):
        steprule.race([Competitor("sgd", model=nn.Linear(5, 1))], "airfoil-linear", trials=0, seeds=1, **SMALL)
