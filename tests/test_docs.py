"""What README and CONTRIBUTING show runs, and the file tree they draw is the one there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from by_path import module_at

import steprule
from steprule.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_rule_shown_is_a_rule_that_works(page: str) -> None:
    found = 0
    for block in blocks(page, "python"):
        scope: dict[str, object] = {}
        exec(block, scope)
        for value in scope.values():
            if isinstance(value, steprule.Rule):
                path = steprule.trace(value, lr=0.1)
                assert np.isfinite(path.points).all()
                assert path.values[-1] < path.values[0]
                found += 1
    assert found == 1


def test_commands_shown_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in re.findall(r"`steprule (\w+)", (ROOT / "README.md").read_text()):
        assert main([command, "--help"]) == 0
    for line in re.findall(r"^`(steprule trace [^`]*)`$", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert main([*shlex.split(line)[1:-2], "--json"]) == 0
    capsys.readouterr()


def test_the_file_tree_is_the_one_there_is() -> None:
    (tree,) = (b for b in re.findall(r"```\n(src/.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    named = {word.removesuffix(".py") for word in re.findall(r"[\w/]+(?:\.py)?", tree)}
    source = ROOT / "src" / "steprule"
    for module in source.rglob("*.py"):
        name = module.parent.name if module.name == "__init__.py" else module.stem
        if name not in ("steprule", "__main__", "app", "bench_tables", "options", "output"):
            assert name in named or f"{name}/" in named, f"{name} is not in README's tree"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "docs/dev/long-tests.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_steps_that_the_docs_print_are_those_measured() -> None:
    """The table of docs/speed.md is what `benchmarks/steps.py --table` prints of the file."""
    bench = module_at("benchmarks/steps.py")
    found = json.loads((ROOT / "benchmarks" / "results" / "steps.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert bench.table(found) in text
    assert found["machine"]["date"] in text
    assert found["machine"]["hardware"].split(",")[0] in text
