"""Formulas as MathML: letter for letter what latex2mathml makes of the same LaTeX, and no LaTeX that raises."""

from __future__ import annotations

import html
from xml.etree import ElementTree

import latex2mathml.converter
import pytest
from hypothesis import given, settings, strategies as st

from steprule import rules
from steprule.compiler import anatomy, formula
from steprule.compiler.variant import variant_of
from steprule.operations import TABLE
from steprule.reports.mathml import mathml
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.surfaces.catalogue import SURFACES


def by_the_other(latex: str) -> str:
    return html.unescape(latex2mathml.converter.convert(latex).replace("<math ", '<math displaystyle="true" ', 1))


def printed(rule: Rule) -> set[str]:
    """All that is ever shown of a rule: formulas, letters, and steps taken apart."""
    whole, found = for_training(rule), set()
    for switches in whole.variants():
        variant = variant_of(whole, {**whole.defaults, **switches})
        for graph in map(variant.graph, variant.stages):
            found |= {*formula.latex(graph), *formula.inputs(graph).values()}
            found |= {letter for letter, _, _ in formula.where(graph)}
            found |= {text for row in anatomy.rows(graph) for text in (row.left, row.right) if text}
    return found


# Clipping by the norm of all gradients is refused beside a look that only some steps take.
@pytest.mark.parametrize("name", [name for name in rules.names() if not rules.get(name).looked])
def test_rules(name: str) -> None:
    for latex in printed(rules.get(name)):
        assert html.unescape(mathml(latex)) == by_the_other(latex), latex


@pytest.mark.parametrize("name", SURFACES)
def test_surfaces(name: str) -> None:
    latex = "f = " + SURFACES[name].latex
    assert html.unescape(mathml(latex)) == by_the_other(latex)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row.latex and "operatorname" not in row.latex])
def test_operations(name: str) -> None:
    row = TABLE[name]
    latex = row.latex.format("a", "b", "c") + ("" if "{0}" in row.latex else r"\left(a\right)")
    assert html.unescape(mathml(latex)) == by_the_other(latex)


@pytest.mark.parametrize(
    "latex",
    [
        r"\bar{\theta}", r"\tilde{v}", r"\sigma_{1}", r"{x'}^{2}", r"a'_{t}", r"\mathrm{lr}_{2}", r"\sin^{2}{\left(x \right)}",
        r"\left\lfloor a / b \right\rfloor", r"\vec x", r"\text{a and b}", r"\sum_{i=1}^{n} x_i", r"a \quad b \; c",
    ],
)  # fmt: skip
def test_what_letters_of_ones_own_may_be(latex: str) -> None:
    assert html.unescape(mathml(latex)) == by_the_other(latex)


def test_functions_have_one_sign() -> None:
    assert "<mo>atan2</mo>" in mathml(r"\operatorname{atan2}\left(a, b\right)")


PIECES = r"{ } _ ^ ' & \left( \right) \frac \hat \begin{cases} \end{cases} \\ \text \mathrm < x 1.5 \foo \,"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES.split(" "))).map(" ".join))
def test_whatever_is_typed_is_drawn(latex: str) -> None:
    """A letter that an author mistyped is shown as it is; the page stays whole."""
    ElementTree.fromstring(mathml(latex))
