"""What README and CONTRIBUTING show runs; README is short, and the READMEs say the same."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from by_path import module_at

import steprule
from steprule.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"]
READMES = PAGES[:2]
WORDS = 700
SIGNS = 1_400
"""Of Chinese: two for an English word."""


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


@pytest.mark.parametrize("page", [*READMES, "docs/commands.md"])
def test_commands_shown_are_commands(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"(?:`|^\$ )(steprule [^`\n]*)", text, re.MULTILINE)
    assert shown
    for line in shown:
        words = shlex.split(line)
        if words[1] == "trace":
            assert main([*words[1:-2], "--json"]) == 0
        elif not words[1].startswith("-"):
            assert main([words[1], "--help"]) == 0
    capsys.readouterr()


def prose(page: str) -> str:
    """A page without code, pictures and addresses."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.sub(r"```.*?```|`[^`]*`|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)", " ", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", READMES)
def test_readme_is_short_and_has_few_numbers(page: str) -> None:
    text = prose(page)
    signs = len(re.findall(r"[\u4e00-\u9fff]", text))
    words = re.findall(r"[^\W\d_][\w'-]*", re.sub(r"[\u4e00-\u9fff]", " ", text))
    numbers = re.findall(r"(?<![\w.])\d[\d.,]*", text)
    assert len(words) + signs / 2 > 300
    assert len(words) <= WORDS
    assert signs <= SIGNS
    assert len(numbers) <= 3 * (len(words) + signs / 2) / 100


def test_the_readmes_say_the_same() -> None:
    """The same code, pictures, links and headings, in the same order."""
    ours, theirs = ((ROOT / page).read_text(encoding="utf-8") for page in READMES)
    for kind in (r"```\w+\n([^#`]*?)(?:#|```)", r"!\[[^\]]*\](\([^)]*\))", r"^(#+) "):
        assert re.findall(kind, ours, re.MULTILINE) == re.findall(kind, theirs, re.MULTILINE)
    links = [re.findall(r"(?<!!)\[[^\]]*\]\(([^)]*)\)", text) for text in (ours, theirs)]
    same = [{re.sub(r"README[.\w-]*|/(en|zh)/", "", link) for link in found} for found in links]
    assert same[0] == same[1]


@pytest.mark.parametrize("page", READMES)
def test_readmes_door_is_one_that_opens(page: str) -> None:
    """The published address where there is one; no install from an index that does not have the package."""
    text = (ROOT / page).read_text(encoding="utf-8")
    hosted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["steprule"]["hosted"]
    if hosted:
        assert hosted in text
    else:
        assert "github.io" not in text
        assert "$ steprule play" in text
    assert "pip install steprule" not in text


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        "CHANGELOG.md",
        "docs/dev/long-tests.md",
        *(f"docs/{n}.md" for n in ("commands", "sweeps", "exactness", "architecture")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    if page in READMES:
        assert targets
    for target in targets:
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
