"""The page on luck in Simplified Chinese: a table from its English, beside the playground's own."""

from __future__ import annotations

CHINESE = {
    "95 % of seeds": "95 % 的种子",
    "Losses at the end of {0} seeds, mean: {1}": "{0} 个种子的最终损失，均值：{1}",
    "No seed is trained yet.": "还没有训练任何种子。",
    "No seed is trained yet. The book: {0}": "还没有训练任何种子。书中的数：{0}",
    "Watch them fall again": "再看一遍",
    "One seed": "看一个种子",
    "Playground": "演示场",
    "Seed {0}: {1}": "种子 {0}：{1}",
    "Stop": "停止",
    "The book's figures, and 200 seeds": "书中的数与 200 个种子",
    "The fresh seeds in numbers": "新种子的统计数字",
    "The same question with equal tuning": "同样的问题，同等的调参",
    "The same training:": "同一次训练：",
    "The seeds in numbers": "种子的统计数字",
    "Train {0} seeds": "训练 {0} 个种子",
    "Tune again, with another seed": "换一个种子再调一次",
    "Tune, then train {0} fresh seeds": "先调参，再训练 {0} 个新种子",
    "Who is better?": "谁更好？",
    "in variances of the target, ({0} dB)²": "以目标的方差 ({0} dB)² 为单位",
    "loss at the end: half the mean squared error": "最终损失：均方误差的一半",
    "mean ± sd": "均值 ± 标准差",
    "seeds below it": "低于它的种子数",
    "the book": "书中",
    "the book: {0}": "书中：{0}",
    "the least there is: {0}, least squares": "最小可能值（最小二乘）：{0}",
    "torch's class": "torch 的类",
    "{0} of {1} seeds": "{0} / {1} 个种子",
    "{0} of {1} trials": "{0} / {1} 次试验",
    "Dive into Deep Learning trains one small model by each rule, once in each edition, and prints the loss at the end (diamonds). Train it"
    " again with other seeds: other first weights, another order of the samples, all else the same. Each dot is one training; a ring"
    " marks the seed of the slider.": "《动手学深度学习》的每一版用每个方法训练一次小模型，并印出最后的损失（菱形）。用别的种子再训练："
    "初始权重不同，样本顺序不同，其余都相同。每个点是一次训练；圆环标出滑块所选的种子。",
    "No single seed can say, and no single tuning. A race tunes every number of every rule alike, repeats the tuning, and confirms"
    " the winners on data and seeds that no tuning saw. It calls a difference real only where it is larger than luck.": "一个种子"
    "说明不了，一次调参也说明不了。比赛对每个方法的每个数做同样的调参，把调参重复多次，再用调参从未见过的数据和种子检验胜者。"
    "只有大于运气的差别才算真实。",
    "The book's learning rates differ by rule, and it does not say how they were found. Now each rule tries the same {0} learning"
    " rates, from {1} to {2}, with one seed. The best trains {3} seeds that the tuning never saw.": "书中各方法的学习率不同，也没有说明"
    "是怎样得到的。现在每个方法用同一个种子试同样的 {0} 个学习率，从 {1} 到 {2}；最好的那个再训练调参从未见过的 {3} 个种子。",
    "The model is linear regression on five features of 1,500 airfoil measurements (Brooks, Pope, Marcolini, NASA, 1989; CC BY 4.0),"
    " batch {0}, {1} passes. Every step is printed from the rule's own code, and seed 7 here is seed 7 of steprule train.": "模型是"
    "线性回归，数据是 1500 条翼型测量的五个特征（Brooks, Pope, Marcolini, NASA, 1989；CC BY 4.0），批量 {0}，共 {1} 遍。"
    "每一步都由方法本身的代码生成，这里的种子 7 就是 steprule train 的种子 7。",
    "The book's two editions rank the rules {0} and {1}.": "书的两个版本给出的排名分别是 {0} 和 {1}。",
    "{0} seeds give {1} different orders; the most frequent, {2}, comes with {3} of them. One seed ranks nothing.": "{0} 个种子给出 {1} 种"
    "不同的排名；最常见的 {2} 只出现 {3} 次。一个种子排不出名次。",
    "In the second edition {0} ends {1} above {2}. The middle 95 % of {0}'s own seeds are {3} wide, and with the same seed {0} ends"
    " below {2} with {4} of {5} seeds.": "在第二个版本中，{0} 的最终损失比 {2} 高 {1}。"
    "而 {0} 自己的种子中间 95 % 就宽 {3}；用相同的种子时，{5} 个种子中有 {4} 个是 {0} 低于 {2}。",
    "The book's {0} for {1} by torch's class comes with {2} of {3} seeds; the lowest ends at {4}. (Some three in ten thousand seeds reach"
    " it. The class begins at nn.Linear's own weights and has epsilon 1e-6; the formula begins near 0 and has 1e-5.)": "书中 torch 的 {1}"
    " 类给出 {0}；{3} 个种子中有 {2} 个能达到，最低的是 {4}。（大约一万个种子中有三个能达到。类从 nn.Linear 自己的权重开始，"
    "epsilon 为 1e-6；公式的实现从 0 附近开始，epsilon 为 1e-5。）",
    "{0} has the lowest mean, {1} the next. They are {2} apart; one seed moves {0} by {3} (standard deviation).": "{0} 的均值最低，"
    "{1} 其次，两者相差 {2}；换一个种子，{0} 就变动 {3}（标准差）。",
    "With the same seed {0} ends below {1} with {2} of {3} seeds, and above it with the other {4}: one training says the one or the"
    " other.": "用相同的种子时，{3} 个种子中有 {2} 个是 {0} 低于 {1}，另外 {4} 个则相反：只训练一次，两种结论都可能得到。",
    "{0} seeds still give {1} different orders.": "{0} 个种子仍然给出 {1} 种不同的排名。",
    "The tuning itself saw one seed, {0}. Tune again with another: the best learning rates may move, and the"
    " means with them.": "调参本身只看了一个种子：{0}。换一个种子再调一次：最好的学习率可能会变，均值也跟着变。",
}
