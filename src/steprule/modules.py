"""What a module of ours shows: its public names alone, and one hint for a name that it does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from steprule.errors import StepruleError


def public(scope: Mapping[str, Any]) -> Callable[[], list[str]]:
    """The `__dir__` of the module with these globals: what stands in `__all__`, and what Python gives every module.

    >>> public({"__all__": ["adam"], "__name__": "rules", "os": None})()
    ['__all__', '__name__', 'adam']
    """
    return lambda: sorted({*scope["__all__"], *(name for name in scope if name.startswith("__"))})


def no_attribute(name: str, error: StepruleError | None, module: str) -> AttributeError:
    """What a module's `__getattr__` raises: `error`, whose hint is the only one, or Python's own words where it is None."""
    if error is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    # Python looks for a near name in `obj`, and would say it behind ours.
    return AttributeError(str(error), name=name, obj=None)
