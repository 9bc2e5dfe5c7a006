"""The page "In your framework": each sample as it stands, and with torch's class in place of ours, has the same losses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from same import Trained, assert_same, needed

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "in-your-framework.md").read_text(encoding="utf-8")
SAMPLES = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
PACKAGES = {
    "Hugging Face's Trainer": "transformers",
    "Accelerate": "accelerate",
    "Lightning": "lightning",
    "timm": "timm",
    "torchtitan": "torchtitan",
    "Ray Train": "ray",
}
pytestmark = pytest.mark.long


def test_every_sample_is_tested() -> None:
    assert list(SAMPLES) == list(PACKAGES)
    assert PAGE.count("```python\n") == len(SAMPLES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_sample(name: str, in_folder: Path) -> None:
    needed(PACKAGES[name])
    ours, theirs = (
        losses(SAMPLES[name].replace("steprule.optim", module)) for module in ("steprule.optim", "torch.optim")
    )
    assert_same(Trained(ours, []), Trained(theirs, []), low="bf16" in SAMPLES[name])


def losses(sample: str) -> list[float]:
    found: dict[str, Any] = {"__name__": "__main__"}
    torch.manual_seed(0)
    try:
        exec(compile(sample, "sample", "exec"), found)
    finally:
        if "ray" in found:
            found["ray"].shutdown()
    return list(found["losses"])
