"""Functions of words do the same run by Python and translated, to the same memory; and what they may not have is refused by line."""

from __future__ import annotations

import ctypes
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from steprule.compiler import words

NAMES = ("a", "b", "c")
IMPORTS = "from steprule.compiler.words import *\nfrom steprule.compiler import words\nSEVEN, NOTHING = 7, None\n"


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that makes a module of a text."""
    made: list[str] = []

    def make(text: str) -> Any:
        name = f"drawn_words_{len(made)}"
        path = tmp_path / f"{name}.py"
        path.write_text(IMPORTS + text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[name] = found
        made.append(name)
        spec.loader.exec_module(found)
        return found

    yield make
    for name in made:
        del sys.modules[name]


def translated(function: Any) -> Any:
    run = words.compiled(function)

    @njit("int64(int64, int64, int64)")
    def called(a: int, b: int, c: int) -> Any:
        return run((a, b, c))

    return called


class Drawn:
    """A function's text. All numbers are kept small, since Python's do not end at 64 bits."""

    def __init__(self, seed: int) -> None:
        self.by = random.Random(seed)

    def value(self, deep: int) -> str:
        if deep <= 0:
            return self.by.choice((*NAMES, "SEVEN", str(self.by.randint(0, 9))))
        first, second = self.value(deep - 1), self.value(deep - 1)
        match self.by.choice(("sum", "bits", "either", "truth", "helper", "negative")):
            case "sum":
                return f"(({first} {self.by.choice('+-*')} {second}) & 255)"
            case "bits":
                return f"({first} {self.by.choice('&|')} {second})"
            case "either":
                return f"({first} if {self.test(deep - 1)} else {second})"
            case "truth":
                return f"(not ({self.test(deep - 1)}))"
            case "helper":
                return f"helper({first}, {second})"
            case _:
                return f"(-{first} & 63)"

    def test(self, deep: int) -> str:
        if deep <= 0:
            return f"{self.value(0)} {self.by.choice(('==', '!=', '<', '<=', '>', '>='))} {self.value(0)}"
        first, second = self.test(deep - 1), self.test(deep - 1)
        chain = f"{self.value(0)} < {self.value(deep - 1)} <= {self.value(0)}"
        return self.by.choice(
            (f"({first} and {second})", f"({first} or {second})", f"not ({first})", chain, self.value(1))
        )

    def body(self, deep: int, indent: str, loops: bool = False) -> str:
        lines = [line for _ in range(self.by.randint(1, 3)) for line in self.statement(deep, loops)]
        return "\n".join(indent + line for line in "\n".join(lines).splitlines())

    def statement(self, deep: int, loops: bool) -> list[str]:
        kinds = ("set", "both", "more", "if", "for", "memory", "return") if deep else ("set", "more", "memory")
        name, other = self.by.sample(NAMES, 2)
        match self.by.choice(kinds):
            case "set":
                return [f"{name} = {self.value(2)}"]
            case "both":
                return [f"{name}, {other} = {self.value(1)}, {self.value(1)}"]
            case "more":
                return [f"{name} += {self.value(1)}", f"{name} = {name} & 1023"]
            case "memory":
                place = f"MEMORY + 8 * ({self.value(1)} & 7)"
                return [f"poke({place}, {self.value(1)})", f"{name} = word(MEMORY + 8 * ({other} & 7))"]
            case "if":
                either = (self.body(deep - 1, "    ", loops) for _ in range(2))
                return [f"if {self.test(2)}:", next(either), "else:", next(either)]
            case "for":
                bounds = self.by.choice(("4", "1, 9", "0, 20, 6"))
                return [f"for {name} in range({bounds}):", self.body(deep - 1, "    ", True)]
            case _:
                return [f"if {self.test(1)}:", f"    {'continue' if loops else f'return {self.value(1)}'}"]


def test_drawn_functions_are_what_python_makes_of_them(module: Callable[[str], Any]) -> None:
    memory = np.zeros(8, dtype=np.int64)
    helper = "def helper(a, b):\n    if a < b:\n        return a == 3 or b > 2\n    c = 0\n    for a in range(b & 3):\n        c += a\n    return c\n"
    drawn = [f"def f{k}(a, b, c):\n{Drawn(k).body(3, '    ')}\n    return a + b + c\n" for k in range(40)]
    picked = "def picked(a, b, c):\n" + "".join(
        f"    if a == {k}:\n        return f{k}(b, c, {k})\n" for k in range(len(drawn))
    )
    made = module(f"MEMORY = {memory.ctypes.data}\n{helper}{''.join(drawn)}{picked}")
    called, by = translated(made.picked), random.Random(0)
    for k in range(len(drawn)):
        for _ in range(10):
            b, c, start = by.randint(0, 20), by.randint(0, 20), [by.randint(0, 99) for _ in memory]
            memory[:] = start
            wanted, left = getattr(made, f"f{k}")(b, c, k), memory.tolist()
            memory[:] = start
            assert (called(k, b, c), memory.tolist()) == (wanted, left), drawn[k]


def test_memory_is_read_and_written_as_python_does(module: Callable[[str], Any]) -> None:
    made = module(
        "def f(a, b, c):\n    poke32(a + 16, word32(b + 4) - 1)\n    widen(a, b + 8)\n    narrow(a + 8, c)\n    prefetch(0)\n    return byte(b)\n"
    )
    called = translated(made.f)
    source = np.frombuffer(np.random.default_rng(0).bytes(64), dtype=np.uint8).copy()
    source[4:8] = 0, 0, 0, 128  # the lowest number of 32 bits
    source[8:12] = np.float32(-1.5).tobytes()[0], 0, 192, 191
    number = np.array([1 / 3])
    found = [np.zeros(24, dtype=np.uint8) for _ in range(2)]
    given = [
        f(target.ctypes.data, source.ctypes.data, number.ctypes.data)
        for f, target in zip((made.f, called), found, strict=True)
    ]
    assert given[0] == given[1] == source[0]
    assert found[0].tolist() == found[1].tolist()
    assert found[1][:8].view(np.float64)[0] == -1.5
    assert found[1][8:12].view(np.float32)[0] == np.float32(1 / 3)
    assert found[1][16:20].view(np.int32)[0] == 2**31 - 1


def test_a_c_function_is_called_with_two_words(module: Callable[[str], Any]) -> None:
    seen = []
    kind = ctypes.PYFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
    function = kind(lambda first, second: seen.append((first, second)))
    made = module("def f(a, b, c):\n    call(a, b, c)\n    return 0\n")
    address = ctypes.cast(function, ctypes.c_void_p).value
    made.f(address, 5, -6)
    translated(made.f)(address, 7, -8)
    assert seen == [(5, -6), (7, -8)]


@pytest.mark.parametrize(
    "line",
    [
        "while a: a = 0", "return a // b", "return a / b", "return 0.5", "return missing", "return NOTHING", "return len(a)", "return a is b", "return a == 3 or b",
        "return word(address=a)", "for k in (1, 2): a = k", "a: int = b", "return a.real", "return lambda: a", "a = b = c", "return words.word(a)",
    ],
)  # fmt: skip
def test_what_is_no_word_is_refused_by_its_line(module: Callable[[str], Any], line: str) -> None:
    made = module(f"def f(a, b, c):\n    {line}\n    return 0\n")
    with pytest.raises(TypeError, match="f, line 5: a function of words has no "):
        translated(made.f)
