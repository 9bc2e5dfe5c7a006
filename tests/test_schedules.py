"""Schedules: the factor of every step beside torch's own schedulers, spelling, refusals, and each way to train with one."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import SUMMED64, TORCHS_SCHEDULES, TRAIN_RULE_AGAINST_CLASS
from torch.optim import lr_scheduler

import steprule
from steprule import schedules
from steprule.cli import main
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.problems import catalogue as problems
from steprule.races.spec import spec_of
from steprule.races.store import Store
from steprule.races.work import packed
from steprule.schedules import cosine, get, inverse_root, linear, one_cycle, own, step, warmup

Make = Callable[[torch.optim.Optimizer, int], Any]
RATE = 0.5
TORCHS: dict[str, Make] = {
    "constant": lambda o, n: lr_scheduler.LambdaLR(o, lambda k: 1.0),
    "linear": lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, n),
    "linear(final=0.2)": lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.2, n),
    "cosine": lambda o, n: lr_scheduler.CosineAnnealingLR(o, n),
    "cosine(final=0.1)": lambda o, n: lr_scheduler.CosineAnnealingLR(o, n, 0.1 * RATE),
    "one_cycle": lambda o, n: lr_scheduler.OneCycleLR(o, RATE, n, cycle_momentum=False),
    "one_cycle(peak=0.77,start=0.1,final=0.01)": lambda o, n: lr_scheduler.OneCycleLR(
        o, RATE, n, pct_start=0.77, div_factor=10, final_div_factor=10, cycle_momentum=False
    ),
    "step(every=3,by=0.5)": lambda o, n: lr_scheduler.StepLR(o, 3, 0.5),
    "step": lambda o, n: lr_scheduler.StepLR(o, max(1, round(0.3 * n)), 0.1),
    "inverse_root(scale=4)": lambda o, n: lr_scheduler.LambdaLR(o, lambda k: math.sqrt(4 / (4 + k))),
    "inverse_root": lambda o, n: lr_scheduler.LambdaLR(o, lambda k: 1 / math.sqrt(k + 1)),
}


def torchs(make: Make, total: int) -> list[float]:
    """The factors of each step, as a loop has them that calls the scheduler behind each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler, found = make(optimizer, total), []
    for t in range(total):
        found.append(optimizer.param_groups[0]["lr"] / RATE)
        optimizer.step()
        if t + 1 < total:
            scheduler.step()
    return found


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("name", TORCHS)
def test_every_factor_is_torchs(name: str, total: int) -> None:
    assert get(name).name == name
    assert get(name).factors(total) == pytest.approx(torchs(TORCHS[name], total), rel=TORCHS_SCHEDULES, abs=SUMMED64)


def test_one_cycle_where_torch_divides_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        torchs(lambda o, n: lr_scheduler.OneCycleLR(o, RATE, n, pct_start=0.1, cycle_momentum=False), 10)
    assert one_cycle(peak=0.1).factors(10)[0] == 1.0


BEHIND = ["constant", "linear", "cosine(final=0.1)", "step(every=3,by=0.5)"]


@pytest.mark.parametrize(("total", "steps"), [(2, 1), (7, 3), (40, 4), (3, 3), (5, 9)])
@pytest.mark.parametrize("name", BEHIND)
def test_a_warm_up_is_torchs_sequence(name: str, total: int, steps: int) -> None:
    """Also where it is as long as the run, or longer."""
    rest = max(total - steps, 1)

    def sequence(o: torch.optim.Optimizer, n: int, start: float) -> Any:
        first = lr_scheduler.LinearLR(o, start, 1.0, steps)
        return lr_scheduler.SequentialLR(o, [first, TORCHS[name](o, rest)], [steps])

    usual = torchs(lambda o, n: sequence(o, n, 1 / (steps + 1)), total)
    quarter = torchs(lambda o, n: sequence(o, n, 0.25), total)
    assert get(f"warmup({steps})+{name}").factors(total) == pytest.approx(usual, rel=TORCHS_SCHEDULES)
    assert get(f"warmup({steps},start=0.25)+{name}").factors(total) == pytest.approx(quarter, rel=TORCHS_SCHEDULES)


