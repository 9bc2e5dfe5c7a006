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
    way = walks.recorded(walk.prepare(), walk.rooms, walk.until)
    assert len(way.entered) > 1
    assert len(way.stays) <= walk.stays, way.stays
    assert max(way.entered.values()) <= walk.entries, way.entered


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
    """Each function counts once, however often it is called; a comprehension is part of the function around it, and so is a look-up."""
    folder = tmp_path / "p"
    folder.mkdir()
    read = "\n    x = 1\n" + 4 * "    x += 1\n"
    (folder / "a.py").write_text(
        f"def f():{read}    g()\n    b.h()\n    [b.h() for _ in 'ab']\n    b.short()\n    g()\n    k()\n"
        f"def g():{read}    b.i()\ndef k():{read}"
    )
    (folder / "b.py").write_text(f"def h():{read}def i():{read}def short(): pass\n")
    a, b = module_at(str(folder / "a.py")), module_at(str(folder / "b.py"))
    a.b = b
    way = walks.recorded(a.f, ("a.py", "b.py"), source=folder)
    assert way.stays == ["a.py", "b.py", "a.py", "b.py", "a.py"]
    assert way.entered == {"a.py": 1, "b.py": 2}
    assert walks.recorded(a.f, ("a.py", "b.py"), "b.py", source=folder).stays == ["a.py", "b.py"]
    assert walks.recorded(a.f, ("b.py",), source=folder).stays == ["b.py"]
    assert walks.recorded(a.f, ("c.py",), source=folder).stays == []
