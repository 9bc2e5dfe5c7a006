"""Rules drawn from a seed, as source that a stranger could have written: operations, reductions, slots of every start, flags,
numbers that are off at zero, scalars that depend on the step, and names that mean something elsewhere.

A rule is a tree, so that one that fails can be cut down: `shrunk` replaces parts by simpler ones for as long as it still fails.
"""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from steprule import maths
from steprule.rules.rule import Rule

NAMES = [
    "x",
    "y",
    "z",
    "m",
    "v",
    "u",
    "w",
    "r",
    "d",
    "k",
    "n",
    "i",
    "j",
    "l",
    "c",
    "a_p",
    "c_p",
    "row",
    "living",
    "table",
    "which",
    "reduced",
    "new",
    "let",
    "var",
    "function",
    "delete",
    "typeof",
    "void",
    "this",
    "np",
    "tl",
    "math",
    "numba",
    "carray",
    "total0",
    "sums0",
    "partial",
    "first",
    "start",
    "offsets",
    "lengths",
    "inside",
    "sqrt_",
    "mul",
    "mul_2",
    "C0_0",
    "r_0",
    "d_0",
    "s1",
    "p_",
    "p_2",
    "g_",
    "x_2",
    "x_row",
    "beta_hat",
    "lambda_",
    "alpha_t",
    "theta",
    "m_hat",
    "states",
    "hypers",
    "keep",
    "quantities",
    "NaN",
    "Infinity",
    "values",
    "f0",
    "t_",
    "one",
    "zero",
    "bias",
    "power",
    "result",
    "steps",
]
"""Names of values: those that generated code uses, words of JavaScript, and plain ones."""
SLOTS = [
    "old_p",
    "new_m",
    "p_row",
    "m",
    "v",
    "u",
    "r",
    "buf",
    "exp_avg",
    "p0",
    "g1",
    "prev",
    "table",
    "states",
    "row",
    "x_2",
    "n",
    "d",
    "k",
    "let",
    "totals",
    "C0",
    "inside",
    "acc",
]
HYPERS = [
    "lr",
    "beta1",
    "beta2",
    "eps",
    "alpha",
    "rho",
    "r_0",
    "new",
    "k",
    "c",
    "l",
    "width",
    "hypers",
    "mu",
    "tau",
    "n_",
    "ratio",
]


@dataclass(frozen=True)
class Part:
    """A part of an expression. `kind`: "element", "tensor" (one number a tensor), "scalar" (one a step) or "truth"."""

    kind: str
    text: str
    """With {0}, {1} and so on for its arguments, each in brackets of its own where it needs them."""
    args: tuple[Part, ...] = ()

    def __str__(self) -> str:
        return self.text.format(*map(str, self.args))

    def parts(self) -> Iterator[Part]:
        yield self
        for arg in self.args:
            yield from arg.parts()


@dataclass(frozen=True)
class Slot:
    name: str
    start: str
    """As the annotation says it; empty for zero."""
    absent: bool = False
    number: bool = False
    of_model: bool = False


@dataclass(frozen=True)
class Hyper:
    name: str
    default: float | bool | int | str
    off_at_zero: bool = False

    @property
    def kind(self) -> str:
        """Its annotation."""
        if isinstance(self.default, str):
            return 'Literal["one", "other"]'
        return "Annotated[float, OffAtZero()]" if self.off_at_zero else type(self.default).__name__


@dataclass(frozen=True)
class Drawn:
    """A rule as a tree."""

    slots: tuple[Slot, ...]
    hypers: tuple[Hyper, ...]
    takes_t: bool
    lines: tuple[tuple[str, Part], ...]
    """name = expression, one after the other."""
    results: tuple[Part, ...]

    @property
    def source(self) -> str:
        slots = ", ".join(s.name + (f": {s.start}" if s.start else "") for s in self.slots)
        hypers = [f"{h.name}: {h.kind} = {h.default!r}" for h in self.hypers]
        keywords = ", ".join([*hypers, *(["t"] if self.takes_t else [])])
        head = ", ".join(["p", "g", *([slots] if slots else []), *([f"*, {keywords}"] if keywords else [])])
        body = [f"{name} = {part}" for name, part in self.lines]  # a name may be "for _ in range(k): x"
        results = ", ".join(map(str, self.results))
        return "\n".join(
            [
                "from typing import Annotated, Any, Literal",
                "from steprule import rule",
                "from steprule.hyper import AbsentAtFirst, OffAtZero, OnePerModel, OnePerTensor, StartsAt",
                f"from steprule.maths import {', '.join(maths.NAMES)}",
                "",
                "@rule",
                f"def drawn({head}):",
                *(f"    {line}" for line in body),
                f"    return {results}",
                "",
            ]
        )

    def rule(self) -> Rule:
        """The rule itself; its lines can be found, as those of a file."""
        return rule_of(self.source)


