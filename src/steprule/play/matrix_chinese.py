"""The page of a matrix in Simplified Chinese: a table from its English, beside those of the other pages."""

from __future__ import annotations

CHINESE = {
    "A matrix learns": "看矩阵学习",
    "Best rates": "最好的学习率",
    "Learning rate": "学习率",
    "Loss after {0} steps: {1}": "{0} 步之后的损失：{1}",
    "Muon without momentum": "无动量的 Muon",
    "One step as a formula": "一步的公式",
    "Searching …": "搜索中……",
    "W and its singular values after step {0}": "第 {0} 步之后的 W 及其奇异值",
    "What to look for": "看什么",
    "constant": "不变",
    "falls to zero": "降到零",
    "loss {0}": "损失 {0}",
    "loss: half the weighted squared error": "损失：加权平方误差的一半",
    "singular values": "奇异值",
    "the target": "目标",
    "weight {0}": "权重 {0}",
    "weights": "权重",
    "{0} steps": "{0} 步",
    "{0}: singular values {1}": "{0}：奇异值 {1}",
    "A matrix W of {0} x {0} shall map each of {0} keys to its value: an associative memory. Keys come with frequencies that fall as 1/i²:"
    " the first in {1} of cases, the last in {2}. The loss is half the squared error, each pair weighted by its frequency, and every"
    " step sees its exact gradient.": "一个 {0} x {0} 的矩阵 W 要把 {0} 个键各自映射到它的值：这是一个联想记忆。键出现的频率按 1/i²"
    " 下降：第一个占 {1}，最后一个占 {2}。损失是平方误差的一半，每一对按频率加权；每一步都看到精确的梯度。",
    "Each square is a weight, rows are outputs and columns inputs. Bars are the singular values, largest first; the dashed line is the"
    " target's. The slider is the learning rate.": "每个方格是一个权重，行是输出，列是输入。柱是奇异值，从大到小；虚线是目标的奇异值。"
    "滑块是学习率。",
    "Go through the first steps one by one. Gradient descent learns each pair at a speed in proportion to its frequency: the singular"
    " values rise one after the other, and the rare pairs come last.": "一步一步地看最初几步。梯度下降学习每一对的速度与其频率成正比："
    "奇异值一个接一个地升起，罕见的对最后才学会。",
    "Muon gives its step singular values that are nearly equal, whatever those of the gradient are. So all pairs are learned at one speed,"
    " the rare as the frequent. NorMuon and Scion build on the same step.": "无论梯度的奇异值怎样，Muon 的一步的奇异值都几乎相等。"
    "所以罕见的对与常见的对以同样的速度学会。NorMuon 和 Scion 都基于同样的一步。",
    "Adam and Lion see 64 numbers. Keys and values are turned, so that no number belongs to one pair, and a step of its own for each number"
    " does not make pairs equal.": "Adam 和 Lion 看到的是 64 个数。键和值都经过旋转，没有哪个数只属于一对；"
    "给每个数单独的步长并不能让各对平等。",
    "Momentum is there to average noise. Here the gradient is exact, so momentum makes Muon overshoot and come back; without it all bars"
    " rise together.": "动量是用来平均噪声的。这里的梯度是精确的，所以动量让 Muon 冲过头再回来；没有动量时，所有的柱一起升起。",
    "A step of Muon is as long as the learning rate says, also near the target. So the rate falls to zero over the training, for all rules"
    " alike. Hold it constant, and Muon circles around the target.": "Muon 的一步有多长由学习率决定，在目标附近也是如此。"
    "所以学习率在训练中降到零，对所有方法都一样。让它不变，Muon 就绕着目标打转。",
    "The advantage is one of few steps. Take 160: momentum and Adam learn the rare pairs too, and end below Muon with momentum. The problem"
    " is an easy one: with a momentum chosen for it, 0.7, gradient descent at a constant rate ends below Muon with momentum after 40 steps"
    " already.": "这个优势只在步数少时才有。取 160 步：动量法和 Adam 也学会了罕见的对，最后低于带动量的 Muon。这个问题很容易："
    "用为它选定的动量 0.7 和不变的学习率，梯度下降在 40 步之后就已经低于带动量的 Muon。",
    "Muon as torch has it: Newton-Schulz in bfloat16, decoupled weight decay, a step as long as the shape of the matrix says.": "与"
    " torch 相同的 Muon：用 bfloat16 做 Newton-Schulz 迭代，解耦的权重衰减，步长随矩阵的形状而定。",
    "NorMuon as its authors' code has it: what the rows are divided by leaves the norm of the whole step as it was.": "与作者代码相同的"
    " NorMuon：各行相除之后，整个一步的范数保持不变。",
    "Scion for one kind of layer; `constrained` keeps the parameter itself within `scale` of zero, in that norm.": "用于一种层的 Scion；"
    "`constrained` 让参数本身在该范数下与零的距离不超过 `scale`。",
    "Adafactor as torch has it: the step is in parts of the parameter's own root mean square, and clipped by its own.": "与 torch 相同的"
    " Adafactor：步长以参数自身的均方根为单位，并按自身的均方根裁剪。",
}
