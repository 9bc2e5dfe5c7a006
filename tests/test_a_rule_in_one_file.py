"""A new rule needs its file and nothing else: CONTRIBUTING's example is added to a copy of the repository, and all is there."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from steprule.errors import nearest

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests", "docs", "benchmarks", "pyproject.toml", "CONTRIBUTING.md", "README.md", "README.zh-CN.md")


def example() -> str:
    """The rule that CONTRIBUTING shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"`src/steprule/rules/cautious\.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    return str(found)


def copied(target: Path) -> Path:
    """The repository's files in a folder of their own."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
        else:
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the example in its place."""
    root = copied(tmp_path_factory.mktemp("house"))
    (root / "src/steprule/rules/cautious.py").write_text(example(), encoding="utf-8")
    return root


def ran(root: Path, *args: str, **changed: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"} | changed
    done = subprocess.run(
        [sys.executable, *args], cwd=root, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


EVERYWHERE = """
import sys
from pathlib import Path

import torch
import steprule
from steprule import play, rules
from steprule.races import spaces
from steprule.reports.style import STYLES, style_of
from steprule.rules.cautious import cautious

assert steprule.__file__.startswith(str(Path.cwd()))
assert steprule.rules.cautious is cautious is rules.get("cautious"), "the rule, also after its file was imported by name"
assert rules.names()[-1] == "cautious", "of no family, behind the others"

p = torch.ones(3, requires_grad=True)
p.grad = torch.tensor([1.0, -2.0, 0.0])
steprule.optim.Cautious([p], lr=0.5, beta=0.5).step()
wanted, _ = cautious(torch.ones(3), p.grad, torch.zeros(3), lr=0.5, beta=0.5)
assert torch.equal(p.detach(), wanted)

assert set(spaces.space_of(cautious)) == {"lr", "beta"}
assert (style_of("cautious").colour, style_of("cautious").dash) not in {(s.colour, s.dash) for s in STYLES.values()}
page = play.page()
assert '"cautious": {"' in page and cautious.summary in page

sys.path.insert(0, "docs")
import hooks
shown = hooks.rule_page(cautious)
assert shown.startswith("# cautious") and "Not measured yet" in shown and "<math" in shown
assert list(hooks.undocumented()) == []
"""


def test_it_is_everywhere(house: Path) -> None:
    ran(house, "-c", EVERYWHERE)
    assert "cautious  exp_avg" in re.sub(" +", "  ", ran(house, "-m", "steprule", "rules").stdout)
    assert "where(exp_avg * g > 0, exp_avg, 0.0)" in ran(house, "-m", "steprule", "show", "cautious").stdout


@pytest.mark.long
def test_it_passes_the_battery_the_tests_and_the_types(house: Path) -> None:
    assert "cautious: passed" in ran(house, "-m", "steprule", "check", "cautious").stdout
    taken = (
        "test_cli",
        "test_docs",
        "test_forms",
        "test_surfaces_and_paths",
        "test_site",
        "test_play",
        "test_race_statistics",
    )
    files = [f"tests/{name}.py" for name in taken]
    named = "cautious or test_rules or chinese or colour or readmes or every_rules_page"
    ran(house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", "-k", named, *files)
    ran(house, "-m", "mypy", "src/steprule/rules/cautious.py")


FROM_A_ZIP = """
import sys
import steprule
assert steprule.__file__.startswith(sys.path[1]), steprule.__file__
assert len(steprule.rules.names()) == {count}
assert steprule.rules.adam(1.0, 2.0, 0.0, 0.0, lr=0.5, t=1)[0] < 1
assert not {{"torch", "sympy", "scipy"}} & set(sys.modules)
"""


def test_rules_are_found_in_a_zip(tmp_path: Path) -> None:
    from steprule import rules

    archive = tmp_path / "steprule.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in (ROOT / "src").rglob("*.py"):
            packed.write(file, file.relative_to(ROOT / "src"))
    env = os.environ | {"PYTHONPATH": str(archive)}
    code = FROM_A_ZIP.format(count=len(rules.names()))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ndef f(:\n", ":2: syntax error: expected Python, got invalid syntax. The line is: def f(:"),
        ("x = 1\nx / 0\n", ":2: ZeroDivisionError: division by zero"),
        ("raise SystemExit\n", ":1: it leaves by sys.exit"),
        (
            "from steprule import rule\n",
            ":1: ImportError: cannot import name 'rule' from partially initialized module 'steprule' ",
        ),
        (
            "from steprule.rules.rule import rule\n@rule\ndef broken(p, g, *, lr): return p - lr * g\n",
            ":2: rule broken: expected a default for every hyperparameter, got none for lr.",
        ),
        (
            "from steprule.rules.rule import rule\n@rule(family='adam')\ndef broken(p, g): return p\n",
            ":2: rule broken: expected one of the families gradient descent, adaptive, Adam, sign, layer-wise, got adam.",
        ),
        (
            "from steprule.rules.rule import rule\n\n@rule\ndef adam(p, g): return p\n",
            ":3: rule adam: expected a name of its own, got that of ",
        ),
    ],
)  # fmt: skip
def test_a_file_with_a_fault_is_named_and_the_others_stand(house: Path, text: str, words: str) -> None:
    """In one line that is no error, until that rule is asked for."""
    from steprule import rules

    broken = house / "src/steprule/rules/broken.py"
    broken.write_text(text, encoding="utf-8")
    try:
        done = ran(house, "-m", "steprule", "rules")
        assert set(rules.names()) | {"cautious"} <= set(re.findall(r"^\w+", done.stdout, re.MULTILINE))
        assert f"RuntimeWarning: left out of the catalogue: {broken}{words}" in done.stderr
        asked = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "steprule", "show", "broken"],
            cwd=house, env=os.environ | {"PYTHONPATH": str(house / "src")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "that of" not in words:
            assert asked.returncode == 2
            assert asked.stderr.startswith(f"steprule: {broken}{words}")
            assert asked.stderr.count("\n") == 1
    finally:
        broken.unlink()


def test_the_order_is_stated_in_the_files() -> None:
    """By family, paper and place in the file; what begins with an underscore, or is borrowed, is no entry."""
    from steprule import rules
    from steprule.rules.rule import FAMILIES

    known = [
        "sgd", "schedule_free_sgd", "adagrad", "adagrad_eps_inside", "rmsprop", "rmsprop_eps_inside", "adadelta", "adam", "adamw",
        "adamax", "nadam", "radam", "schedule_free_adamw", "schedule_free_radam", "lion", "lars", "lamb",
    ]  # fmt: skip
    assert [n for n in rules.names() if n in known] == known, "a rule more needs no line here"
    ranks = [FAMILIES.index(rules.get(n).family) for n in rules.names() if rules.get(n).family]
    assert ranks == sorted(ranks)
    assert not any(rules.get(n).family for n in rules.names()[len(ranks) :]), "of no family, behind the others"


def test_every_rule_has_a_class() -> None:
    """By torch's name, or by the rule's title; made once, and found again by pickle."""
    from steprule import optim, rules

    assert [getattr(optim, name).rule.name for name in optim.NAMES] == list(rules.names())
    assert {"AdamW", "RMSprop", "Lion", "LARS", "LAMB", "AdagradEpsInside"} < set(optim.NAMES)
    assert all(getattr(optim, name).__name__ == name for name in optim.NAMES)
    assert pickle.loads(pickle.dumps(optim.LAMB)) is optim.LAMB
    with pytest.raises(AttributeError, match="Did you mean 'LAMB'"):
        optim.Lamb  # noqa: B018


@pytest.mark.parametrize("name", ["steprule", "steprule.optim", "steprule.rules", "steprule.maths", "steprule.races"])
def test_a_listing_shows_only_what_is_ours(name: str) -> None:
    module = importlib.import_module(name)
    assert [n for n in dir(module) if not n.startswith("__")] == sorted(module.__all__)
    assert all(hasattr(module, n) for n in module.__all__)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("adma", "adam"), ("Adm", "adam"), ("adamx", "adamax"), ("rmsporp", "rmsprop"), ("sdg", "sgd"), ("xyz", None)],
)
def test_the_fewest_slips_are_meant(typed: str, meant: str | None) -> None:
    """Two letters in the wrong order are one slip."""
    from steprule import rules

    assert nearest(typed, rules.names()) == meant
