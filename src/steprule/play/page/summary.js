// What many seeds say: numbers from losses, [run][seed].
const mean = (losses) => losses.reduce((a, b) => a + b, 0) / losses.length;

function deviation(losses) {
  const middle = mean(losses);
  return Math.sqrt(losses.reduce((a, b) => a + (b - middle) ** 2, 0) / Math.max(1, losses.length - 1));
}

// As numpy's percentile: linear between the two nearest.
function quantile(losses, share) {
  const sorted = [...losses].sort((a, b) => a - b), at = share * (sorted.length - 1), low = Math.floor(at);
  return at === low ? sorted[low] : sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]);
}

// Of some figures the names, the lowest first.
function orderIn(figures, names) {
  return figures.map((v, k) => [v, names[k]]).sort((a, b) => a[0] - b[0]).map(([, name]) => name).join(" < ");
}

// How often each order of the runs comes, the most frequent first: [[order, times], ...].
function ordersOf(losses, names) {
  const counts = new Map();
  for (let seed = 0; seed < losses[0].length; seed++) {
    const order = orderIn(losses.map((own) => own[seed]), names);
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

// With how many seeds the one ends below the other.
const below = (ones, others) => ones.filter((v, seed) => v < others[seed]).length;

// What the four that the book trains from the formula tell, and the class whose figure does not come out.
function toldOfTheBook(runs, losses) {
  const four = runs.map((_, k) => k).filter((k) => runs[k].form === "formula"), names = four.map((k) => runs[k].method);
  const seeds = losses[0].length, editions = [0, 1].map((e) => four.map((k) => runs[k].book[e]));
  const orders = ordersOf(four.map((k) => losses[k]), names), [best, worst] = orderEnds(editions[1]);
  const [low, high] = [four[best], four[worst]], spread = quantile(losses[high], 0.975) - quantile(losses[high], 0.025);
  const told = [
    t("The book's two editions rank the rules {0} and {1}.", orderIn(editions[0], names), orderIn(editions[1], names)),
    t("{0} seeds give {1} different orders; the most frequent, {2}, comes with {3} of them. One seed ranks nothing.", seeds, orders.length, orders[0][0], orders[0][1]),
    t("In the second edition {0} ends {1} above {2}. The middle 95 % of {0}'s own seeds are {3} wide, and with the same seed {0} ends below {2} with {4} of {5} seeds.", names[worst], digits(editions[1][worst] - editions[1][best], 5), names[best], digits(spread, 5), below(losses[high], losses[low]), seeds),
  ];
  for (const [k, run] of runs.entries()) {
    if (run.form !== "class") continue;
    const reached = losses[k].filter((v) => v <= run.book[0]).length;
    told.push(t("The book's {0} for {1} by torch's class comes with {2} of {3} seeds; the lowest ends at {4}. (Some three in ten thousand seeds reach it. The class begins at nn.Linear's own weights and has epsilon 1e-6; the formula begins near 0 and has 1e-5.)", digits(run.book[0], 6), run.method, reached, seeds, digits(Math.min(...losses[k]), 6)));
  }
  return told;
}
const orderEnds = (figures) => [figures.indexOf(Math.min(...figures)), figures.indexOf(Math.max(...figures))];
const digits = (v, n) => (Number.isFinite(v) ? v.toFixed(n) : shown(v));

function toldOfTheTuned(runs, losses, tuning) {
  const means = losses.map(mean), ranked = means.map((_, k) => k).sort((a, b) => means[a] - means[b]);
  const [first, second] = ranked, seeds = losses[0].length, names = runs.map((r) => r.method), orders = ordersOf(losses, names);
  return [
    t("{0} has the lowest mean, {1} the next. They are {2} apart; one seed moves {0} by {3} (standard deviation).", names[first], names[second], digits(means[second] - means[first], 5), digits(deviation(losses[first]), 5)),
    t("With the same seed {0} ends below {1} with {2} of {3} seeds, and above it with the other {4}: one training says the one or the other.", names[first], names[second], below(losses[first], losses[second]), seeds, seeds - below(losses[first], losses[second])),
    t("{0} seeds still give {1} different orders.", seeds, orders.length),
    t("The tuning itself saw one seed, {0}. Tune again with another: the best learning rates may move, and the means with them.", tuning),
  ];
}
