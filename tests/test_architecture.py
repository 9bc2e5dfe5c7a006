"""Imports run one way, file by file; files and functions stay short; and the tree that the docs print is the one there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_path import module_at
from import_graph import circles, graph, modules

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
tree = module_at("docs/tree.py")
GRAPH = graph(SOURCE)
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
"""Lines."""


def place(module: str) -> list[int]:
    """Where a module stands in the order of the contracts, from the rooms inwards; a package stands above all that it holds.

    Rules are found by being there: those that no contract names stand together, above the rest of their room.
    """
    order = tree.order()
    found, package = [], "steprule"
    for name in module.split(".")[1:]:
        found.append(order[package].index(name) if name in order[package] else len(order[package]))
        package = f"{package}.{name}"
    return [*found, 1000] if package in order else found


def test_no_file_imports_in_a_circle() -> None:
    assert circles(GRAPH) == []


def test_every_arrow_points_down() -> None:
    """Imports in functions and for types count as all others do."""
    arrows = [(a, b) for a, targets in GRAPH.items() for b in targets]
    assert len(arrows) > 500
    assert [f"{a} -> {b}" for a, b in arrows if place(a) < place(b)] == []


@pytest.mark.parametrize(
    ("arrows", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}, [["b", "c"]]),
        ({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c", "a"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_found(arrows: dict[str, set[str]], expected: list[list[str]]) -> None:
    assert circles(arrows) == expected


def test_imports_in_functions_and_for_types_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import a\n")
    (folder / "a.py").write_text("def f():\n    import p.b\n")
    (folder / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import f\n")
    assert graph(tmp_path) == {"p": {"p.a"}, "p.a": {"p.b"}, "p.b": {"p.a"}}


def files_of_rules() -> Iterator[Path]:
    """Those that no contract names."""
    for path in (SOURCE / "steprule" / "rules").glob("*.py"):
        if path.stem not in (*tree.order()["steprule.rules"], "__init__"):
            yield path


def test_every_file_has_a_caption_and_its_place() -> None:
    """Both ways: a file that the order lacks, and a place in the order that no file has."""
    placed = {f"{package}.{name}" for package, names in tree.order().items() for name in names}
    found = modules(SOURCE)
    rules = {f"steprule.rules.{path.stem}" for path in files_of_rules()}
    assert rules
    assert set(found) - rules == placed | {"steprule"}
    for path in found.values():
        assert tree.caption(path)


@pytest.mark.parametrize(
    "line",
    ['"""A caption without its end', "import os", '"""Two. Sentences."""', f'"""{"long " * 30}."""', '"""."""'],
)
def test_a_line_that_is_no_caption_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="expected line 1 to be one sentence"):
        tree.caption(path)


def test_the_tree_in_the_docs_is_the_one_there_is() -> None:
    """`make tree` prints it."""
    page = tree.PAGE.read_text(encoding="utf-8")
    assert tree.rewritten(page) == page
    assert tree.tree() in page


def lengths(source: str) -> Iterator[tuple[str, int]]:
    """Each function with its lines, without its signature, which may be a table of options, and its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0


def test_files_and_functions_are_short() -> None:
    sources = {path.relative_to(SOURCE): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert len(sources) > 300
    assert [f"{path}" for path, source in sources.items() if source.count("\n") > LONGEST_FILE] == []
    found = [(path, *own) for path, source in sources.items() for own in lengths(source)]
    assert [f"{path}: {name}" for path, name, lines in found if lines > LONGEST_FUNCTION] == []


def test_a_function_is_as_long_as_its_code() -> None:
    source = 'def f(\n    a,\n    b,\n):\n    """Text\n\n    of lines."""\n    def g(): pass\n\n    return g\n\ndef h():\n    """Text."""\n'
    assert sorted(lengths(source)) == [("f", 3), ("g", 1), ("h", 0)]


COMPREHENSION = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def loops(node: ast.AST) -> int:
    """How many loops stand within each other in an expression."""
    own = len(node.generators) if isinstance(node, COMPREHENSION) else 0
    return own + max(map(loops, ast.iter_child_nodes(node)), default=0)


def hard_to_read(source: str) -> Iterator[tuple[int, str]]:
    """Where a reader has to stop: a choice within a choice, a loop in a loop in a loop, names in brackets in brackets."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.IfExp):
            parts = ast.walk(node)
            next(parts)
            if any(isinstance(part, ast.IfExp) for part in parts):
                yield node.lineno, "a conditional expression in another"
        elif isinstance(node, COMPREHENSION) and loops(node) > 2:
            yield node.lineno, "three loops in one expression"
        elif isinstance(node, ast.Assign | ast.For):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for part in [p for target in targets for p in ast.walk(target) if isinstance(p, ast.Tuple)]:
                if any(isinstance(e, ast.Tuple) and any(isinstance(n, ast.Tuple) for n in e.elts) for e in part.elts):
                    yield node.lineno, "three levels of unpacking"


IN_TESTS = {"three loops in one expression", "three levels of unpacking"}
"""A table of cases may be the product of several lists."""


@pytest.mark.parametrize("folder", ["src", "docs", "benchmarks", "tests"])
def test_no_expression_makes_a_reader_stop(folder: str) -> None:
    found = []
    for path in (ROOT / folder).rglob("*.py"):
        for line, what in hard_to_read(path.read_text(encoding="utf-8")):
            if folder != "tests" or what not in IN_TESTS:
                found.append(f"{path}:{line}: {what}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x = a if b else c if d else e", ["a conditional expression in another"]),
        ("x = f(a if b else c) if d else e", ["a conditional expression in another"]),
        ("x = [a if b else c for d in e]", []),
        ("x = [a for b in c for d in b for a in d]", ["three loops in one expression"]),
        ("x = {k: [[n for n in m] for m in v] for k, v in y}", ["three loops in one expression"]),
        ("x = [n for m in v for n in m]", []),
        ("for k, (a, (b, c)) in x: pass", ["three levels of unpacking"]),
        ("for k, (a, b) in x: pass", []),
    ],
)
def test_what_makes_a_reader_stop_is_found(line: str, said: list[str]) -> None:
    assert [what for _, what in hard_to_read(line)] == said
