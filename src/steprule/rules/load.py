"""Find a rule: by its catalogue name, or in a user's own file or module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from steprule import extras
from steprule.errors import (
    InputError,
    InputTypeError,
    MissingPackageError,
    RuleError,
    StepruleError,
    nearest,
    unknown_name,
)
from steprule.rules import neighbours
from steprule.rules.hints import missing_import
from steprule.rules.lookahead import PREFIX as LOOKAHEAD, lookahead
from steprule.rules.rule import Rule
from steprule.rules.sam import PREFIX as SAM, sam

PER_KIND = "by_kind:"
"""How a rule per kind of parameter begins, as it is typed: `by_kind:lion+adamw`, `by_kind:matrix=lion+head=sgd+other=adamw`."""
AROUND: Mapping[str, Callable[[Rule], Rule]] = {LOOKAHEAD: lookahead, SAM: sam}
"""What stands around a rule whose name begins so."""
NO_FAULTS: Mapping[str, RuleError] = {}


def catalogued(name: str, catalogue: Mapping[str, Rule], faults: Mapping[str, RuleError] = NO_FAULTS) -> Rule:
    """`catalogue[name]`; `-` and `_` are the same, and so are large and small letters. `lookahead_adam` is Adam in Lookahead,
    `sam_adam` in SAM.

    Raises the fault of a file that has that name.
    """
    key = name.lower().replace("-", "_")
    for prefix, around in AROUND.items():
        if key not in catalogue and key.startswith(prefix):
            return around(catalogued(key.removeprefix(prefix), catalogue, faults))
    if key not in catalogue:
        if key in faults:
            raise faults[key]
        raise unknown_name("rule", name, catalogue, hint=f"Write --set {name}." if "=" in name else "")
    return catalogue[key]


def resolve_in(spec: object, catalogue: Mapping[str, Rule], faults: Mapping[str, RuleError] = NO_FAULTS) -> Rule:
    """A rule from a rule, a catalogue name, `file.py:name` or `package.module:name`."""
    if isinstance(spec, Rule):
        return spec
    if isinstance(spec, str):
        if spec.startswith(PER_KIND):
            hint = "Name one of them; it trains, sweeps and races as it is."
            raise InputTypeError(spec, expected="one rule", got="a rule per kind of parameter", hint=hint)
        if spec.endswith(".py"):
            return only_rule_in(Path(spec), Path(spec).stem)
        if spec.startswith("torch.optim."):
            raise _a_class(spec, catalogue)
        if ":" not in spec:
            return catalogued(spec, catalogue, faults)
        found = load_object(spec, kind="rule")
        if isinstance(found, type):
            raise _a_class(spec, catalogue)
        if not isinstance(found, Rule):
            raise _not_a_rule(found, spec)
        return found
    if isinstance(spec, type):
        raise _a_class(spec.__name__, catalogue)
    raise _not_a_rule(spec, "rule")


def _a_class(spec: str, catalogue: Mapping[str, Rule]) -> InputTypeError:
    """An optimizer class trains, and has no formula that could be shown, walked or judged."""
    name = spec.replace(":", ".").rpartition(".")[2].lower()
    hint = f"The rule is called {name}." if name in catalogue else "steprule which names the rule that it is."
    return InputTypeError(spec, expected="a rule, a catalogue name or 'file.py:name'", got="a class", hint=hint)


def _not_a_rule(found: object, where: str) -> InputTypeError:
    got = f"a {type(found).__name__}" + (" without @rule" if callable(found) else "")
    hint = "Put @steprule.rule above the function." if callable(found) else ""
    return InputTypeError(where, expected="a rule, a catalogue name or 'file.py:name'", got=got, hint=hint)


def load_object(spec: str, *, kind: str) -> Any:
    """What `file.py:name` or `package.module:name` names. Raises `RuleError` with the line of a fault in the file."""
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise InputError(f"{kind} {spec!r}", expected="file.py:name or package.module:name", got=repr(spec))
    module = module_from(Path(where), kind) if where.endswith(".py") else _module_by_name(where)
    if not hasattr(module, name):
        public = [n for n, v in vars(module).items() if not n.startswith("_") and isinstance(v, Rule)]
        if not public:
            hint = "Put @steprule.rule above a function." if kind == "rule" else ""
            if near := nearest(name, [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]):
                hint = f"Did you mean {near!r}?"
            raise InputError(f"{kind} {spec!r}", expected=f"{name} in {where}", got="no such name there", hint=hint)
        raise unknown_name(kind, name, public, where=f" in {where}")
    return getattr(module, name)


def rules_in(path: Path) -> dict[str, Rule]:
    """The rules that are written in a file, by name; what the file imports is not its own. Raises `RuleError` with the line of a fault."""
    return _written_in(path, module_from(path, "rule"))


def only_rule_in(path: Path, name: str) -> Rule:
    """The rule that is written in a file: the one of this name, or the only one; what the file imports is not its own.

    Raises `RuleError` with the line of a fault in the file, `InputError` where there is no such rule.
    """
    module = module_from(path, "rule")
    own = _written_in(path, module)
    if name in own:
        return own[name]
    if len(own) == 1:
        return next(iter(own.values()))
    bare = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
    borrowed = [n for n, v in vars(module).items() if isinstance(v, Rule) and n not in own]
    hint = f"Write {path}:{next(iter(own))}." if own else ""
    hint = hint or ("Put @steprule.rule above the function." if bare else "")
    hint = hint or (f"{', '.join(borrowed)} is imported, not written here." if borrowed else "")
    raise InputError(str(path), expected=f"a rule {name}, or one rule", got=", ".join(own) or "none", hint=hint)


def _written_in(path: Path, module: ModuleType) -> dict[str, Rule]:
    """A rule of two names stands once, under its own where that is one of them."""
    found = {n: v for n, v in vars(module).items() if isinstance(v, Rule) and v.lines[0] == str(path)}
    own = {n: v for n, v in found.items() if n == v.name}
    return own | {n: v for n, v in found.items() if not any(v is other for other in own.values())}


def module_from(path: Path, kind: str) -> ModuleType:
    """A user's file, loaded. Raises `RuleError` with the line of a fault in it."""
    if not path.is_file():
        got = "nothing there" if not path.exists() else "a folder"
        raise InputError(f"{kind} file {path}", expected="a Python file", got=got)
    # By its place too: two files of one name are two modules.
    name = f"steprule_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # never None: the loader is given
    sys.modules[name] = module  # annotations and pickles look the module up by its name
    try:
        with neighbours.importable(path.resolve().parent):
            loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise fault_in(path, error) from error
    return module


