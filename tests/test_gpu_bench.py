"""The benchmark that a card is lent for: refused without one, and gone through whole without one, so that no card finds a slip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from by_path import ROOT, module_at

bench = module_at("benchmarks/gpu.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "expected an NVIDIA GPU that torch sees, got none" in said


def test_what_it_found_becomes_the_section_of_the_page() -> None:
    """Of a run that lost a part, too; what stands before and behind the section stays."""
    steps = {
        "optimizer": "Adam", "workload": "1 x 32M", "microseconds": {"steprule": 400.0}, "share_of_bandwidth": 0.98,
        "host_microseconds": {"steprule": 40.0}, "ratios": {"fused": 1.01, "foreach": 1.5, "for-loop": 1.6},
    }  # fmt: skip
    found = {
        "machine": {"device": "a card", "hardware": "a machine", "torch": "2.13", "date": "2026-11-28"},
        "copy": 2900.0,
        "graph": [{"class": "Adam", "equal": True}, {"class": "SGD", "equal": False}],
        "steps": [steps],
        "compile": [{**steps, "ratios": {"torch.compile": 1.02}}],
        "failed": {"lanes": "RuntimeError: gone\nmore"},
    }
    page = bench.written("# Top\n\n## On a GPU\n\nnothing yet\n\n## Behind\n\nlast\n", found)
    assert "nothing yet" not in page
    assert page.startswith("# Top\n\n## On a GPU\n\nOn a card, torch 2.13, 2026-11-28")
    assert page.endswith("\n## Behind\n\nlast\n")
    assert "| Adam | 1 x 32M | 400 | 98 % | 40 | 1.01x | 1.50x | 1.60x | 1.02x |" in page
    assert "every hyperparameter live: Adam; failed: SGD." in page
    assert "Not measured: lanes (RuntimeError: gone)." in page
    assert bench.written(page, found) == page


@pytest.mark.long
def test_all_its_parts_run_without_a_card(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is for Linux")
    (tmp_path / "images").mkdir()
    shutil.copy(ROOT / "docs" / "speed.md", tmp_path)
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--dry", "--docs", str(tmp_path), "--out", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert not found["failed"]
    assert set(bench.PARTS) <= set(found)
    assert found["launch"]["launches"] == 1
    assert not found["proof"]["beyond"]
    assert all(row["equal"] for row in found["graph"])
    assert (tmp_path / "images" / "gpu.png").stat().st_size
    assert "launch" in (tmp_path / "speed.md").read_text(encoding="utf-8")