def test_transformers_schedules() -> None:
    """By the formulas of transformers.optimization, whose k is our t - 1; its warm-up begins at 0."""
    w, total = 10, 60

    def cosine_with_warmup(k: int) -> float:
        return k / w if k < w else 0.5 * (1.0 + math.cos(math.pi * 2 * 0.5 * (k - w) / (total - w)))

    def inverse_sqrt(k: int) -> float:
        return k / w if k < w else 1.0 / math.sqrt((k + w - w) / w)

    for name, theirs in (("cosine", cosine_with_warmup), ("inverse_root", inverse_sqrt)):
        found = get(f"warmup({w},start=0)+{name}").factors(total)
        assert found == pytest.approx([theirs(k) for k in range(total)], rel=SUMMED64)
    paper = [min(t**-0.5, t * w**-1.5) for t in range(1, total + 1)]  # Vaswani et al., section 5.3
    ours = get(f"warmup({w})+inverse_root").factors(total)
    assert np.allclose(ours[w + 1 :], np.array(paper[w:-1]) * math.sqrt(w), rtol=SUMMED64, atol=0)


def test_shares_are_the_nearest_number_of_steps() -> None:
    assert get("warmup(0.1)+cosine").factors(30) == get("warmup(3)+cosine").factors(30)
    assert get("warmup(0.1)+cosine").factors(3) == get("warmup(1)+cosine").factors(3)  # 1 at least
    assert get("step(every=0.25)").factors(10) == get("step(every=2)").factors(10)
    assert get("step(every=1.0)").factors(9) == [1.0] * 9
    assert get("step(every=1,by=0.5)").factors(3) == [1, 0.5, 0.25]


def halves(t: int, total: int) -> float:
    return 0.5 ** (t * 4 // total)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (" Cosine ( final = .1 ) ", "cosine(final=0.1)"),
        ("cosine(0.1)", "cosine(final=0.1)"),
        ("linear(0)", "linear"),
        ("linear()", "linear"),
        ("one-cycle(0.3)", "one_cycle"),
        ("step(0.5, 1e-1)", "step(every=0.5)"),
        ("step(every=10,by=0.1)", "step(every=10)"),
        ("warm-up(1e-1) + one-cycle", "warmup(0.1)+one_cycle"),
        ("warmup(5)", "warmup(5)+constant"),
        ("warmup(0)+cosine", "cosine"),
        ("warmup(length=0.1, start=0)+linear", "warmup(0.1,start=0.0)+linear"),
        (cosine, "cosine"),
        (cosine(final=np.float32(0.5)), "cosine(final=0.5)"),
        (warmup(np.int64(3)), "warmup(3)+constant"),
        (warmup(0.1) + cosine(final=0.1), "warmup(0.1)+cosine(final=0.1)"),
        (warmup(0.1) + "step", "warmup(0.1)+step"),
        (warmup(0.1) + halves, "warmup(0.1)+halves"),
        (inverse_root(0.1), "inverse_root(scale=0.1)"),
        (halves, "halves"),
        (own(halves, "mine"), "mine"),
        (own(lambda t, total: 1.0, "cosine"), "own:cosine"),
    ],
)
def test_every_way_to_say_one_has_one_spelling(given: Any, name: str) -> None:
    found = get(given)
    assert found.name == str(found) == name
    assert get(found) is found
    if found.own is None:
        again = get(name)
        assert again == found
        assert hash(again) == hash(found)
        assert again.factors(17) == found.factors(17)


