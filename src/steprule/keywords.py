"""A function that takes the keywords of a record shows each of them with its type and its default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def shows(record: type, defaults: Mapping[str, Any]) -> Callable[[Function], Function]:
    """Decorate a function whose last parameter is `**name: Unpack[record]`, a `TypedDict`: its signature has the record's fields.

    `defaults` has a default per field.

    >>> from typing import TypedDict, Unpack
    >>> class Size(TypedDict, total=False):
    ...     width: int
    >>> @shows(Size, {"width": 2})
    ... def draw(what, **size: Unpack[Size]): ...
    >>> inspect.signature(draw)
    <Signature (what, *, width: 'int' = 2)>
    """

    def show(function: Function) -> Function:
        own = inspect.signature(function)
        *said, _ = own.parameters.values()
        # A type stands as it was written: the names in it need not be known where the function is.
        written = {name: getattr(kind, "__forward_arg__", kind) for name, kind in record.__annotations__.items()}
        keyword = inspect.Parameter.KEYWORD_ONLY
        fields = [inspect.Parameter(n, keyword, default=defaults[n], annotation=kind) for n, kind in written.items()]
        function.__signature__ = own.replace(parameters=[*said, *fields])  # type: ignore[attr-defined]
        return function

    return show
