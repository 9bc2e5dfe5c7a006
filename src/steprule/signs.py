"""Python's signs as rows of the table: each with its name, the sign, Python's method, and how strongly it binds."""

from __future__ import annotations

import operator

from steprule.arithmetic import power
from steprule.operations import AND, COMPARISON, OR, POWER, PRODUCT, SIGN, SUM, row

row(name="add", sign="+", method="add", strength=SUM, over="sum")(operator.add)
row(name="sub", sign="-", method="sub", strength=SUM)(operator.sub)
row(name="mul", sign="*", method="mul", strength=PRODUCT, latex=r"{0} \, {1}")(operator.mul)
row(
    name="div", sign="/", method="truediv", strength=PRODUCT, latex=r"\frac{{{0}}}{{{1}}}",
    triton_float32="tl.div_rn({0}, {1})",
)(operator.truediv)  # fmt: skip
row(
    name="mod", sign="%", method="mod", strength=PRODUCT, latex=r"{0} \bmod {1}", of_the_step=True,
    javascript="modulo({0}, {1})",
)(operator.mod)  # fmt: skip
row(
    name="floordiv", sign="//", method="floordiv", strength=PRODUCT, of_the_step=True,
    latex=r"\left\lfloor {0} / {1} \right\rfloor", javascript="floorDivide({0}, {1})",
)(operator.floordiv)  # fmt: skip
row(name="neg", sign="-", method="neg", strength=SIGN)(operator.neg)
row(
    name="pow", sign="**", method="pow", strength=POWER, latex="{{{0}}}^{{{1}}}", floats=power,
    python="power({0}, {1})", numba="{0} ** {1}", triton="power({0}, {1})", javascript="power({0}, {1})",
)(operator.pow)  # fmt: skip
row(
    name="matmul", sign="@", method="matmul", strength=PRODUCT, latex=r"{0} \, {1}", of_matrices=True,
    floats=operator.mul, numpy="matmul", torch="matmul",
)(operator.matmul)  # fmt: skip
row(name="lt", sign="<", method="lt", strength=COMPARISON, truth=True)(operator.lt)
row(name="le", sign="<=", method="le", strength=COMPARISON, truth=True, latex=r"{0} \le {1}")(operator.le)
row(name="gt", sign=">", method="gt", strength=COMPARISON, truth=True)(operator.gt)
row(name="ge", sign=">=", method="ge", strength=COMPARISON, truth=True, latex=r"{0} \ge {1}")(operator.ge)
row(name="eq", sign="==", method="eq", strength=COMPARISON, truth=True, of_the_step=True, latex="{0} = {1}")(
    operator.eq
)
row(name="ne", sign="!=", method="ne", strength=COMPARISON, truth=True, of_the_step=True, latex=r"{0} \ne {1}")(
    operator.ne
)
row(
    name="and", sign="&", method="and", strength=AND, truth=True, truths=(0, 1), latex=r"{0} \land {1}",
    triton="tl.where({0}, {1}, {0})", javascript="({0} && {1})",
)(operator.and_)  # fmt: skip
row(
    name="or", sign="|", method="or", strength=OR, truth=True, truths=(0, 1), latex=r"{0} \lor {1}",
    triton="tl.where({0}, {0}, {1})", javascript="({0} || {1})",
)(operator.or_)  # fmt: skip
row(
    name="not", sign="~", method="invert", strength=SIGN, truth=True, truths=(0,), latex=r"\lnot {0}",
    python="not {0}", numba="not {0}", triton="{0} == 0", javascript="!{0}",
)(operator.invert)  # fmt: skip