def rule_of(source: str) -> Rule:
    """The rule `drawn` of a source; its lines can be found, as those of a file."""
    name = f"<drawn {abs(hash(source))}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "drawn_by_a_test"}
    exec(compile(source, name, "exec"), scope)
    return scope["drawn"]  # type: ignore[no-any-return]


TRUTHS_AS_NUMBERS = [
    "maximum({0}, 0.25)",
    "clamp({0}, 0.25, 0.75)",
    "lerp({0}, 0.25, 0.5)",
    "(1 - {0})",
    "-{0}",
    "+{0}",
    "sqrt({0})",
]


def leaf(kind: str, text: str) -> Part:
    return Part(kind, text)


@dataclass
class Drawer:
    """Draws one rule."""

    draw: random.Random
    leaves: dict[str, list[Part]] = field(
        default_factory=lambda: {
            "element": [leaf("element", "p"), leaf("element", "g")],
            "tensor": [],
            "scalar": [],
            "truth": [],
        }
    )
    switches: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    takes_t: bool = False
    reduces: bool = False

    @property
    def reductions(self) -> list[str]:
        """Those of any sign. A total may not stand behind an `if` on the step number."""
        return ["norm", "mean", "sum", *([] if self.takes_t else ["total"])]

    def number(self) -> Part:
        value = self.draw.choice([0.5, 0.1, 2, 1, 0.9, 3.0, -0.25, 1e-3, 1.5])
        return leaf("scalar", repr(value))

    def scalar(self, depth: int) -> Part:
        if depth <= 0 or self.draw.random() < 0.4:
            return (
                self.draw.choice(self.leaves["scalar"])
                if self.leaves["scalar"] and self.draw.random() < 0.7
                else self.number()
            )
        sub = lambda: self.scalar(depth - 1)  # noqa: E731
        forms: list[Callable[[], Part]] = [
            lambda: Part("scalar", f"({{0}} {self.draw.choice('+-*')} {{1}})", (sub(), sub())),
            lambda: Part("scalar", "({0} / (1 + abs({1})))", (sub(), sub())),
            lambda: Part(
                "scalar", f"{self.draw.choice(['abs', 'sign', 'exp', 'tanh'])}({{0}})", (self.bounded(sub()),)
            ),
            lambda: Part("scalar", "atan2({0}, 1 + abs({1}))", (sub(), sub())),
            lambda: Part("scalar", "sqrt(abs({0}))", (sub(),)),
            lambda: Part("scalar", f"{self.draw.choice(['maximum', 'minimum'])}({{0}}, {{1}})", (sub(), sub())),
            lambda: Part("scalar", "({0})**2", (sub(),)),
            lambda: Part("scalar", "where({0} > {1}, {2}, {3})", (self.symbol_or(sub()), sub(), sub(), sub())),
        ]
        if self.takes_t:
            forms += [
                lambda: Part("scalar", "(1 - minimum(abs({0}), 0.999)**t)", (sub(),)),
                lambda: Part("scalar", "({0} / (t + 1))", (sub(),)),
                lambda: Part(
                    "scalar", f"({{0}} * (t {self.draw.choice(['%', '//'])} {self.draw.choice([2, 3])}))", (sub(),)
                ),
                lambda: Part("scalar", f"where({self.of_the_step()}, {{0}}, {{1}})", (sub(), sub())),
            ]
        return self.draw.choice(forms)()

    def of_the_step(self) -> str:
        """A truth value of the step number."""
        return self.draw.choice(
            ["t == 2", "t % 3 == 0", "t != 1", "(t > 1) & (t < 4)", "(t % 2 == 1) | (t == 2)", "~(t == 1)"]
        )

    def symbol_or(self, other: Part) -> Part:
        """A comparison of two plain numbers would be Python's own."""
        return (
            self.draw.choice(self.leaves["scalar"]) if self.leaves["scalar"] else Part("scalar", "abs({0})", (other,))
        )

    def bounded(self, x: Part) -> Part:
        return Part(x.kind, "clamp({0}, -3, 3)", (x,))

    def tensor(self, depth: int) -> Part:
        if self.leaves["tensor"] and self.draw.random() < 0.5:
            return self.draw.choice(self.leaves["tensor"])
        made = Part(
            "tensor",
            f"{self.draw.choice([*self.reductions, 'max', 'min', 'size'])}({{0}})",
            (self.element(min(depth - 1, 2)),),
        )
        if self.draw.random() < 0.15:
            made = Part("tensor", f"{self.draw.choice(self.reductions[1:])}({{0}})", (self.truth(1),))
        if "total" in self.reductions and self.draw.random() < 0.15:
            made = Part("tensor", "total({0})", (made,))
        return self.draw.choice(
            [
                made,
                Part("tensor", "({0} * {1})", (self.scalar(1), made)),
                Part("tensor", "sqrt(abs({0}))", (made,)),
                Part("tensor", "({0} / (1 + abs({1})))", (self.scalar(1), made)),
                Part("tensor", "maximum({0}, {1})", (made, self.scalar(1))),
            ]
        )

    def truth(self, depth: int) -> Part:
        if depth > 0 and self.draw.random() < 0.25:
            both = self.truth(depth - 1), self.truth(depth - 1)
            sign = self.draw.choice("&|")
            return (
                Part("truth", f"({{0}} {sign} {{1}})", both)
                if self.draw.random() < 0.7
                else Part("truth", "~{0}", both[:1])
            )
        sign = self.draw.choice(["<", "<=", ">", ">="])
        other = self.draw.choice([self.element, self.scalar])(depth - 1)
        return Part("truth", f"({{0}} {sign} {{1}})", (self.element(depth - 1), other))

    def any(self, depth: int) -> Part:
        """A number of any kind; seldom of a tensor."""
        which = self.draw.random()
        if which < 0.6:
            return self.element(depth)
        return self.tensor(depth) if which < 0.66 and self.reduces else self.scalar(depth)

    def element(self, depth: int) -> Part:
        if depth <= 0 or self.draw.random() < 0.15:
            return self.draw.choice(self.leaves["element"])
        e, a = lambda: self.element(depth - 1), lambda: self.any(depth - 1)
        choice = self.draw.choice
        forms: list[tuple[float, Callable[[], Part]]] = [
            (6, lambda: Part("element", f"({{0}} {choice('+-*')} {{1}})", (e(), a()))),
            (2, lambda: Part("element", f"({{0}} {choice('+-*')} {{1}})", (a(), e()))),
            (3, lambda: Part("element", "({0} / (abs({1}) + 0.1))", (a(), e()))),
            (1, lambda: Part("element", "({0} / {1})", (e(), a()))),
            (2, lambda: Part("element", "sqrt(abs({0}))", (e(),))),
            (1, lambda: Part("element", f"{choice(['abs', 'sign', 'sqrt', 'tanh'])}({{0}})", (e(),))),
            (1, lambda: Part("element", "atan2({0}, {1})", choice([(e(), a()), (a(), e())]))),
            (1, lambda: Part("element", "exp({0})", (self.bounded(e()),))),
            (1, lambda: Part("element", "log(abs({0}) + 0.5)", (e(),))),
            (1, lambda: Part("element", "-{0}", (e(),))),
            (2, lambda: Part("element", f"({{0}})**{choice([2, 2, 3, 0, -1, 4, 5])}", (e(),))),
            (
                1,
                lambda: Part(
                    "element",
                    "abs({0})**{1}",
                    (e(), choice([leaf("scalar", "0.5"), leaf("scalar", "1.5"), self.scalar(1)])),
                ),
            ),
            (
                2,
                lambda: Part(
                    "element", f"{choice(['maximum', 'minimum'])}({{0}}, {{1}})", choice([(e(), a()), (a(), e())])
                ),
            ),
            (1, lambda: Part("element", "clamp({0}, {1}, {2})", (e(), leaf("scalar", "-0.7"), a()))),
            (2, lambda: Part("element", "lerp({0}, {1}, {2})", (e(), e(), self.scalar(depth - 1)))),
            (2, lambda: Part("element", "where({0}, {1}, {2})", (self.truth(depth - 1), a(), a()))),
            (1, lambda: Part("element", "({0} * {1})", choice([(self.truth(1), a()), (a(), self.truth(1))]))),
            (1, lambda: Part("element", choice(TRUTHS_AS_NUMBERS), (self.truth(1),))),
            (
                1,
                lambda: Part(
                    "element", "where({0} > {1}, {2}, {3})", (self.symbol_or(self.number()), self.scalar(1), e(), a())
                ),
            ),
        ]
        if self.takes_t:
            forms.append((2, lambda: Part("element", f"({{0}} if {self.of_the_step()} else {{1}})", (e(), e()))))
        if self.switches:
            forms.append((2, lambda: Part("element", f"({{0}} if {choice(self.switches)} else {{1}})", (e(), e()))))
        weights = [w for w, _ in forms]
        return self.draw.choices([f for _, f in forms], weights)[0]()


