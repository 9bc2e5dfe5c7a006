"""The sheet of a class: who passes, where each parts, the likely slip; and nothing a pupil writes ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from thinning import thinned

from steprule import rules
from steprule.checking import mark, sheet
from steprule.checking.marking import Mark
from steprule.checking.pupil import judged
from steprule.cli import main
from steprule.errors import InputError, UnknownNameError
from steprule.rules.rule import Rule

HEAD = "from steprule import rule\nfrom steprule.hyper import *\nfrom steprule.maths import sqrt\n"
SIGNATURE = "p, g, m, v, *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, t"
AVERAGES = ("m = beta1 * m + (1 - beta1) * g", "v = beta2 * v + (1 - beta2) * g**2")
RIGHT = "return p - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps), m, v"


def written(*lines: str, name: str = "adam", signature: str = SIGNATURE) -> str:
    return f"{HEAD}\n@rule\ndef {name}({signature}):\n" + "".join(f"    {line}\n" for line in lines)


CLASS = {
    "ada.py": written(*AVERAGES, RIGHT),
    "ben.py": written(*AVERAGES, "return p - lr * m / (sqrt(v) + eps), m, v", name="my_adam"),
    "cai.py": written(AVERAGES[0], "v = beta2 * v + (1 - beta2) * g", RIGHT),
    "dora.py": written("m = (beta1 * m", RIGHT),
    "emil.py": written("print('hello')", "raise SystemExit"),
    "fay.py": "import nothing_like_this\n",
}


@pytest.fixture
def students(in_folder: Path) -> Path:
    folder = in_folder / "students"
    folder.mkdir()
    for name, text in CLASS.items():
        (folder / name).write_text(text)
    return folder


def test_a_class(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "students", "--against", "adam", "--seconds", "200", "--out", "out", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    marks = {m["file"]: m for m in told["marks"]}
    assert {n: m["verdict"] for n, m in marks.items()} == {
        "ada.py": "passes", "ben.py": "parts", "cai.py": "parts",
        "dora.py": "does not run", "emil.py": "does not run", "fay.py": "does not run",
    }  # fmt: skip
    ben, cai = marks["ben.py"], marks["cai.py"]
    assert (ben["rule"], ben["step"], ben["quantity"], ben["slip"]) == ("my_adam", 1, "p", "no bias correction")
    assert (cai["step"], cai["quantity"], cai["slip"]) == (1, "v (exp_avg_sq)", "g is not squared")
    assert cai["ours"] != cai["theirs"]
    assert "dora.py:7: syntax error" in marks["dora.py"]["error"]
    assert marks["emil.py"]["error"] == "it leaves by sys.exit"
    assert "fay.py:1: ModuleNotFoundError" in marks["fay.py"]["error"]
    assert told["verdict"] == "1 of 6 pass as adam, 2 part from it, 3 do not run"
    page = Path("out/sheet.html").read_text(encoding="utf-8")
    for words in (*CLASS, "no bias correction", "g is not squared", "syntax error", "<math"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org/1998/Math/MathML", "")


def test_an_endless_loop_ends(in_folder: Path) -> None:
    Path("loop.py").write_text("while True:\n    pass\n")
    (found,) = mark(".", "adam", seconds=1).marks
    assert found.error == "it takes longer than 1 s: an endless loop?"


def told(text: str, reference: Rule = rules.adam) -> dict[str, Any]:
    Path("pupil.py").write_text(text)
    return judged(Path("pupil.py"), reference)


V_ONLY = "p, g, v, *, lr: Rate = 1e-3, rho: Decay = 0.9, eps: Epsilon = 1e-6"
SLIPS = {
    "epsilon inside the root": written(*AVERAGES, RIGHT.replace(") + eps)", " + eps))").replace("beta2**t))", "beta2**t)")),
    "no bias correction; epsilon inside the root": written(*AVERAGES, "return p - lr * m / sqrt(v + eps), m, v"),
    "beta1 and beta2 exchanged": written(AVERAGES[0].replace("beta1", "beta2"), AVERAGES[1].replace("beta2", "beta1"),
        RIGHT.replace("beta1", "x").replace("beta2", "beta1").replace("x", "beta2")),
    "beta1 in place of 1 - beta1": written("m = beta1 * m + beta1 * g", AVERAGES[1], RIGHT),
    "no square root": written(*AVERAGES, RIGHT.replace("sqrt", "")),
    "the sign of the step is reversed: it goes up": written(*AVERAGES, RIGHT.replace("p - lr", "p + lr")),
    "p and exp_avg are returned in each other's place": written(*AVERAGES, "return m, " + RIGHT.removeprefix("return ").removesuffix(", m, v") + ", v"),
    "the steps are counted from 0, not from 1": written(*AVERAGES, RIGHT.replace("**t", "**(t - 1)")),
    "the corrected exp_avg is kept as the state; the corrected exp_avg_sq is kept as the state": written(
        *AVERAGES, "m = m / (1 - beta1**t)", "v = v / (1 - beta2**t)", "return p - lr * m / (sqrt(v) + eps), m, v"),
    "it is rmsprop, not adam": written("v = rho * v + (1 - rho) * g**2", "return p - lr * g / (sqrt(v) + eps), v", signature=V_ONLY),
    "no bias correction; other default: eps=0.0001, not 1e-08": written(*AVERAGES, "return p - lr * m / (sqrt(v) + eps), m, v").replace("1e-8", "1e-4"),
    "epsilon is added to the new p: brackets are missing": written(*AVERAGES, "return p - lr * (m / (1 - beta1**t)) / sqrt(v / (1 - beta2**t)) + eps, m, v"),
    "the step uses exp_avg and exp_avg_sq from before their updates": written("q = p - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)", *AVERAGES, "return q, m, v"),
    "beta1 and beta2 exchanged in the averages": written(AVERAGES[0].replace("beta1", "beta2"), AVERAGES[1].replace("beta2", "beta1"), RIGHT),
    "beta1 in place of beta2 in the average": written(AVERAGES[0], AVERAGES[1].replace("beta2", "beta1"), RIGHT),
    "beta1 and beta2 exchanged in the bias corrections": written(*AVERAGES, RIGHT.replace("beta1", "x").replace("beta2", "beta1").replace("x", "beta2")),
    "the results are returned in the order exp_avg, exp_avg_sq, p": written(*AVERAGES, "p = " + RIGHT.removeprefix("return ").removesuffix(", m, v"), "return m, v, p"),
    "p is returned unchanged": written(*AVERAGES, "return p, m, v"),
    "exp_avg_sq is made of exp_avg, not of g": written(AVERAGES[0], AVERAGES[1].replace("g**2", "m**2"), RIGHT),
    "beta1 and beta2 and eps are not used: a number is written in its place": written("m = 0.9 * m + 0.1 * g", "v = 0.999 * v + 0.001 * g**2", "return p - lr * (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.999**t)) + 1e-8), m, v"),
    "no known slip": written(*AVERAGES, RIGHT.replace("eps)", "eps + m * m)")),
}  # fmt: skip


@pytest.mark.parametrize("slip", thinned(SLIPS, 4))
def test_a_slip_is_named(slip: str, in_folder: Path) -> None:
    found = told(SLIPS[slip])
    assert found["verdict"] == "parts"
    assert found["slip"] == slip


UNREADABLE = {
    "expected a rule adam, or one rule, got none. adam is imported, not written here.": "from steprule.rules import adam\n",
    "got none. Put @steprule.rule above the function.": "def adam(p, g):\n    return p - g\n",
    "expected a rule adam, or one rule, got a, b": written("return p", name="a", signature="p, g")
    + "@rule\ndef b(p, g):\n    return p\n",
    "expected 3 results (p, m, v), got 1": written("return p"),
    "pupil.py:7: rule adam: ZeroDivisionError": written("return p - 1 / 0"),
    "it depends on something outside": "calls = []\n"
    + written("calls.append(1)", "return p - lr * len(calls) * g, m, v"),
}


@pytest.mark.parametrize("words", UNREADABLE)
def test_what_does_not_run_is_one_line(words: str, in_folder: Path) -> None:
    found = told(UNREADABLE[words])
    assert found["verdict"] == "does not run"
    assert words in found["error"]
    assert "\n" not in found["error"]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (written(*AVERAGES, RIGHT).replace("1e-3", "1e-2"), "other default: lr=0.01, not 0.001"),
        (written(*AVERAGES, RIGHT).replace("1e-8", "1e-7"), "other default: eps=1e-07, not 1e-08"),
        (written("m = beta1 * m + lr * (1 - beta1) * g", AVERAGES[1], RIGHT.replace("lr * ", "")), "the steps are the same, and m is kept otherwise"),
    ],
)  # fmt: skip
def test_what_is_other_and_no_slip(text: str, remark: str, in_folder: Path) -> None:
    found = told(text)
    assert (found["verdict"], found["slip"]) == ("passes", remark)


MOMENTUM = "p, g, v, *, lr: Rate = 0.1, momentum: Decay = 0.9"


def momentum_by(*lines: str) -> str:
    return written(*lines, name="sgd", signature=MOMENTUM)


@pytest.mark.parametrize(
    ("text", "slip"),
    [
        (momentum_by("v = momentum * v + g", "return p - lr * v, v"), ""),
        (momentum_by("v = momentum * v - lr * g", "return p + v, v"), ""),
        (momentum_by("v = momentum * v + g", "return p - lr * g, v"), "the step uses g, not momentum_buffer"),
        (momentum_by("return p - lr * g, v"), "the new momentum_buffer is not returned: it stays as it started"),
        (momentum_by("v = momentum * v + (1 - momentum) * g", "return p - lr * v, v"), "each step is multiplied by 1 - momentum"),
        (momentum_by("v = momentum * v + g", "return p, v"), "p is returned unchanged"),
        (momentum_by("v = momentum * v + g", "return p - lr * (g + momentum * v), v"), "it is sgd with nesterov, momentum=0.9, not sgd"),
    ],
)  # fmt: skip
def test_slips_of_momentum(text: str, slip: str, in_folder: Path) -> None:
    """No error of ours is called the pupil's, and nothing is said of a state that it does not bear out."""
    found = told(text, rules.sgd)
    assert ("kept otherwise" in found["slip"]) is ("- lr * g" in text and not slip)
    assert found["verdict"] == ("parts" if slip else "passes")
    if slip:
        assert found["slip"].split("; other default")[0] == slip


