"""How tests are written: tolerances stand in one table, and an assertion is one that can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(path for path in TESTS.rglob("*.py") if path.name != "tolerances.py")
LONGEST = 600
APART = {
    "approx": ("rel", "abs"),
    "allclose": ("rtol", "atol"),
    "isclose": ("rtol", "atol"),
    "assert_allclose": ("rtol", "atol"),
    "assert_close": ("rtol", "atol"),
}
"""What compares to a tolerance, and how it is given."""
SMALL = 1e-4
"""A number below it on the larger side of an assertion is a tolerance."""


def written(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of what should not be written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = {
                k.arg: k.value for k in node.keywords if k.arg in ("rel", "abs", "rtol", "atol", "rel_tol", "abs_tol")
            }
            if name in APART and not given:
                yield node.lineno, f"{name} to a tolerance that it does not say"
            if name in APART and any(numbers(value) for value in given.values()):
                yield node.lineno, f"{name} to a tolerance of its own"
        elif isinstance(node, ast.Assert):
            for side in bounds(node.test):
                if any(0 < abs(n) < SMALL for n in numbers(side)):
                    yield node.lineno, "a tolerance of its own"
            if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or):
                yield node.lineno, f"either this or that: {ast.unparse(node.test)}"
        elif isinstance(node, ast.With) and len(node.body) > 1 and "pytest.raises" in ast.unparse(node.items[0]):
            yield node.lineno, "more than the one call that raises"


def bounds(test: ast.expr) -> Iterator[ast.expr]:
    """What an assertion holds its values below."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for k, sign in enumerate(node.ops):
                if isinstance(sign, ast.Lt | ast.LtE):
                    yield sides[k + 1]
                elif isinstance(sign, ast.Gt | ast.GtE):
                    yield sides[k]


def numbers(node: ast.AST) -> list[float]:
    """The numbers that stand in an expression, without zero."""
    return [
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) in (int, float) and n.value
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_states_a_tolerance_or_hedges_an_assertion(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    allowed = {(file, what) for file, what in HEDGED if file == path.stem}
    found = [(line, what) for line, what in written(ast.parse(text)) if (path.stem, what) not in allowed]
    assert found == []
    assert text.count("\n") <= LONGEST


HEDGED = {
    # Words in a script that is written without spaces may be cut anywhere.
    ("test_cli_tables", "either this or that: word in words or not word.isascii()"),
    # torch's own classes have the attribute.
    (
        "test_contract_amp",
        "either this or that: REFERENCE or not getattr(type(two), '_step_supports_amp_scaling', False)",
    ),
    # What is finite nowhere is nothing to find.
    (
        "test_which",
        "either this or that: len(walked) < probe.STEPS or (found.rule is not None and found.step is None)",
    ),
}
"""Assertions of two ways that can fail in each, with the reason."""


def test_every_hedge_is_still_there() -> None:
    for file, what in HEDGED:
        text = (TESTS / f"{file}.py").read_text(encoding="utf-8")
        assert what in [said for _, said in written(ast.parse(text))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("assert x == pytest.approx(y)", "approx to a tolerance that it does not say"),
        ("assert np.allclose(x, y, rtol=2 * 1e-3, atol=0)", "allclose to a tolerance of its own"),
        ("torch.testing.assert_close(x, y, rtol=0, atol=1e-9)", "assert_close to a tolerance of its own"),
        ("assert abs(x - y).max() <= 1e-6 * scale", "a tolerance of its own"),
        ("assert 1e-6 > gap", "a tolerance of its own"),
        ("assert a or b", "either this or that: a or b"),
        ("with pytest.raises(ValueError):\n    f()\n    g()", "more than the one call that raises"),
    ],
)
def test_what_should_not_be_written_is_found(line: str, said: str) -> None:
    assert [what for _, what in written(ast.parse(line))] == [said]


@pytest.mark.parametrize(
    "line",
    [
        "assert x == pytest.approx(y, rel=ROUNDED64)",
        "assert x > 1e-6",
        "assert x < 0.05",
        "assert np.allclose(x, y, rtol=A, atol=0)",
    ],
)
def test_what_may_be_written_is_not(line: str) -> None:
    assert not list(written(ast.parse(line)))


def test_every_tolerance_is_used_and_has_its_reason() -> None:
    """A comment before it, or a docstring behind it; those under one comment share it."""
    text = (TESTS / "tolerances.py").read_text(encoding="utf-8")
    names = [node.targets[0].id for node in ast.parse(text).body if isinstance(node, ast.Assign)]  # type: ignore[attr-defined]
    assert len(names) > 50
    used = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    inside = [n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    assert [name for name in names if name not in used and name not in inside] == []
    blocks = text.split("\n\n")[3:]
    assert [b for b in blocks if not any(line.startswith(("#", '"""')) for line in b.strip().split("\n"))] == []
