"""The page in Simplified Chinese: a table from its English. A test looks for every text of the page in it."""

from __future__ import annotations

CHINESE = {
    "( after {0}": "{0} 之后的 (",
    "(logarithmic in 1 - {0})": "（按 1 - {0} 的对数）",
    ", gradient noise {0}, seed {1}": "，梯度噪声 {0}，种子 {1}",
    "A model has millions of dimensions, its gradient comes from a small batch and is noisy, and its valleys bend. On a plane"
    " without noise you can see what a rule does; you cannot see which rule to choose. For that, tune all of them alike and"
    " compare them on data over many seeds: steprule race does it and says which differences are real.": "真实的模型有上百万维，"
    "梯度来自小批量、带有噪声，山谷也会拐弯。在没有噪声的平面上可以看清一个方法做了什么，却看不出该选哪个方法。"
    "要选择，就得对所有方法做同样的调参，再用许多随机种子在数据上比较：steprule race 正是这样做的，并指出哪些差别是真实的。",
    "Add": "添加",
    "All three give the same path.": "三种方式得到同一条路径。",
    "Another rule": "再加一个方法",
    "Arrow keys move a cross, Enter takes its place.": "用方向键移动十字，按回车选定。",
    "Best learning rate here": "在此处最好的学习率",
    "Character {0}: expected {1}, got {2}.": "第 {0} 个字符：应为{1}，实为{2}。",
    "Click to take a place; with the keyboard, arrow keys and Enter.": "点击选定一处；也可用方向键和回车。",
    "Colour: the minimum that is nearest to the end; darker: farther above it.": "颜色：离终点最近的极小点；越暗，终点的函数值越高。",
    "Colour: the value at the end, above the minimum.": "颜色：终点的函数值与最小值之差。",
    "Colours": "颜色",
    "Commands": "命令",
    "Copied": "已复制",
    "Copy": "复制",
    "Copy: {0}": "复制：{0}",
    "Diverged: {0}. The steps overshoot more each time; a smaller learning rate would stay.": "发散：{0}。每一步都越过得更远；"
    "学习率小一些就不会。",
    "Drag the start, or move it with the arrow keys": "拖动起点，或用方向键移动",
    "Effective step size in x: the step over the gradient, the learning rate with which plain descent would make the same step.": "x"
    " 方向的有效步长：步幅除以梯度，即普通梯度下降要走出同样一步所需的学习率。",
    "Every line is printed from the rule's own code, and every number comes from the code printed from it.": "每一行公式都由方法"
    "本身的代码生成，每个数都由从它生成的代码算出。",
    "Expected {0}.": "应为{0}。",
    "Formula in x and y": "关于 x 和 y 的公式",
    "Gradient noise": "梯度噪声",
    "How a race is run": "比赛怎样进行",
    "How far the value lies above the minimum.": "函数值比最小值高多少。",
    "Language": "语言",
    "Legend": "图例",
    "Many paths at once": "许多路径一起看",
    "Map over": "横跨",
    "Noise seed": "噪声种子",
    "One step back": "后退一步",
    "One step on": "前进一步",
    "Paths on {0} after {1} steps: {2}": "{0} 上走 {1} 步之后的路径：{2}",
    "Pause": "暂停",
    "Permalink": "永久链接",
    "Play": "播放",
    "Quantities of this step": "这一步的各个量",
    "Remove {0}": "移除 {0}",
    "Rule": "方法",
    "Rules": "方法",
    "Save PNG": "保存 PNG",
    "Save SVG": "保存 SVG",
    "See an optimizer's steps": "看优化算法的每一步",
    "Settings": "设置",
    "Start x": "起点 x",
    "Start y": "起点 y",
    "Start: x {0}, y {1}. Drag it, or move it with the arrow keys.": "起点：x {0}，y {1}。可拖动，或用方向键移动。",
    "Step": "步",
    "Steps": "步数",
    "Steps a second": "每秒步数",
    "Surface": "曲面",
    "Take it with you": "带走",
    "The path": "路径",
    "The same in y.": "y 方向的有效步长。",
    "The start needs two numbers x,y, not {0}.": "起点需要两个数 x,y，而不是 {0}。",
    "The step taken apart": "把一步拆开看",
    "This page has no rule {0}.": "本页没有方法 {0}。",
    "To the end": "到终点",
    "To the start": "到起点",
    "What happens at each step": "每一步发生了什么",
    "What two dimensions cannot tell": "二维看不出什么",
    "Worth seeing first": "先看这些",
    "a constant": "常数",
    "a number, a name, an operator or a bracket": "数、名称、运算符或括号",
    "a number, x, y, a function or (": "数、x、y、函数或 (",
    "after": "之后",
    "an exponent without x and y": "不含 x 和 y 的指数",
    "an operator or )": "运算符或 )",
    "an operator or the end": "运算符或结尾",
    "as the system": "随系统",
    "at most 50 brackets and signs inside each other": "最多 50 层括号和负号",
    "at most {0} characters": "最多 {0} 个字符",
    "before": "之前",
    "before the step": "这一步之前",
    "dark": "深色",
    "diverged": "发散",
    "effective step size, x": "有效步长，x",
    "effective step size, y": "有效步长，y",
    "effective step size: the step over the gradient": "有效步长：步幅除以梯度",
    "finite values somewhere in the window": "窗口内某处有有限的值",
    "gradient": "梯度",
    "light": "浅色",
    "minimum": "极小点",
    "none": "没有",
    "off": "关",
    "one of {0}": "{0} 之一",
    "own formula": "自己的公式",
    "parameter before the step": "这一步之前的参数",
    "quantity": "量",
    "start": "起点",
    "start x": "起点 x",
    "start y": "起点 y",
    "step": "步",
    "step {0}": "第 {0} 步",
    "the end": "结尾",
    "the formula, with": "公式，其中",
    "the start point": "起点",
    "the step, after minus before": "这一步：之后减之前",
    "value above the minimum": "与最小值之差",
    "x or y in it": "含有 x 或 y",
    "{0} at x {1}, y {2}, value {3}": "{0} 在 x {1}，y {2}，函数值 {3}",
    "{0} is not finite from step {1}": "{0} 从第 {1} 步起不再有限",
    "{0} must be from {1} to {2}, not {3}.": "{0} 必须在 {1} 到 {2} 之间，不能是 {3}。",
    "{0}, slider": "{0}，滑块",
    "{0}, {1} steps from ({2}, {3})": "{0}，从 ({2}, {3}) 走 {1} 步",
    "{0}: where {1} paths of {2} steps end, {3} s": "{0}：{1} 条 {2} 步的路径的终点，{3} 秒",
    "{0}: {1} cannot be {2}.": "{0}：{1} 不能是 {2}。",
    # What the rules say of themselves.
    "AdaDelta, epsilon inside both roots, as the paper and torch have it.": "AdaDelta，epsilon 在两个根号之内，与论文和 torch 相同。",
    "AdaGrad, epsilon inside the root, as Dive into Deep Learning has it.": "AdaGrad，epsilon 在根号之内，与《动手学深度学习》相同。",
    "AdaGrad, epsilon outside the root, as torch has it.": "AdaGrad，epsilon 在根号之外，与 torch 相同。",
    "AdaMax, epsilon beside the gradient's absolute value, as torch has it (section 7.1 of Adam's paper).": "AdaMax，epsilon"
    " 加在梯度的绝对值上，与 torch 相同（Adam 论文 7.1 节）。",
    "Adam with decoupled weight decay: the parameter shrinks beside the step, not through the gradient.": "解耦权重衰减的 Adam："
    "参数在步骤之外收缩，而不是通过梯度。",
    "Adam without bias correction: its averages start at zero, and nothing makes up for it.": "没有偏差修正的 Adam：滑动平均"
    "从零开始，也没有任何补偿。",
    "Adam; amsgrad divides by the largest second moment so far (Reddi, Kale, Kumar, 2018).": "Adam；amsgrad 除以至今最大的"
    "二阶矩（Reddi, Kale, Kumar, 2018）。",
    "Gradient descent; with momentum, a ball that rolls on.": "梯度下降；带动量时，像一个继续滚动的球。",
    "LAMB; weight decay is part of the direction whose norm is taken, so it is the rule's own.": "LAMB；权重衰减是取范数的方向的"
    "一部分，因此属于方法本身。",
    "LARS; a tensor whose parameter or gradient is all zero takes the plain step.": "LARS；参数或梯度全为零的张量走普通的一步。",
    "Lion; with weight decay, decouple it as the paper does (decoupled_weight_decay=True).": "Lion；用权重衰减时应像论文那样解耦"
    "（decoupled_weight_decay=True）。",
    "NAdam: the momentum is applied ahead of time, one step early.": "NAdam：提前一步使用动量。",
    "RAdam: momentum alone while rho_t, the length of the average, is at most 5; then Adam, rectified by r.": "RAdam：平均长度 rho_t"
    " 不超过 5 时只用动量；之后是经 r 校正的 Adam。",
    "RMSProp, epsilon inside the root, as Dive into Deep Learning has it.": "RMSProp，epsilon 在根号之内，与《动手学深度学习》相同。",
    "RMSProp, epsilon outside the root, as torch has it; centered divides by the deviation (Graves, 2013).": "RMSProp，epsilon"
    " 在根号之外，与 torch 相同；centered 除以偏差（Graves, 2013）。",
    # What hyperparameters mean, and which values they take.
    "True or False": "True 或 False",
    "a number in (-inf, inf)": "(-inf, inf) 中的数",
    "a number in [0, 1)": "[0, 1) 中的数",
    "a number in [0, inf)": "[0, inf) 中的数",
    "decay beside the step, not through the gradient": "在步骤之外衰减，而不通过梯度",
    "decay of a running average": "滑动平均的衰减率",
    "divide by the deviation from the mean gradient": "除以相对平均梯度的偏差",
    "divide by the largest second moment so far": "除以至今最大的二阶矩",
    "how fast the learning rate falls with the step": "学习率随步数下降的快慢",
    "how fast the momentum nears beta1": "动量接近 beta1 的快慢",
    "keeps the denominator from zero": "使分母不为零",
    "learning rate": "学习率",
    "momentum": "动量",
    "part of the gradient kept out of the momentum": "不进入动量的那部分梯度",
    "share of the parameter's norm that a step may be": "一步可占参数范数的份额",
    "take the momentum's step before it is made": "先走动量的一步",
    "value at which the accumulator starts": "累加器的初值",
    "weight decay": "权重衰减",
    # The presets.
    "AdaGrad slows down": "AdaGrad 越走越慢",
    "AdaGrad divides by all gradients since the start, so its steps shrink for ever, even where the way is still long; RMSProp"
    " forgets the old ones and arrives. Look at the effective step sizes.": "AdaGrad 除以从一开始的所有梯度，步子不断缩小，"
    "哪怕路还很长；RMSProp 忘掉旧的梯度，走到了终点。请看有效步长。",
    "The ravine": "峡谷",
    "Plain descent has one learning rate for all directions: what is just small enough for the steep one makes it zigzag, and"
    " is far too small for the flat one. Momentum averages the zigzag out.": "普通梯度下降在所有方向上用同一个学习率：对陡的方向"
    "刚好够小的值已使它来回震荡，对平的方向却又太小。动量把震荡平均掉。",
    "Epsilon inside or outside the root": "epsilon 在根号内还是根号外",
    "The same epsilon is not the same number: inside the root it counts as its square root, ten times as much here, and brakes"
    " where gradients are small. Papers and libraries disagree on it.": "同一个 epsilon 并不是同一个数：在根号内它相当于自己的"
    "平方根，这里大十倍，在梯度小的地方会刹车。论文和各个库的写法并不一致。",
    "AdaDelta starts slowly": "AdaDelta 起步慢",
    "AdaDelta takes its step size from its own past steps, and there are none yet: epsilon alone gets it going. With 1e-6 it"
    " creeps, with 1e-3 it walks at once.": "AdaDelta 的步长来自自己过去的步子，而一开始还没有：只有 epsilon 让它动起来。"
    "用 1e-6 时它慢慢爬，用 1e-3 时立刻就走。",
    "Adam's bias correction": "Adam 的偏差修正",
    "Adam's averages start at zero. Corrected, the first step is as long as the learning rate; uncorrected, it divides by the"
    " root of a second moment that is far too small, and the first steps are three times as long.": "Adam 的滑动平均从零开始。"
    "修正之后，第一步恰好与学习率一样长；不修正时，它除以一个过小的二阶矩的平方根，头几步就有三倍长。",
    "Adam circles, AMSGrad arrives": "Adam 打转，AMSGrad 到达",
    "With a short memory Adam's second moment falls as fast as the gradient, so its steps never get shorter than the learning"
    " rate and it circles the minimum. AMSGrad divides by the largest second moment so far, and arrives.": "记忆很短时，Adam 的"
    "二阶矩与梯度下降得一样快，步子始终不短于学习率，于是绕着极小点打转。AMSGrad 除以至今最大的二阶矩，走到了终点。",
    "A saddle": "鞍点",
    "Started almost on the ridge, plain descent is held up where the gradient nearly vanishes. Rules that divide by the"
    " gradient's size leave at once, for there the smallest slope counts in full.": "几乎从山脊上出发时，普通梯度下降会在梯度接近零"
    "的地方停滞。除以梯度大小的方法立刻离开，因为在那里最小的坡度也足以让它们迈出完整的一步。",
}