def test_what_is_not_added_up(in_folder: Path) -> None:
    signature = "p, g, s, *, lr: Rate = 0.1, eps: Epsilon = 1e-8"
    found = told(written("s = g**2", "return p - lr * g / (sqrt(s) + eps), s", signature=signature), rules.adagrad)
    assert found["slip"].startswith("nothing is added up in sum: it is this step's alone")


def test_ctrl_c_ends_a_sheet(in_folder: Path) -> None:
    for k in range(20):
        Path(f"loop{k}.py").write_text("open('begun', 'w').close()\nwhile True:\n    pass\n")
    command = [sys.executable, "-m", "steprule", "check", ".", "--against", "adam"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        while not any(in_folder.rglob("begun")) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "steprule: interrupted.")


def test_what_a_pupil_calls_it_is_escaped() -> None:
    marks = (
        Mark("<b>.py", "parts", "x", 1, "p", float("nan"), 1.0, slip="<script>"),
        Mark("c.py", "does not run", error="<i>"),
    )
    page = sheet.page(mark_of(marks))
    assert "<script>" not in page
    assert "&lt;b&gt;.py" in page
    assert "&lt;i&gt;" in page


def mark_of(marks: tuple[Mark, ...]) -> Any:
    from steprule.checking import Sheet

    return Sheet("adam", marks)


def test_bad_input_is_one_line(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for args in (["empty"], ["empty", "--against", "adam"], ["empty", "--against", "adm"], ["adam", "--out", "x"]):
        assert main(["check", *args]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
    with pytest.raises(InputError, match="expected Python files to mark"):
        mark("empty", "adam")
    with pytest.raises(UnknownNameError):
        mark("empty", "adm")
