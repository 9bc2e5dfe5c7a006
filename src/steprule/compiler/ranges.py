"""A function that Numba compiled once, run on ranges of its work: on the calling thread, or on several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache as once
from typing import Any

from steprule.compiler import cache
from steprule.compiler.threads import launch, parallel_form

SOURCE = '''"""A loop over threads: each calls a compiled function for its range of the work."""

from numba import njit, prange

from steprule.compiler.intrinsics import enter


@njit("void(int64, int64, int64, TYPES)", parallel=True, nogil=True, error_model="numpy", cache=True)
def over(function, count, parts, ARGUMENTS):
    for part in prange(parts):
        enter(function, part * count // parts, (part + 1) * count // parts, (ARGUMENTS,))
'''


class Ranged:
    """`function(first, end, *arguments)`, which does the pieces of work from `first` to before `end`.

    Numba could compile the loop over threads into each function. That takes two to three times as long, and for one thread the
    function is compiled again. So the loop is compiled by itself, and calls the function by its address.
    """

    def __init__(self, function: Any, types: Sequence[str]) -> None:
        """`types` are those of the arguments behind `first` and `end`, in Numba's names."""
        self.function, self._types = function, tuple(types)
        (compiled,) = function.overloads.values()
        self._address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)

    def __call__(self, count: int, threads: int, *arguments: Any) -> None:
        """Do `count` pieces of work; each of the threads takes as many, which lie side by side."""
        if threads == 1:
            self.function(0, count, *arguments)
            return
        over = _loop(self._types)
        with parallel_form(threads):
            over(self._address, count, threads, *arguments)


@once
def _loop(types: tuple[str, ...]) -> Callable[..., None]:
    """The loop over threads for functions that take these types; it is compiled once for all of them."""
    launch()
    text = SOURCE.replace("TYPES", ", ".join(types)).replace("ARGUMENTS", ", ".join(f"a{k}" for k in range(len(types))))
    return cache.load("over", text, cache.INTRINSICS, *cache.NUMBA).over  # type: ignore[no-any-return]
