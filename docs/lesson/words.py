"""What the lesson's figures and tables say, in Simplified Chinese: a table from their English, `{}` for a number.

Only drawn words are looked up here; a chapter's own text stands in the chapter, in both languages. A word without an entry
stops the build.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable, Sequence
from html import escape, unescape
from typing import Any

from steprule.play.words import CHINESE

DRAWN = {
    # axes and legends
    "step": "步",
    "sample": "样本",
    "start": "起点",
    "minimum": "极小点",
    "value above the minimum": "与最小值之差",
    "gradient descent": "梯度下降",
    "what stands under the root, in x": "根号下的量（x 方向）",
    "step size in x: step over gradient": "步长（x 方向）：步幅除以梯度",
    "weight of the common feature": "常见特征的权重",
    "weight of the rare feature": "少见特征的权重",
    "one seed": "一个种子",
    "middle 95 % of the seeds": "中间 95 % 的种子",
    "printed by the book": "书上印出的数",
    "least-squares floor": "最小二乘的下限",
    "formula": "公式",
    "class": "类",
    "final training loss, {} seeds each": "最终训练损失，各 {} 个种子",
    # tables
    "letter": "字母",
    "in code": "代码中",
    "meaning": "含义",
    "step {}": "第 {} 步",
    "parameter": "参数",
    "gradient": "梯度",
    "state, starts at {}": "状态，从 {} 开始",
    "state, starts at absent until its first use": "状态，首次使用前不存在",
    "learning rate": "学习率",
    "lr {}": "学习率 {}",
    "Walk these paths in the playground": "在演示页里走这些路径",
}
SAID = {
    # What figures say to who cannot see them.
    "On a bowl with gradient noise AdaGrad's sum grows without end and its step size falls as 0.4/√t; RMSProp's average and step"
    " size stay level.": "在带有梯度噪声的碗上，AdaGrad 的和不断增大，步长像 0.4/√t 那样缩小；RMSProp 的平均和步长保持水平。",
    "At learning rate 0.4 AdaGrad's path ends half-way; at 2 it ends at the minimum.": "学习率 0.4 时 AdaGrad 的路径停在半路；取 2 时到达极小点。",
    "Both methods learn the common feature's weight within fifty samples. The rare feature's weight AdaGrad learns the first few"
    " times it turns up; gradient descent is half-way after five hundred samples.": "两种方法都在五十个样本之内学会常见特征的权重。"
    "少见特征的权重，AdaGrad 在它最初几次出现时就学会了；梯度下降在五百个样本之后才走到一半。",
    "The final losses of twenty seeds, by formula and by class, overlap; the book's figures lie among them.": "二十个种子的最终损失，公式写法与"
    "类相互重叠；书上的数落在其中。",
}
TABLE = {**CHINESE, **SAID, **DRAWN}
NAMES = ("AdaGrad", "RMSProp", "AdaDelta", "Adam", "SGD", "Adadelta", "RMSprop")
"""What is called so in Chinese too."""


def said(text: str) -> str:
    """One drawn text in Chinese. Raises `KeyError` for a text that the table lacks."""
    text = text.strip()
    if text in TABLE:
        return TABLE[text]
    pattern = re.sub(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", "{}", text)
    if pattern in TABLE:
        numbers = iter(re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", text))
        return re.sub(r"\{\}", lambda _: next(numbers), TABLE[pattern])
    parts = text.split(", ")
    if len(parts) > 1:
        return "，".join(map(said, parts))
    name, _, rest = text.partition(" ")
    if name in NAMES:
        return f"{name} {said(rest)}".strip()
    if not re.search(r"[A-Za-z]{2}", re.sub(r"(?<![\w.])\d[\d.,]*", "", text)):
        return text
    raise KeyError(f"docs/lesson/words.py has no Chinese for {text!r}")


def chinese(outputs: Sequence[Any]) -> list[Any]:
    """A cell's outputs with their figures and tables in Chinese; what the code printed stays as it is."""
    found = copy.deepcopy(list(outputs))
    for output in found:
        data = output.get("data", {})
        if "text/markdown" in data:
            data["text/markdown"] = _each_cell(data["text/markdown"])
        if "text/html" in data:
            data["text/html"] = _page(data["text/html"])
    return found


def _each_cell(markdown: str) -> str:
    """A table's cells; formulas and code are the same in both languages."""

    def row(line: str) -> str:
        cells = line.strip("|").split("|")
        return (
            "|"
            + "|".join(c if re.search(r"[$`]|^[ :-]*-", c) else f" {said(c)} " if c.strip() else c for c in cells)
            + "|"
        )

    return "\n".join(row(line) if line.startswith("|") else line for line in markdown.splitlines())


def _page(html: str) -> str:
    html = re.sub(r'(src="data:image/svg\+xml;base64,)([^"]+)"', _image, html)
    html = re.sub(r'( alt=")([^"]*)"', lambda m: f'{m[1]}{_escaped(said, m[2])}"', html)
    return re.sub(r">([^<>]*[A-Za-z]{2}[^<>]*)<", lambda m: f">{_escaped(said, m[1])}<", html)


def _image(found: re.Match[str]) -> str:
    svg = base64.b64decode(found[2]).decode()
    svg = re.sub(r"(<text[^>]*>)([^<]*)(</text>)", lambda m: m[1] + _escaped(said, m[2]) + m[3], svg)
    svg = re.sub(r'(aria-label=")([^"]*)"', lambda m: f'{m[1]}{_escaped(said, m[2])}"', svg)
    return f'{found[1]}{base64.b64encode(svg.encode()).decode()}"'


def _escaped(word: Callable[[str], str], text: str) -> str:
    return escape(word(unescape(text)))
