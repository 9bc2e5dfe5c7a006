"""The network page in Simplified Chinese: a table from its English, beside those of the other two pages."""

from __future__ import annotations

CHINESE = {
    "A network learns": "看网络学习",
    "Another seed (now {0})": "换一个种子（现在是 {0}）",
    "Batch size": "批量大小",
    "Choose a rule.": "请选一个方法。",
    "From the plane to here": "从平面到这里",
    "From the start": "从头开始",
    "How the loss falls": "损失怎样下降",
    "Loss after {0} passes: {1}": "{0} 遍之后的损失：{1}",
    "Once more": "再来一次",
    "One of these trainings in PyTorch:": "用 PyTorch 做其中一次训练：",
    "Sound level against frequency, measured and by each network: {0}": "声级与频率的关系，测量值和每个网络的输出：{0}",
    "Train": "训练",
    "What it has learned": "学到了什么",
    "Who is better, after equal tuning and on wings that nobody trained on:": "同等调参之后，在没有训练过的翼型上，谁更好：",
    "Wing": "翼型",
    "angle {0}°, chord {1} cm, {2} m/s": "攻角 {0}°，弦长 {1} cm，{2} m/s",
    "{0} has run away by step {1}": "{0} 到第 {1} 步已经跑掉",
    "frequency, Hz": "频率，Hz",
    "training loss: half the mean squared error / variance": "训练损失：均方误差的一半 / 方差",
    "pass {0} of {1}": "第 {0} 遍，共 {1} 遍",
    "passes over the data": "遍历数据的遍数",
    "sound level, dB (dots: measured)": "声级，dB（点：测量值）",
    "the best linear model": "最好的线性模型",
    "{0}: learning rate": "{0}：学习率",
    "{0}: {1} steps a pass": "{0}：每遍 {1} 步",
    "A slider that is moved begins the training anew, from the same first weights; what was before stays as a pale line.": "移动滑块会从"
    "同样的初始权重重新开始训练；之前的曲线留作淡色的线。",
    "Data: 1,500 airfoil measurements (Brooks, Pope, Marcolini, NASA, 1989; CC BY 4.0). All are trained on, so the loss says nothing of"
    " other wings.": "数据：1500 条翼型测量（Brooks, Pope, Marcolini, NASA, 1989；CC BY 4.0）。全部用于训练，所以损失说明不了别的翼型。",
    "On a plane a rule moves two numbers. Here the same rules, by the same printed steps, move the {0} weights and biases of a network"
    " of {1} units, by batches of {2} of 1,500 measurements: how loud is a wing?": "在平面上，一个方法移动两个数。"
    "这里，同样的方法用同样生成的步骤移动一个 {1} 个单元的网络的 {0} 个权重和偏置，每步看 1500 条测量中的 {2} 条：机翼有多响？",
    "The gradient comes from a batch and is noisy. Take batch size 1: the curves shake, AdaGrad's less than most, for its steps have"
    " shrunk. Take all samples: the curves are smooth, and there are few steps.": "梯度来自一个小批量，带有噪声。批量取 1：曲线抖动，"
    "AdaGrad 的比多数小，因为它的步子已经变小。取全部样本：曲线平滑，但步数很少。",
    "The step is the same function as on the plane, applied to each of the weights alone: AdaGrad's steps shrink here too, and Adam's"
    " first step is as large as its learning rate.": "每一步与平面上是同一个函数，对每个权重单独使用：AdaGrad 的步子在这里也越来越小，"
    "Adam 的第一步与学习率一样大。",
    "There is no one minimum to see. Another seed begins elsewhere, ends in other weights, and may put another rule first.": "这里看不到"
    "唯一的极小点。换一个种子，起点不同，终点的权重不同，领先的方法也可能不同。",
}