def drawn(seed: int) -> Drawn:
    """The rule of a seed."""
    draw = random.Random(f"rule {seed}")
    self = Drawer(draw)
    self.takes_t = draw.random() < 0.4
    self.reduces = draw.random() < 0.35
    hypers: list[Hyper] = []
    for name in draw.sample(HYPERS, draw.randint(1, 4)):
        kind = draw.random()
        if kind < 0.15:
            hypers.append(Hyper(name, draw.random() < 0.5))
            self.switches.append(name)
        elif kind < 0.3:
            hypers.append(Hyper(name, draw.choice([0.0, 0.3]), off_at_zero=True))
            self.switches.append(name)
        elif kind < 0.4:
            hypers.append(Hyper(name, draw.choice([1, 2, 3])))
            self.whole.append(name)
        elif kind < 0.5:
            hypers.append(Hyper(name, draw.choice(["one", "other"])))
            self.switches.append(f'{name} == "one"')
        else:
            hypers.append(Hyper(name, draw.choice([0.01, 0.3, 0.9, 1e-3, 1.0])))
        if not isinstance(hypers[-1].default, bool | str):
            self.leaves["scalar"].append(leaf("scalar", name))
    if self.takes_t:
        self.leaves["scalar"].append(leaf("scalar", "t"))
    plain = [h.name for h in hypers if type(h.default) is float and not h.off_at_zero]
    taken = {h.name for h in hypers}
    slots: list[Slot] = []
    for name in draw.sample([n for n in SLOTS if n not in taken], draw.choice([0, 1, 1, 2, 2, 3])):
        kind = draw.random()
        if kind < 0.45:
            slots.append(Slot(name, ""))
        elif kind < 0.6:
            start = repr(draw.choice(plain)) if plain and draw.random() < 0.5 else draw.choice(["0.5", "'p'", "'g'"])
            slots.append(Slot(name, f"Annotated[Any, StartsAt({start})]"))
        elif kind < 0.85:
            slots.append(Slot(name, "Annotated[Any, AbsentAtFirst()]", absent=True))
        else:
            of = draw.choice(["Tensor", "Tensor", "Model"])
            start = f"Annotated[float, OnePer{of}({draw.choice([0.0, 1.0, 0.5])})]"
            slots.append(Slot(name, start, number=True, of_model=of == "Model"))
    return _body(self, slots, hypers)


