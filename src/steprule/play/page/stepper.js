// One rule at its settings: the states it begins with, and its step, from the functions that the compiler printed.
function hypersOf(entry) {
  const all = {};
  for (const h of DATA.rules[entry.rule].hypers) all[h.name] = has(entry.hypers, h.name) ? entry.hypers[h.name] : h.default;
  return all;
}

// Each name's letter in the formula.
function lettersOf(variant) {
  return Object.assign(Object.create(null), Object.fromEntries(variant.where.map((w) => [w.name, DATA.maths[w.shown]])));
}

// Which variant of the rule runs: a digit for each flag, and for each number that is off at zero.
function variantOf(rule, hypers) {
  return DATA.rules[rule].hypers.filter((h) => h.switches).map((h) => (hypers[h.name] ? "1" : "0")).join("");
}

// Where step k, from 1, stands among the stages of a path.
function stageOf(stages, k) {
  return Math.min(k, stages.length) - 1;
}

// `factor` gives what multiplies the learning rate in step k.
function stepperOf(entry, factor = null) {
  const hypers = hypersOf(entry);
  const hypersAt = (k) => (factor && "lr" in hypers ? { ...hypers, lr: hypers.lr * factor(k) } : hypers);
  const about = DATA.rules[entry.rule];
  const variant = variantOf(entry.rule, hypers);
  const stages = STEPS[entry.rule][variant];
  const used = about.slots.filter((s) => about.variants[variant].slots.includes(s.name));
  const begin = () => {
    const states = {};
    for (const s of used) {
      const value = typeof s.start === "string" ? hypers[s.start] : s.start;
      states[s.name] = s.perTensor ? value : Array(s.size).fill(value);
    }
    return states;
  };
  // A slot that is absent at first is so at the first steps of a path, and only there; the last stage repeats.
  const step = (p, g, states, k, keep) => {
    const at = stageOf(stages, k), next = stages[at](p, g, states, hypersAt(k), k, keep);
    // An early stage may leave a state as it is, and then does not give it.
    if (at < stages.length - 1) next.states = { ...states, ...next.states };
    return next;
  };
  const looks = LOOKS[entry.rule]?.[variant] ?? [];
  // The states with the loss at p, the noise that step k draws, of a seed, and the gradients that it sees where it looks.
  const see = (p, g, states, k, gradient, seed, loss) => {
    const seen = about.asksForLoss ? { ...states, loss } : { ...states };
    const there = (look) => gradient(look[stageOf(look, k)](p, g, seen, hypersAt(k), k, false).p);
    looks.forEach((look, j) => { seen[about.looked[j]] = j < about.draws ? normals(p.length, seed, 0, k, j) : there(look); });
    return seen;
  };
  const places = POINTS[entry.rule]?.[variant];
  // Where the model is read behind step k: at p, if the rule states no other point.
  const read = (p, states, k) => (places && k ? places[stageOf(places, k)](p, p, states, hypersAt(k), k, false).p : p);
  return { begin, see, step, read, twoPoints: Boolean(places), variant };
}