REFUSED = {
    "near": ("cosin", "Did you mean 'cosine'?"),
    "near a number": ("cosine(fnal=0.1)", "unknown parameter of schedule cosine: expected one of final, got 'fnal'"),
    "empty": ("", "unknown schedule"),
    "no end": ("cosine(0.1", "expected its numbers in brackets at its end"),
    "behind": ("cosine(0.1)+warmup(0.1)", "A warm-up stands first: warmup(0.1)+cosine."),
    "two": ("linear+cosine", "unknown schedule"),
    "two warm-ups": ("warmup(0.1)+warmup(0.1)+cosine", "expected one warm-up"),
    "no length": ("warmup+cosine", "Did you mean 'warmup(0.1)+cosine'?"),
    "empty length": ("warmup()+cosine", "expected warmup(length)"),
    "nothing behind": ("warmup(0.1)+", "unknown schedule"),
    "no plus": ("warmup(0.1)cosine", "+ before what follows it"),
    "twice": ("cosine(0.1,final=0.1)", "expected final once"),
    "too many": ("step(1,0.1,2)", "expected step(every=number, by=number)"),
    "by place behind a name": ("step(every=1,0.5)", "expected step(every=number, by=number)"),
    "none": ("constant(1)", "constant, which takes no numbers"),
    "a word": ("cosine(low)", "expected cosine(final=number)"),
    "nan": ("cosine(nan)", "expected cosine(final=number)"),
    "comma": ("cosine(,)", "expected cosine(final=number)"),
    "code": ("cosine(__import__('os'))", "expected cosine(final=number)"),
    "too large": ("cosine(2)", "schedule cosine: final: expected a number, 0 to 1, got 2"),
    "below": ("step(by=-0.1)", "schedule step: by: expected a number, 0 to 1"),
    "no whole number": ("warmup(500.0)+cosine", "a whole number of steps, or 0, got 500.0. Write 500."),
    "infinite": ("warmup(1e999)+cosine", "got inf"),
    "negative": ("warmup(-1)+cosine", "got -1"),
    "no period": ("step(every=0)", "got 0"),
    "no file": ("nowhere.py:mine", "schedule file nowhere.py: expected a Python file, got nothing there"),
    "a file": ("mine.py", "Did you mean 'file.py:name'?"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_says_no_schedule_is_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = REFUSED[kind]
    with pytest.raises(InputError) as caught:
        get(text)
    assert words in str(caught.value)
    assert main(["train", "sgd", "--schedule", text]) == 2
    assert capsys.readouterr().err == f"steprule: {caught.value}\n"


@pytest.mark.parametrize(
    "given", [None, 3, True, torch.optim.lr_scheduler.StepLR, warmup, schedules.Schedule, b"cosine"]
)
def test_what_is_no_schedule_at_all(given: Any) -> None:
    with pytest.raises(InputTypeError, match=r"a Schedule or a function \(t, total\) -> factor"):
        get(given)


@pytest.mark.parametrize("call", [lambda: cosine("a"), lambda: cosine(True), lambda: warmup("0.1"), lambda: step(None)])
def test_numbers_are_numbers(call: Callable[[], Any]) -> None:
    with pytest.raises(InputTypeError):
        call()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda t, total: -1.0 if t == 3 else 1.0,
            r"step 3 of 300: expected a factor that is finite and 0 or more, got -1.0",
        ),
        (lambda t, total: math.nan, "step 1 of 300: .* got nan"),
        (lambda t, total: np.float64("inf"), "step 1 of 300: .* got inf"),
        (lambda t, total: "0.5", "got '0.5'"),
        (lambda t, total: None, "got None"),
        (lambda t, total: True, "got True"),
        (lambda t, total: 1j, "got 1j"),
        (lambda t, total: torch.ones(2), "step 1 of 300"),
        (lambda t: 1.0, "step 1 of 300: .*positional argument"),
        (lambda t, total: 1 / (2 - t), r"test_schedules.py:\d+: .*step 2 of 300: ZeroDivisionError"),
    ],
)
def test_a_factor_that_cannot_be_used_is_one_line_before_training(function: Any, words: str) -> None:
    with pytest.raises(StepruleError, match=words) as caught:
        steprule.train("sgd", schedule=function)
    assert "\n" not in str(caught.value)
    with pytest.raises(StepruleError):
        steprule.sweep("sgd", "airfoil", {"lr": 0.1}, schedule=["constant", function], epochs=[1, 2], compile=False)
    with pytest.raises(StepruleError):
        spec_of(["sgd"], "airfoil-linear", schedules=[function], compile=False).stated  # noqa: B018


