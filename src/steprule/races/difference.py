"""Where two specs part."""

from __future__ import annotations

from typing import Any


def difference_of(theirs: Any, ours: Any, where: str = "") -> tuple[str, str, str] | None:
    """The first place where two specs part: (where, theirs, ours)."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            if found := difference_of(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key):
                return found
        return None
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for k, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            if found := difference_of(a, b, f"{where}[{k}]"):
                return found
        return None
    return None if theirs == ours else (where, _short(theirs), _short(ours))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(value) or "none"
    if isinstance(value, list):
        return ", ".join(str(v.get("label", v)) if isinstance(v, dict) else str(v) for v in value)
    return "none" if value is None else repr(value)
