"""Rules of matrices as strangers write them: their formulas, and what is refused in a line."""

from __future__ import annotations

from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.hyper import Rate
from steprule.maths import inverse_root
from steprule.rules import rule


@rule(as_matrix=True)
def raised(p, g, m, *, lr: Rate = 0.1, k: Rate = 2.0):  # type: ignore[no-untyped-def]
    m = m + g
    a = (m + g).T @ (2 * m)
    b = (m @ p.T).T @ inverse_root(m @ m.T, 2 * k)
    c = (g.T) ** 2 + inverse_root(m @ m.T, 4).T @ m
    return p - lr * (p @ a + b @ c + m.T.T), m


def test_what_is_raised_stands_in_brackets() -> None:
    """A transpose of a sum or a product is no sum or product with the transpose of its last part."""
    printed = "\n".join(formula.whole_latex(variant_of(raised, raised.defaults, (3, 3))))
    assert r"{\left(m_{t} + g_{t}\right)}^{\top} \, \left(2 \, m_{t}\right)" in printed
    assert r"{\left(m_{t} \, \theta_{t-1}^{\top}\right)}^{\top}" in printed
    assert r"{\left(m_{t} \, m_{t}^{\top}\right)}^{-1/\left(2 \, \eta\right)}" in printed
    assert r"{\left(g_{t}^{\top}\right)}^{\odot 2}" in printed
    assert r"{\left({\left(m_{t} \, m_{t}^{\top}\right)}^{-1/4}\right)}^{\top}" in printed
