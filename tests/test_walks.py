"""The walks through the package: how often control changes files on the way, and that the docs print what is so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from by_path import ROOT, module_at

from steprule.optim import scan

walks = module_at("docs/walks.py")


@pytest.mark.parametrize("walk", walks.WALKS, ids=lambda w: w.title)
def test_a_walk_stays_within_its_bounds(walk: Any, in_folder: Path) -> None:
    """Bounds hold with kernels kept and without; they may only fall."""
    stays = walks.recorded(walk.prepare(), walk.rooms, walk.until)
    assert len(set(stays)) > 1
    assert len(stays) <= walk.stays
    assert max(map(stays.count, stays)) <= walk.entries


@pytest.mark.long
@pytest.mark.skipif(
    scan.refusal() is not None, reason="steps look by Python here, the walks in the docs by torch's records"
)
def test_the_docs_print_the_walks_there_are() -> None:
    """`make walks` prints them; in a fresh process with no kernels kept."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "walks.py", "--print"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = walks.PAGE.read_text(encoding="utf-8")
    assert walks.rewritten(page, done.stdout.strip()) == page
    assert done.stdout.strip() in page


def test_a_return_counts_where_another_function_is_opened(tmp_path: Path) -> None:
    """Each function counts once, however often it is called; a comprehension is part of the function around it."""
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "a.py").write_text(
        "def f():\n    g()\n    b.h()\n    [b.h() for _ in 'ab']\n    g()\n    k()\ndef g(): b.i()\ndef k(): pass\n"
    )
    (folder / "b.py").write_text("def h(): pass\ndef i(): pass\n")
    a, b = module_at(str(folder / "a.py")), module_at(str(folder / "b.py"))
    a.b = b
    assert walks.recorded(a.f, ("a.py", "b.py"), source=folder) == ["a.py", "b.py", "a.py", "b.py", "a.py"]
    assert walks.recorded(a.f, ("a.py", "b.py"), "b.py", source=folder) == ["a.py", "b.py"]
    assert walks.recorded(a.f, ("b.py",), source=folder) == ["b.py"]
    assert walks.recorded(a.f, ("c.py",), source=folder) == []
