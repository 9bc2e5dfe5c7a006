"""Functions of 64-bit words, translated from Python's text to LLVM at once, where Numba would infer each type.

All that such a function has is whole numbers and addresses, so there is nothing to infer. By Numba's inference the look at a step's
tensors took five times as long to compile. Run by Python, the same functions do the same to the same memory.

A function has assignments, `if`, `for` over `range`, `continue` and `return`; `+ - * & |`, comparisons, `and`, `or`, `not` and conditional
expressions; the functions of this file, and others of its own module. Numbers of its module are constants. Anything else is a `TypeError`.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD, BYTE, BIT = ir.IntType(64), ir.IntType(8), ir.IntType(1)
Emit = Callable[[Any, Sequence[Any]], Any]
_EMITTED: dict[Any, Emit] = {}
"""What each function of this file is in LLVM: given the builder and the words."""


def _emitted(emit: Emit) -> Callable[[Any], Any]:
    def keep(function: Any) -> Any:
        _EMITTED[function] = emit
        return function

    return keep


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(kind: Any) -> Emit:
    return lambda builder, a: builder.load(_at(builder, a[0], kind))


@_emitted(_load(WORD))
def word(address: int) -> int:
    """The word that stands at the address."""
    return ctypes.c_int64.from_address(address).value


@_emitted(lambda builder, a: builder.zext(_load(BYTE)(builder, a), WORD))
def byte(address: int) -> int:
    """The byte at the address, without a sign."""
    return ctypes.c_uint8.from_address(address).value


@_emitted(lambda builder, a: builder.sext(_load(ir.IntType(32))(builder, a), WORD))
def word32(address: int) -> int:
    """The 32 bits at the address, with a sign."""
    return ctypes.c_int32.from_address(address).value


@_emitted(lambda builder, a: builder.store(a[1], _at(builder, a[0], WORD)))
def poke(address: int, value: int) -> None:
    """Write a word."""
    ctypes.c_int64.from_address(address).value = value


@_emitted(lambda builder, a: builder.store(builder.trunc(a[1], ir.IntType(32)), _at(builder, a[0], ir.IntType(32))))
def poke32(address: int, value: int) -> None:
    """Write the lower 32 bits of a word."""
    ctypes.c_uint32.from_address(address).value = value & 0xFFFFFFFF


@_emitted(
    lambda builder, a: builder.store(
        builder.fpext(_load(ir.FloatType())(builder, a[1:]), ir.DoubleType()), _at(builder, a[0], ir.DoubleType())
    )
)
def widen(target: int, source: int) -> None:
    """Write the float32 at one address as a float64 to the other."""
    ctypes.c_double.from_address(target).value = ctypes.c_float.from_address(source).value


@_emitted(
    lambda builder, a: builder.store(
        builder.fptrunc(_load(ir.DoubleType())(builder, a[1:]), ir.FloatType()), _at(builder, a[0], ir.FloatType())
    )
)
def narrow(target: int, source: int) -> None:
    """Write the float64 at one address as a float32 to the other."""
    ctypes.c_float.from_address(target).value = ctypes.c_double.from_address(source).value


def _prefetch(builder: Any, a: Sequence[Any]) -> Any:
    pointer, number = BYTE.as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    return builder.call(function, [_at(builder, a[0], BYTE), number(0), number(3), number(1)])


@_emitted(_prefetch)
def prefetch(address: int) -> None:
    """Ask for the line of memory at the address; any address may be asked for."""


def _call(builder: Any, a: Sequence[Any]) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [WORD, WORD])
    return builder.call(_at(builder, a[0], kind), a[1:])


@_emitted(_call)
def call(function: int, first: int, second: int) -> None:
    """Call the C function at an address with two words; what it returns is dropped, and one that takes less sees less."""
    ctypes.PYFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(function)(first, second)


def compiled(function: Any) -> Any:
    """A function of words as Numba calls it, with a tuple of them, from a function that it compiles."""

    @intrinsic
    def run(typing: Any, given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            words = cgutils.unpack_tuple(builder, args[0], len(given))
            return builder.call(_Translation(builder.module, function.__module__).of(function), words)

        return types.int64(given), generate

    return run


class _Translation:
    """Functions of one module of Python's, as far as a module of LLVM's has them."""

    def __init__(self, module: Any, name: str) -> None:
        self._module = module
        body = ast.parse(inspect.getsource(sys.modules[name])).body
        self._definitions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        self._made: dict[Any, Any] = {}

    def of(self, function: Any) -> Any:
        """A function in LLVM, which becomes a part of its callers."""
        if function not in self._made:
            definition = self._definitions[function.__name__]
            kind = ir.FunctionType(WORD, [WORD] * len(definition.args.args))
            made = ir.Function(self._module, kind, f"words.{function.__module__}.{function.__name__}")
            made.linkage = "internal"
            made.attributes.add("alwaysinline")
            self._made[function] = made
            _Body(self, function, made, definition)
        return self._made[function]


_OPERATIONS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_"}
_COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def _is_truth(node: ast.expr) -> bool:
    """Whether it is 0 or 1. (`a or b` is what one of them is.)"""
    match node:
        case ast.BoolOp(_, parts):
            return all(map(_is_truth, parts))
        case _:
            return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


class _Body:
    """One function's statements, each variable in a place of its own, which LLVM turns into registers."""

    def __init__(self, made: _Translation, function: Any, target: Any, definition: ast.FunctionDef) -> None:
        self._made, self._function = made, function
        self._b = ir.IRBuilder(target.append_basic_block())
        self._next: list[Any] = []
        """Where `continue` goes, by loop."""
        parameters = [a.arg for a in definition.args.args]
        stored = [n.id for n in ast.walk(definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        self._places = {name: self._b.alloca(WORD) for name in dict.fromkeys((*parameters, *stored))}
        for name, argument in zip(parameters, target.args, strict=True):
            self._b.store(argument, self._places[name])
        self._all(definition.body)
        if not self._b.block.is_terminated:
            self._b.ret(WORD(0))

    def _refuse(self, node: ast.AST) -> TypeError:
        where = f"{self._function.__name__}, line {getattr(node, 'lineno', 0)}"
        return TypeError(f"{where}: a function of words has no {ast.unparse(node)}")

    def _all(self, body: Sequence[ast.stmt]) -> None:
        for node in body:
            self._statement(node)
            if self._b.block.is_terminated:
                return

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(ast.Constant(str())):
                pass
            case ast.Expr(ast.Call() as made):
                self._value(made)
            case ast.Assign([ast.Name(name)], value):
                self._b.store(self._value(value), self._places[name])
            case ast.Assign([ast.Tuple(names)], ast.Tuple(values)) if len(names) == len(values):
                found = [self._value(v) for v in values]
                for target, value in zip(names, found, strict=True):
                    self._b.store(value, self._places[target.id])  # type: ignore[attr-defined]
            case ast.AugAssign(ast.Name(name), operation, value):
                read = ast.copy_location(ast.Name(name, ast.Load()), node)
                whole = ast.copy_location(ast.BinOp(read, operation, value), node)
                self._b.store(self._value(whole), self._places[name])
            case ast.If(test, body, orelse):
                self._either(test, lambda: self._all(body), lambda: self._all(orelse))
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), bounds, []), body, []):
                self._loop(name, bounds, body)
            case ast.Continue():
                self._b.branch(self._next[-1])
            case ast.Return(ast.expr() as value):
                self._b.ret(self._value(value))
            case _:
                raise self._refuse(node)

    def _loop(self, name: str, bounds: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        found = [self._value(b) for b in bounds]
        start, end, step = (WORD(0), *found, WORD(1)) if len(found) == 1 else (*found, WORD(1))[:3]
        before, (turn, on, after) = self._b.block, (self._b.append_basic_block() for _ in range(3))
        self._b.branch(turn)
        self._b.position_at_end(turn)
        k = self._b.phi(WORD)
        k.add_incoming(start, before)
        inside = self._b.append_basic_block()
        self._b.cbranch(self._b.icmp_signed("<", k, end), inside, after)
        self._b.position_at_end(inside)
        self._b.store(k, self._places[name])
        self._next.append(on)
        self._all(body)
        self._next.pop()
        self._to(on)
        self._b.position_at_end(on)
        k.add_incoming(self._b.add(k, step), on)
        self._b.branch(turn)
        self._b.position_at_end(after)

    def _to(self, block: Any) -> None:
        if not self._b.block.is_terminated:
            self._b.branch(block)

    def _either(self, test: ast.expr, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        """One of two, and where both give a word that word."""
        yes, no, after = (self._b.append_basic_block() for _ in range(3))
        self._test(test, yes, no)
        given = []
        for block, make in ((yes, first), (no, second)):
            self._b.position_at_end(block)
            given.append((make(), self._b.block))
            self._to(after)
        self._b.position_at_end(after)
        if any(value is None for value, _ in given):
            return None
        found = self._b.phi(WORD)
        for value, block in given:
            found.add_incoming(value, block)
        return found

    def _test(self, node: ast.expr, yes: Any, no: Any) -> None:
        """Go to one of two blocks; nothing is evaluated that Python would not."""
        match node:
            case ast.UnaryOp(ast.Not(), inner):
                self._test(inner, no, yes)
            case ast.BoolOp(operation, several):
                for part in several[:-1]:
                    more = self._b.append_basic_block()
                    self._test(part, *((more, no) if isinstance(operation, ast.And) else (yes, more)))
                    self._b.position_at_end(more)
                self._test(several[-1], yes, no)
            case ast.Compare(left, operations, several):
                if not all(type(o) in _COMPARISONS for o in operations):
                    raise self._refuse(node)
                a = self._value(left)
                for k, (sign, right) in enumerate(zip(operations, several, strict=True)):
                    b = self._value(right)
                    more = yes if k + 1 == len(several) else self._b.append_basic_block()
                    self._b.cbranch(self._b.icmp_signed(_COMPARISONS[type(sign)], a, b), more, no)
                    if more is not yes:
                        self._b.position_at_end(more)
                    a = b
            case _:
                self._b.cbranch(self._b.icmp_signed("!=", self._value(node), WORD(0)), yes, no)

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(int() as number):
                return WORD(int(number))
            case ast.Name(name) if name in self._places:
                return self._b.load(self._places[name])
            case ast.Name() | ast.Attribute():
                return self._constant(node)
            case ast.BinOp(left, operation, right) if type(operation) in _OPERATIONS:
                a, b = self._value(left), self._value(right)
                return getattr(self._b, _OPERATIONS[type(operation)])(a, b)
            case ast.UnaryOp(ast.USub(), inner):
                return self._b.neg(self._value(inner))
            case _ if _is_truth(node):
                return self._either(node, lambda: WORD(1), lambda: WORD(0))
            case ast.IfExp(test, first, second):
                return self._either(test, lambda: self._value(first), lambda: self._value(second))
            case ast.Call(ast.Name(name), given, []):
                return self._called(self._function.__globals__.get(name), node, [self._value(v) for v in given])
            case _:
                raise self._refuse(node)

    def _constant(self, node: ast.Name | ast.Attribute) -> Any:
        match node:
            case ast.Name(name):
                found = self._function.__globals__.get(name)
            case ast.Attribute(ast.Name(name), attribute):
                found = getattr(self._function.__globals__.get(name), attribute, None)
            case _:
                found = None
        if not isinstance(found, int):
            raise self._refuse(node)
        return WORD(found)

    def _called(self, function: Any, node: ast.expr, given: Sequence[Any]) -> Any:
        if function in _EMITTED:
            return _EMITTED[function](self._b, given)
        if not inspect.isfunction(function) or function.__module__ != self._function.__module__:
            raise self._refuse(node)
        return self._b.call(self._made.of(function), given)