@pytest.mark.parametrize("value", [1, np.float32(1), torch.tensor(1.0), Fraction(1), 0])
def test_a_factor_is_any_number(value: Any) -> None:
    assert own(lambda t, total: value).factors(2) == [float(value)] * 2


def test_a_call_wants_a_step_of_the_run() -> None:
    assert linear()(3, 4) == 0.5
    for t, total in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(InputError):
            linear()(t, total)


def by_hand(rule: str, factors: list[float], rate: float) -> float:
    """A plain loop with torch's class, whose rate is set by hand, on the linear airfoil problem, one epoch of 50, seed 0."""
    from steprule.problems.scoring import measured
    from steprule.problems.source import batches

    task = problems.get("airfoil-linear")
    model = task.initial_model(0)
    optimizer = getattr(torch.optim, rule)(model.parameters(), lr=rate)
    for rows, factor in zip(batches(task.samples, 50, 1, 0), factors, strict=True):
        optimizer.param_groups[0]["lr"] = rate * factor
        optimizer.zero_grad()
        task.loss(model(task.features[rows]), task.targets[rows]).backward()
        optimizer.step()
    return measured(task, model, task.parts["train"])


NAMES = ["constant", "linear", "warmup(0.2)+cosine(final=0.1)", "one_cycle", "step(every=5)", "warmup(3)+inverse_root"]


