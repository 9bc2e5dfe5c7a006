"""The import graph of the package, read from its source: every import counts, in functions and for types too."""

from __future__ import annotations

import ast
from pathlib import Path


def modules(source: Path) -> dict[str, Path]:
    """Every module below `source` by its full name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def graph(source: Path) -> dict[str, set[str]]:
    """For each module those that it imports: files, not the packages above them."""
    known = modules(source)
    return {name: _imported(name, path, known) - {name} for name, path in known.items()}


def _imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: package.count(".") + 2 - node.level]
                base = ".".join([*above, *([node.module] if node.module else [])])
            # A name of a package may be a module in it.
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return found & set(known)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The largest sets of modules that all reach each other."""
    reached = {name: _reached(name, arrows) for name in arrows}
    found = {tuple(sorted(b for b in reached[a] if a in reached[b])) for a in arrows if a in reached[a]}
    return [list(circle) for circle in sorted(found)]


def _reached(name: str, arrows: dict[str, set[str]]) -> set[str]:
    """What can be come to from a module along arrows; itself, where it lies in a circle."""
    found: set[str] = set()
    left = set(arrows[name])
    while left:
        found |= left
        left = set().union(*(arrows[n] for n in left)) - found
    return found
