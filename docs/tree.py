"""Print the tree of docs/architecture.md: the files in import order, lowest first, each with line 1 of its docstring.

`make tree` rewrites the block in the page. The order is that of the import contracts in pyproject.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
LONGEST = 110
NAMES = 24
"""The column in which captions begin."""


@cache
def order() -> dict[str, list[str]]:
    """For each package its files and packages, lowest first, as its import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return {c["containers"][0]: c["layers"][::-1] for c in contracts if c["type"] == "layers"}


def caption(path: Path) -> str:
    """Line 1 of a file. Raises `ValueError` where that is not one whole sentence, or longer than `LONGEST`."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    found = re.fullmatch(r'r?"""(\S.*\.)(?:""")?', first)
    if not found or len(found[1]) > LONGEST or re.search(r"[.?!] [A-Z`]", found[1]):
        raise ValueError(f"{path}: expected line 1 to be one sentence of at most {LONGEST} characters, got {first!r}")
    return found[1]


def rows(package: str, folder: Path, depth: int = 0) -> Iterator[str]:
    """A line per file below a package."""
    for name in order()[package]:
        inside = folder / name
        path = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
        shown = "  " * depth + (f"{name}/" if inside.is_dir() else path.name)
        yield f"{shown:{NAMES}}{caption(path)}"
        if f"{package}.{name}" in order():
            yield from rows(f"{package}.{name}", inside, depth + 1)


def tree() -> str:
    """The block."""
    source = ROOT / "src" / "steprule"
    return "\n".join([f"{'src/steprule/':{NAMES}}{caption(source / '__init__.py')}", *rows("steprule", source, 1)])


def rewritten(page: str) -> str:
    """The page with the tree that is printed now."""
    return re.sub(r"```\nsrc/steprule/.*?\n```", lambda _: f"```\n{tree()}\n```", page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