@pytest.mark.parametrize("engine", ["kernel", "vmap", "one by one"])
def test_every_lane_of_a_sweep_has_its_own(engine: str) -> None:
    given: list[Any] = [*NAMES, halves]
    what = torch.optim.Adam if engine == "one by one" else "adam"
    found = steprule.sweep(
        what, "airfoil-linear", {"lr": 0.05}, 1, schedule=given, epochs=1, batch_size=50, compile=engine == "kernel"
    )
    assert found.engine.startswith(engine)
    assert found.schedule == (*NAMES, "halves")
    count = -(-problems.get("airfoil-linear").samples // 50)
    for k, schedule in enumerate(given):
        solo = steprule.train(what, "airfoil-linear", 0, 1, 50, schedule=schedule, lr=0.05)
        assert solo.schedule == found.schedule[k]
        assert found.train[k, 0] == pytest.approx(solo.final_loss, rel=TRAIN_RULE_AGAINST_CLASS)
        assert solo.final_loss == pytest.approx(
            by_hand("Adam", get(schedule).factors(count), 0.05), rel=TRAIN_RULE_AGAINST_CLASS
        )
    assert len({float(x) for x in found.train[:, 0]}) == len(given)


def test_a_schedule_of_one_name_shares_its_lanes() -> None:
    """Equal schedules are one plan, however they were said."""
    assert len({get("cosine"), cosine(), get("cosine(0)"), get(cosine)}) == 1
    assert get(halves) == get(halves)
    assert own(halves, "a") != own(lambda t, total: 1.0, "a")
    assert pickle.loads(pickle.dumps(get(halves).own)) is halves


SMALL: dict[str, Any] = {"trials": 1, "seeds": 1, "fresh": 1, "epochs": 1, "compile": False, "workers": 1}
FILE = """
from steprule.schedules import cosine, warmup

FLOOR = {floor}


def falls(t, total):
    return max(FLOOR, 1 - t / total)


made = warmup(0.1) + cosine(final=0.1)
"""


def test_a_race_takes_several_and_goes_on_with_the_same_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "r"
    file.write_text(FILE.format(floor=0.1))
    typed = [
        "race",
        "sgd",
        "torch.optim.SGD",
        "--on",
        "airfoil-linear",
        "--trials",
        "1",
        "--seeds",
        "1",
        "--fresh",
        "1",
    ]
    typed += ["--epochs", "1", "--workers", "1", "--shard", "1/1", "--out", str(out)]
    mine = ["--schedule", "warmup( 0.1 )+cosine", "--schedule", f"{file}:falls"]
    for k in range(2):
        assert main([*typed, *mine]) == 0
        lanes, kept = (int(n) for n in re.findall(r"(\d+) (?:lanes|were)", capsys.readouterr().out))
        assert kept == k * lanes
    stated = json.loads((out / "race.json").read_text())
    assert stated["schedules"] == ["warmup(0.1)+cosine", "mine.py:falls"]
    assert list(stated["functions"]) == ["mine.py:falls"]
    file.write_text(FILE.format(floor=0.2))
    assert main([*typed, *mine]) == 2
    assert "differs in functions.mine.py:falls, global FLOOR of falls" in capsys.readouterr().err
    assert main([*typed, "--schedule", f"{file}:made", "--schedule", "warmup(0.1)+cosine(final=0.1)"]) == 2
    assert "schedules: expected each once, got 'warmup(0.1)+cosine(final=0.1)' twice" in capsys.readouterr().err


def test_workers_get_functions_by_value(tmp_path: Path) -> None:
    """A worker cannot import the file."""
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(floor=0.1))
    spec = spec_of(["sgd"], "airfoil-linear", schedules=[f"warmup(0.2)+{file}:falls", "one_cycle"], compile=False)
    told = packed(spec, Store(None, spec))
    read = "import sys; from steprule.races.work import unpacked; p = unpacked(sys.stdin.buffer.read())"
    script = f"{read}; print([s.factors(9) for s in p.schedules.values()])"
    file.unlink()
    ran = subprocess.run([sys.executable, "-c", script], input=told, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == str([s.factors(9) for s in spec.schedules])


def test_a_race_in_python(tmp_path: Path) -> None:
    found = steprule.race(["sgd", "adam"], "airfoil-linear", schedules=[warmup(0.2) + linear(), halves], **SMALL)
    assert [c.schedule for c in found.cells] == ["warmup(0.2)+linear", "halves"]
    assert spec_of("sgd", "airfoil-linear", schedules=halves, compile=False).schedule_names == ("halves",)
    with pytest.raises(InputError, match=r"got '<lambda>' twice\. Give functions of one name others"):
        steprule.race("sgd", "airfoil-linear", schedules=[lambda t, n: 1.0, lambda t, n: 0.5], **SMALL)


def test_a_function_that_is_another_each_time_is_never_the_same_race() -> None:
    generator = np.random.default_rng(0)
    drawn = own(lambda t, total: float(generator.random()), "drawn")
    stated = spec_of(["sgd"], "airfoil-linear", schedules=[drawn], compile=False).stated
    assert "others each time it is asked" in stated["functions"]["drawn"]["factors"]["airfoil-linear"]
    assert "functions" not in spec_of(["sgd"], "airfoil-linear", schedules=["cosine"], compile=False).stated


def test_settings_as_given_take_them_too(tmp_path: Path) -> None:
    who: Any = ["sgd", "torch.optim.SGD"]
    how: dict[str, Any] = {"trials": 0, "seeds": 2, "epochs": 1}
    found = steprule.race(who, "airfoil-linear", out=tmp_path / "a", schedules="cosine", **how)
    runs = [s.finals[1] for s in found.settings]
    expected = steprule.train("sgd", "airfoil-linear", 1, 1, schedule="cosine").final_loss
    assert runs[0] == expected
    assert runs[1] == pytest.approx(expected, rel=TRAIN_RULE_AGAINST_CLASS)
    again = steprule.race(who, "airfoil-linear", out=tmp_path / "a", schedules=cosine(), **how)
    assert again.kept == 4
    with pytest.raises(InputError, match="differs in schedules: expected constant, got cosine"):
        steprule.race(who, "airfoil-linear", out=tmp_path / "a", **how)
    both = steprule.race(who, "airfoil-linear", schedules=["constant", "cosine"], **how)
    assert list(both.tables) == [("airfoil-linear", "constant"), ("airfoil-linear", "cosine")]
    assert [s.finals.tolist() for s in both.tables["airfoil-linear", "cosine"]] == [
        s.finals.tolist() for s in found.settings
    ]
