"""A class of ours below a user's, which steps by another rule, and which none of the user's hooks sees made."""

from __future__ import annotations

from typing import Any


class _Unseen:
    """First among the bases, so that `__init_subclass__` of the others is not called: the new class is none of theirs."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        pass


def below(cls: Any, name: str, **attributes: Any) -> Any:
    """A subclass with these attributes. A registry of subclasses does not have it, and its keywords are not asked for."""
    return type(cls)(name, (_Unseen, cls), {"__module__": cls.__module__, **attributes})