def _body(self: Drawer, slots: list[Slot], hypers: list[Hyper]) -> Drawn:
    draw, lines, results = self.draw, [], {}
    names = [n for n in NAMES if n not in {s.name for s in slots} | {h.name for h in hypers}]
    draw.shuffle(names)
    absent: list[Slot] = []
    for slot in slots:
        if slot.number:
            of_tensors = self.reduces and not (slot.of_model and self.takes_t) and draw.random() < 0.6
            old = leaf("tensor" if of_tensors else "scalar", slot.name)
            self.leaves[old.kind].append(old)
            results[slot.name] = (old, of_tensors)
        elif not slot.absent:
            self.leaves["element"].append(leaf("element", slot.name))
        else:
            absent.append(slot)
    if len(absent) == 2 and draw.random() < 0.6:  # a delay line: the second is absent for two steps
        one, two = absent
        lines.append(
            (
                names.pop(),
                Part(
                    "element", f"({{0}} if {two.name} is None else {two.name})", (draw.choice(self.leaves["element"]),)
                ),
            )
        )
        self.leaves["element"].append(leaf("element", lines[-1][0]))
        results[one.name] = leaf("element", draw.choice(["p", "g"]))
        results[two.name] = leaf("element", one.name)
        absent = []
    for slot in absent:
        begun = Part(
            "element", f"({{0}} if {slot.name} is None else {slot.name})", (draw.choice(self.leaves["element"]),)
        )
        lines.append((slot.name, begun))
        self.leaves["element"].append(leaf("element", slot.name))
    for _ in range(draw.randint(0, 4)):
        kind = draw.choices(["element", "scalar", "tensor"], [6, 2, 2 if self.reduces else 0])[0]
        name = names.pop()
        part = {"element": self.element, "scalar": self.scalar, "tensor": self.tensor}[kind](3)
        lines.append((name, part))
        self.leaves[kind].append(leaf(kind, name))
        if kind == "element" and self.whole and draw.random() < 0.4:
            again = Part("element", f"(0.5 * {name} + {{0}})", (self.element(1),))
            lines.append((f"for _ in range({draw.choice(self.whole)}): {name}", again))
    for slot in slots:
        if isinstance(known := results.get(slot.name), tuple):
            part = self.tensor(2) if known[1] else self.scalar(2)
            if slot.of_model and known[1]:
                part = Part("tensor", "total({0})", (part,))
            if draw.random() < 0.5:
                part = Part(part.kind, "(0.5 * {0} + {1})", (known[0], part))
            results[slot.name] = part
        elif known is None:
            results[slot.name] = self.element(2) if draw.random() < 0.7 else draw.choice(self.leaves["element"])
            if draw.random() < 0.15:  # one number for all elements
                results[slot.name] = self.tensor(1) if self.reduces else self.scalar(2)
            elif draw.random() < 0.4:
                lines.append((slot.name, results[slot.name]))
                results[slot.name] = leaf("element", slot.name)
    result = Part("element", "(p - 0.1 * {0})", (self.element(3),)) if draw.random() < 0.9 else self.element(2)
    return Drawn(
        tuple(slots), tuple(hypers), self.takes_t, tuple(lines), (result, *(results[s.name] for s in slots))
    )  # fmt: skip


