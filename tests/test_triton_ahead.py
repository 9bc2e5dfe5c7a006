"""Triton's kernels, compiled ahead of time for GPUs that are not there: 16 bytes at once, nothing spilled, nothing fused."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import elementwise
import pytest
import torch
from thinning import thinned
from tolerances import BYTES_BESIDE_THREE_DRAWS, BYTES_IN_FLIGHT
from whole_vocabulary import everything

from steprule import maths, optim

triton = pytest.importorskip("triton", reason="Triton is for Linux")
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3):
    pytest.skip("the calls that compile ahead of time differ in Triton 3.2", allow_module_level=True)

TORCHS = sorted(n.lower() for n in optim.NAMES if hasattr(torch.optim, n) and n.lower() in elementwise.NAMES)
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
VECTORS = ("v4.b32", "v2.b64", "v4.f32", "v2.f64")
THREADS, ELEMENTS = 128, 1024
REGISTERS, THREADS_OF_A_UNIT = 65_536, 2_048
"""What one multiprocessor has, in both capabilities."""
Ask = tuple[str, Any, int, str]


def compiled(asked: list[Ask], folder: Path) -> list[tuple[Ask, dict[str, Any]]]:
    """What the machine code of each pass has, with what was asked for. Its process has no interpreter."""
    path = folder / "asked.json"
    path.write_text(json.dumps(asked), encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).parent / "ahead.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    found = [(ask, one) for ask, kernels in zip(asked, answers, strict=True) for passes in kernels for one in passes]
    assert found
    return found


def instructions(one: dict[str, Any], what: str, *, vectors: bool) -> int:
    """How many loads or stores of a kernel there are that move 16 bytes at once, or fewer."""
    words = {word: count for word, count in one["ptx"].items() if word.startswith(what)}
    return sum(count for word, count in words.items() if word.endswith(VECTORS) == vectors)


def bytes_in_flight(one: dict[str, Any]) -> int:
    """What the programs that one multiprocessor has room for load at one time: each loads its columns before it computes."""
    programs = min(THREADS_OF_A_UNIT // THREADS, REGISTERS // (THREADS * one["registers"]))
    return programs * ELEMENTS * sum(BYTES[dtype] for dtype in one["reads"])


def hold(found: list[tuple[Ask, dict[str, Any]]], in_flight: int = BYTES_IN_FLIGHT) -> None:
    """A chunk that is whole goes by 16 bytes alone; no register is spilled; enough is in flight to fill the memory's time."""
    for ask, one in found:
        for what, dtypes in (("ld.global", one["reads"]), ("st.global", one["writes"])):
            wanted = sum(ELEMENTS * BYTES[dtype] // THREADS // 16 for dtype in dtypes)
            assert instructions(one, what, vectors=True) == wanted, (ask, what, one)
        assert one["spills"] == 0, (ask, one)
        assert not any(".local" in word for word in one["ptx"]), (ask, one)
        assert bytes_in_flight(one) >= in_flight, (ask, one)
        assert "fma.rn" not in one["ptx"], (ask, "a product and a sum were fused")
        for low, rounding in (("bfloat16", "cvt.rn.bf16"), ("float16", "cvt.rn.f16")):
            if low in one["writes"]:
                assert any(word.startswith(rounding) for word in one["ptx"]), (
                    ask,
                    "a store that does not round to the nearest",
                )


MIXED = [{"": "float32", "g": "bfloat16"}, {"": "bfloat16", "exp_avg_sq": "float32"}]


def test_sixteen_bytes_at_once(tmp_path: Path) -> None:
    """In float32, and in a mixture with 16 bits; with the sums of a diagnosis too, which read nothing again."""
    asked = [("adam", dtypes, 90, "plain") for dtypes in ("float32", MIXED[0])]
    hold(compiled([*asked, ("adam", "float32", 90, "diagnosed")], tmp_path))


@pytest.mark.parametrize("capability", [80, 90])
def test_torchs_classes_and_a_sample_of_rules(capability: int, tmp_path: Path) -> None:
    drawn = random.Random(capability).sample(sorted(set(elementwise.NAMES) - set(TORCHS)), 2)
    assert len(TORCHS) >= 9
    asked: list[Ask] = [(name, "float32", capability, "plain") for name in TORCHS]
    hold(compiled([*asked, *((name, "float32", capability, "all") for name in drawn)], tmp_path))


def test_sixteen_bits(tmp_path: Path) -> None:
    """Rounded by chance, by Kahan summation and to the nearest, and beside a state in 32 bits."""
    said: list[tuple[str, Any, str]] = [
        ("adamw", "float16", "kahan"),
        ("adam", "float16", "plain"),
        ("adam", MIXED[1], "plain"),
    ]
    hold(compiled([(name, dtypes, 90, part) for name, dtypes, part in said], tmp_path))
    hold(compiled([("adamw", "bfloat16", 90, "stochastic")], tmp_path), BYTES_BESIDE_THREE_DRAWS)


def test_amds_cards_are_compiled_for(tmp_path: Path) -> None:
    """No such card was ever met: by the machine code of one kernel, 16 bytes at once and nothing spilled."""
    for _, one in compiled([("adam", "float32", 942, "plain")], tmp_path):
        columns = len(one["reads"]), len(one["writes"])
        assert tuple(one["words"][f"buffer_{what}_dwordx4"] for what in ("load", "store")) == columns
        assert one["spills"] == 0


@pytest.mark.parametrize("dtype", thinned(["float32", "bfloat16"], 2))
def test_the_whole_vocabulary_compiles_for_a_gpu(dtype: str, tmp_path: Path) -> None:
    source = inspect.getsource(everything.function)
    head = f"from steprule import rule\nfrom steprule.hyper import Rate\nfrom steprule.maths import {', '.join(maths.NAMES)}\n"
    path = tmp_path / "words.py"
    path.write_text(head + source, encoding="utf-8")
    for _, one in compiled([(f"{path}:everything", dtype, 90, "plain")], tmp_path):
        assert one["spills"] == 0


@pytest.mark.long
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "part"),
    [
        *itertools.product(BYTES, ("plain", "all", "measuring")),
        *itertools.product(("bfloat16", "float16"), ("stochastic", "kahan")),
    ],
)
def test_every_rule_with_every_part(dtype: str, part: str, capability: int, tmp_path: Path) -> None:
    hold(compiled([(name, dtype, capability, part) for name in elementwise.NAMES], tmp_path))