def fault_in(path: Path, error: BaseException) -> RuleError:
    """The fault of a file that could not be read, with the file's line."""
    if isinstance(error, RuleError):
        return error
    if isinstance(error, SyntaxError):
        file = path if (error.filename or "<").startswith("<") else error.filename  # or one that it imports
        line = (error.text or "").strip()
        hint = line and f"The line is: {line}"
        return RuleError(f"{file}:{error.lineno}: syntax error", expected="Python", got=error.msg, hint=hint)
    where = f"{path}:{_line_in(path, error)}"
    if isinstance(error, SystemExit):
        return RuleError(f"{where}: it leaves by sys.exit")
    kind = "" if isinstance(error, StepruleError) else f"{type(error).__name__}: "  # ours say enough
    return RuleError(f"{where}: {kind}{error}", hint=missing_import(error))


def _line_in(path: Path, error: BaseException) -> int | str:
    """The deepest line of this file on the way to an error."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((f.lineno for f in frames if f.filename == str(path) and f.lineno), "?")


def _module_by_name(name: str) -> ModuleType:
    try:
        with extras.needed():
            return importlib.import_module(name)
    except MissingPackageError:
        raise
    except ImportError as error:
        raise InputError(
            f"module {name}",
            expected="a module that can be imported",
            got=str(error),
            hint="For a file, write path/to/file.py:name.",
        ) from error