SIMPLE = {
    "element": leaf("element", "g"),
    "scalar": leaf("scalar", "0.5"),
    "truth": leaf("truth", "(g > 0)"),
    "tensor": leaf("tensor", "mean(g)"),
}


def simpler(rule: Drawn) -> Iterator[Drawn]:
    """Rules that are a little simpler; not all of them are rules."""
    for k in range(len(rule.lines)):
        yield replace(rule, lines=rule.lines[:k] + rule.lines[k + 1 :])
    for k in range(len(rule.slots)):
        kept = [j for j in range(len(rule.slots)) if j != k]
        yield replace(
            rule,
            slots=tuple(rule.slots[j] for j in kept),
            results=(rule.results[0], *(rule.results[j + 1] for j in kept)),
        )
    for k in range(len(rule.hypers)):
        yield replace(rule, hypers=rule.hypers[:k] + rule.hypers[k + 1 :])
    for k, (name, part) in enumerate(rule.lines):
        for other in _simpler(part):
            yield replace(rule, lines=(*rule.lines[:k], (name, other), *rule.lines[k + 1 :]))
    for k, part in enumerate(rule.results):
        for other in _simpler(part):
            yield replace(rule, results=(*rule.results[:k], other, *rule.results[k + 1 :]))
    if rule.takes_t:
        yield replace(rule, takes_t=False)


def _simpler(part: Part) -> Iterator[Part]:
    plain = SIMPLE[part.kind]
    if part.args and part != plain:
        yield plain
    for arg in part.args:
        if arg.kind == part.kind:
            yield arg
    for k, arg in enumerate(part.args):
        for other in _simpler(arg):
            yield replace(part, args=(*part.args[:k], other, *part.args[k + 1 :]))


def shrunk(rule: Drawn, fails: Callable[[Drawn], bool]) -> Drawn:
    """The simplest rule found that still fails."""
    going = True
    while going:
        going = False
        for other in simpler(rule):
            if fails(other):
                rule, going = other, True
                break
    return rule
