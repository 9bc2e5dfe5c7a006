"""Whatever rule of matrices is drawn, every form gives what the author's function gives: stages, kernels, lanes, text, JavaScript."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from compare import apart
from drawn_matrices import Drawn
from staged_walk import NODE, by_author, by_class, by_javascript, by_lanes, by_stages, by_text, needs_node
from tolerances import MATRICES_DRAWN

from steprule.compiler.variant import variant_of

STEPS = 3


def failing(seeds: Iterable[int], forms: Sequence[Any]) -> list[str]:
    """What differs, by seed, form, quantity and step; a gap is relative to one more than the largest element."""
    found = []
    for seed in seeds:
        drawn = Drawn(seed)
        rule, shape = drawn.rule(), drawn.shape()
        hypers = rule.bind({"lr": 0.07, "beta": 0.6})
        if variant_of(rule, hypers, shape).shape is None:
            continue  # nothing in it asks for a shape
        wanted = by_author(rule, hypers, shape, STEPS)
        for form in forms:
            for step, (row, right) in enumerate(zip(form(rule, hypers, shape, STEPS), wanted, strict=True), 1):
                for name, value in right.items():
                    wide = torch.as_tensor(value, dtype=torch.float64)
                    got = torch.as_tensor(np.asarray(row[name], dtype=np.float64)).expand(wide.shape)
                    size = float(wide.abs().max()) if wide.numel() else 0.0
                    if not apart(got, wide) * size <= MATRICES_DRAWN * (1 + size):
                        found.append(f"seed {seed}, {form.__name__}, step {step}, {name}\n{drawn.source}")
    return found


def test_drawn_rules_are_the_same_in_stages_lanes_and_text() -> None:
    found = failing(range(60), [by_stages, by_lanes, by_text])
    assert not found, found[0]


@needs_node
def test_drawn_rules_are_the_same_in_javascript() -> None:
    found = failing(range(60), [by_javascript])
    assert not found, found[0]


def test_drawn_rules_are_the_same_in_kernels() -> None:
    found = failing(range(10**6, 10**6 + 3), [by_class])
    assert not found, found[0]


@pytest.mark.long
def test_many_drawn_rules() -> None:
    """`STEPRULE_RULES` and `STEPRULE_SEED` ask for more, and for others."""
    first = int(os.environ.get("STEPRULE_SEED", "2")) * 10**6
    count = int(os.environ.get("STEPRULE_RULES", "1000"))
    found = failing(range(first, first + count), [by_stages, by_lanes, by_text])
    found += failing(range(first, first + count // 50), [by_class])
    found += failing(range(first, first + count), [by_javascript]) if NODE else []
    assert not found, found[0]
