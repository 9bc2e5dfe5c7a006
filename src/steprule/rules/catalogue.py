"""The rules of a package: each of its files is read, and the rules of public names are taken."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from steprule.errors import RuleError
from steprule.rules.load import fault_in
from steprule.rules.rule import FAMILIES, Rule


def found_in(package: str, folders: Iterable[str]) -> tuple[dict[str, Rule], dict[str, RuleError]]:
    """The rules of a package's files by name, simplest first; and the faults of files that could not be read, by file.

    A file with a fault is left out, and the others stand.
    """
    files: list[dict[str, Rule]] = []
    faults: dict[str, RuleError] = {}
    for folder, file in sorted((f, m.name) for f in folders for m in pkgutil.iter_modules([f])):
        path = Path(folder, f"{file}.py")
        try:
            files.append(rules_of(importlib.import_module(f"{package}.{file}")))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # told, and the other files stand
            faults[file] = fault_in(path, error)
    found: dict[str, Rule] = {}
    for own in sorted(filter(None, files), key=_place):
        for name, rule in own.items():
            if found.setdefault(name, rule) is not rule:
                where = "{}:{}: rule {}".format(*rule.lines, name)
                other = "{}:{}".format(*found[name].lines)
                faults[name] = RuleError(where, expected="a name of its own", got=f"that of {other}")
    return found, faults


def rules_of(module: ModuleType) -> dict[str, Rule]:
    """The rules that a module has under their own names, but for those whose name begins with an underscore."""
    return {n: r for n, r in vars(module).items() if isinstance(r, Rule) and n == r.name and not n.startswith("_")}


def _place(rules: Mapping[str, Rule]) -> tuple[int, int, str]:
    """Where a file stands in the catalogue: by its first rule's family, then by its paper, as a bibliography is ordered."""
    first = next(iter(rules.values()))
    family = FAMILIES.index(first.family) if first.family else len(FAMILIES)
    if first.paper is None:
        return family, 9999, first.name
    return family, first.paper.year, first.paper.authors
