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
from steprule.rules import CATALOGUE

NUMBER = r"(?<![\w.])\d(?:[\d.,]*\d)?(?:e-?\d+)?"
DRAWN = {
    # axes and legends
    "step": "步",
    "steps back": "往回的步数",
    "sample": "样本",
    "samples seen": "看过的样本数",
    "start": "起点",
    "end": "终点",
    "minimum": "极小点",
    "learning rate": "学习率",
    "lr {}": "学习率 {}",
    "eps {}": "eps {}",
    "epsilon {}": "epsilon {}",
    "epsilon inside": "epsilon 在根号内",
    "epsilon outside": "epsilon 在根号外",
    "gradient descent": "梯度下降",
    "momentum": "动量",
    "without bias correction": "没有偏差修正",
    "with bias correction": "有偏差修正",
    "momentum {}": "动量 {}",
    "running sum": "累加的和",
    "decay {}": "衰减 {}",
    "every gradient has noise": "每个梯度都带噪声",
    "of variance {}": "方差为 {}",
    "x, flat": "x，平",
    "y, steep": "y，陡",
    "formula": "公式",
    "class": "类",
    "near zero": "接近零",
    "at the end {}": "最后 {}",
    # titles
    "value above the minimum": "与最小值之差",
    "learning rate {}": "学习率 {}",
    "learning rate {}: distance left (start: {})": "学习率 {}：剩下的距离（起点为 {}）",
    "distance left after one step (before it: {})": "一步之后剩下的距离（走之前为 {}）",
    "0.4, as above": "0.4，即上图",
    "gradients that agree, and their running sum": "方向一致的梯度，和它们的累加",
    "gradients that alternate, and their running sum": "来回交替的梯度，和它们的累加",
    "AdaGrad: the sum of squared gradients in x": "AdaGrad：x 方向梯度平方的和",
    "RMSProp: their running average": "RMSProp：它们的滑动平均",
    "grey: falls as {}/√t": "灰线：像 {}/√t 那样下降",
    "step size in x: step over gradient": "步长（x 方向）：步幅除以梯度",
    "step size in y": "步长（y 方向）",
    "weight of the common feature": "常见特征的权重",
    "weight of the rare feature": "少见特征的权重",
    "weight of a squared gradient, the newest being 1": "梯度平方的权重，最新的为 1",
    "what a method divides the gradient by,": "各方法用什么去除梯度，",
    "while the gradient falls from {} to {}": "其间梯度从 {} 降到 {}",
    "gradient descent: metres from the minimum": "梯度下降：离极小点多少米",
    "RMSProp: metres from the minimum": "RMSProp：离极小点多少米",
    "AdaDelta: metres from the minimum": "AdaDelta：离极小点多少米",
    "as if still in metres": "假如仍以米计",
    "from here on in decimetres": "从这里起以分米计",
    "running average of a gradient that is always {}": "始终为 {} 的梯度的滑动平均",
    "root of the running average of its square": "梯度平方的滑动平均的根",
    "length of the step, in learning rates": "步子的长度，以学习率为单位",
    "loss on all training samples": "全部训练样本上的损失",
    "final training loss, {} seeds each": "最终训练损失，各 {} 个种子",
    # written on lines
    "above 1 it runs away": "超过 1 就会跑掉",
    "above 0.5 y runs away": "超过 0.5，y 就会跑掉",
    # points of a comparison, of a race
    "formula, one seed": "公式，一个种子",
    "class, one seed": "类，一个种子",
    "middle 95 % of the seeds": "中间 95 % 的种子",
    "printed by the book": "书上印出的数",
    "least-squares floor, {}": "最小二乘的下限，{}",
    "airfoil-linear": "翼型，线性模型",
    "linear": "线性下降的学习率",
    "linear learning rate": "线性下降的学习率",
    "test loss (log scale)": "测试损失（对数坐标）",
    "one training of a tuned winner": "调参胜者的一次训练",
    "its 95 % interval": "它的 95 % 区间",
    "tuned, mean": "调参后，均值",
    "untuned, mean": "未调参，均值",
    # tables and links
    "letter": "字母",
    "in code": "代码中",
    "meaning": "含义",
    "step {}": "第 {} 步",
    "parameter": "参数",
    "gradient": "梯度",
    "state, starts at {}": "状态，从 {} 开始",
    "state, absent until its first use": "状态，首次使用前不存在",
    "Walk these paths in the playground": "在演示页里走这些路径",
}
SAID = {
    # What figures say to who cannot see them.
    "With one learning rate y, the steep direction, zigzags towards zero and x, the flat one, creeps. The "
    "learning rate that is best for y is far too small for x, and a little more than twice as much makes y run away.": (
        "同一个学习率下，陡的 y 方向来回震荡着趋于零，平的 x 方向慢慢爬。对 y 最好的学习率对 x 太小，"
        "而大到两倍多一点就会使 y 跑掉。"
    ),
    "The loss falls from 0.49 to 0.25; the curves of the formula and of PyTorch's class are one.": (
        "损失从 0.49 降到 0.25；公式写法与 PyTorch 的类是同一条曲线。"
    ),
    "The final losses of twenty seeds spread over about 0.008, by formula and by class.": (
        "二十个种子的最终损失散布约 0.008，公式写法与类都是如此。"
    ),
    "Gradients that agree add up to twice their size in momentum's running sum; gradients that alternate "
    "shrink to two thirds. So the path with momentum zigzags less and gets on faster along the valley.": (
        "方向一致的梯度在动量的累加中增大到两倍，来回交替的缩小到三分之二。所以带动量的路径震荡更小，沿着山谷走得更快。"
    ),
    "On a bowl with gradient noise AdaGrad's sum grows without end and its step size falls as 0.4/√t; RMSProp's "
    "average and step size stay level.": (
        "在带有梯度噪声的碗上，AdaGrad 的和不断增大，步长像 0.4/√t 那样缩小；RMSProp 的平均和步长保持水平。"
    ),
    "At learning rate 0.4 AdaGrad's path ends half-way; at 2 it ends at the minimum.": (
        "学习率 0.4 时 AdaGrad 的路径停在半路；取 2 时到达极小点。"
    ),
    "Both methods learn the common feature's weight within fifty samples. The rare feature's weight AdaGrad "
    "learns the first few times it turns up; gradient descent is half-way after five hundred samples.": (
        "两种方法都在五十个样本之内学会常见特征的权重。少见特征的权重，AdaGrad 在它最初几次出现时就学会了；"
        "梯度下降在五百个样本之后才走到一半。"
    ),
    "The final losses of twenty seeds, by formula and by class, overlap; the book's figures lie among them.": (
        "二十个种子的最终损失，公式写法与类相互重叠；书上的数落在其中。"
    ),
    "In AdaGrad's memory every gradient weighs the same; in RMSProp's the weight fades by a factor 0.9 per "
    "step. So after the gradient has fallen from 10 to 1 RMSProp's divisor falls to 1 as well, and AdaGrad's "
    "stays at 55.": (
        "在 AdaGrad 的记忆里每个梯度权重相同；在 RMSProp 的记忆里权重每一步按因子 0.9 消退。所以梯度从 "
        "10 降到 1 之后，RMSProp 的除数也降到 1，而 AdaGrad 的停在 55。"
    ),
    "After twenty steps AdaGrad is half-way and RMSProp at the minimum.": (
        "二十步之后 AdaGrad 走到一半，RMSProp 到达极小点。"
    ),
    "With epsilon 0.05 outside the root the path comes near the minimum first and then circles it; with epsilon "
    "inside the root it arrives, because its step size stays below 0.5.": (
        "epsilon 为 0.05 且在根号外时，路径先接近极小点，然后绕着它打转；在根号内时路径会到达，因为步长始终低于 0.5。"
    ),
    "At step 60 the unit of x changes from metres to decimetres. Gradient descent all but stops there, RMSProp "
    "goes on at a tenth of its pace, and AdaDelta goes on nearly as if the unit had been kept.": (
        "第 60 步时 x 的单位从米换成分米。梯度下降几乎停住，RMSProp 以十分之一的速度继续，AdaDelta 则几乎像没有换单位一样继续走。"
    ),
    "With epsilon 1e-6 the value hardly falls in two hundred steps. With 1e-3 it falls to 1e-12 and rises "
    "again from step 150 on, after the step size in y has risen above 0.5 to nearly 1.": (
        "epsilon 为 1e-6 时，两百步里函数值几乎不降。为 1e-3 时降到 1e-12，从第 150 步起又上升，因为 "
        "y 方向的步长已升过 0.5，接近 1。"
    ),
    "By formula all twenty seeds end near 0.244; by class they are spread from 0.24 to 0.34, and the book's "
    "figure lies below them all.": (
        "公式写法的二十个种子都在 0.244 附近结束；类的散布在 0.24 到 0.34 之间，书上的数比它们都低。"
    ),
    "Three of the four settings end below 0.26; nn.Linear's weights with epsilon 1e-6 end far above, with "
    "a wide spread.": ("四种设置中有三种低于 0.26；nn.Linear 的权重配上 epsilon 1e-6 远高于它们，散布也很宽。"),
    "Both averages start at zero and need ten and thousands of steps to reach 1; corrected they are 1 at "
    "once. Their ratio, the step, is at first 3.2 to 6.6 times too long without correction; Adam's is one "
    "learning rate from the first step on.": (
        "两个平均都从零开始，分别需要几十步和几千步才达到 1；修正之后一开始就是 1。没有修正时，两者之比即步子，"
        "起初长到 3.2 至 6.6 倍；Adam 的步子从第一步起就是一个学习率。"
    ),
    "In ten steps at learning rate 0.1 Adam goes one unit in each coordinate, without correction it goes several.": (
        "学习率 0.1 走十步，Adam 在每个坐标走一个单位，没有修正则走好几个单位。"
    ),
    "At learning rate 0.4 Adam passes the minimum and comes back; at 0.1 it does not pass it.": (
        "学习率 0.4 时 Adam 越过极小点再回来；取 0.1 时不越过。"
    ),
    "The five rules' test losses after tuning; their intervals overlap.": (
        "五个方法调参后的测试损失；它们的区间相互重叠。"
    ),
    "Adam circles the minimum, AMSGrad arrives.": ("Adam 绕着极小点打转，AMSGrad 到达。"),
}
TABLE = {**CHINESE, **SAID, **DRAWN}
NAMES = ("AdaGrad", "RMSProp", "AdaDelta", "Adam", "AMSGrad", "SGD", "nn.Linear", "torch.optim.SGD", *CATALOGUE)
"""What is called so in Chinese too."""


def said(text: str) -> str:
    """One drawn text in Chinese. Raises `KeyError` for a text that the table lacks."""
    text = text.strip()
    if text in TABLE:
        return TABLE[text]
    pattern = re.sub(NUMBER, "{}", text)
    if pattern in TABLE:
        return TABLE[pattern].format(*re.findall(NUMBER, text))
    parts = text.split(", ")
    if len(parts) > 1:
        return "，".join(map(said, parts))
    name, _, rest = text.partition(" ")
    if name in NAMES:
        return f"{name} {said(rest)}".strip()
    if not re.search("[A-Za-z]{2}", pattern):
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

    def told(cell: str) -> str:
        is_alike = not cell.strip() or re.search(r"[$`]|^[ :-]*-", cell)
        return cell if is_alike else f" {said(cell)} "

    def row(line: str) -> str:
        cells = line.strip("|").split("|")
        return f"|{'|'.join(map(told, cells))}|"

    return "\n".join(row(line) if line.startswith("|") else line for line in markdown.splitlines())


def _page(html: str) -> str:
    html = html.replace("play.html#", "play.html#lang=zh&amp;")
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
