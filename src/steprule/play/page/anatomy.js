// The formula of where the model is read behind step k.
function readAt({ evaluated }, k) {
  return `${t("evaluated at")} ${DATA.maths[evaluated[stageOf(evaluated, k)]]}`;
}

// The step taken apart: the formula line by line, with the numbers of both coordinates.
function drawAnatomy(table, walk, at) {
  const { entry, stepper } = walk, about = DATA.rules[entry.rule], k = Math.max(1, Math.min(at, walk.gradients.length));
  const variant = about.variants[stepper.variant];
  const letters = lettersOf(variant);
  const p = walk.points[k - 1], g = walk.gradients[k - 1], states = walk.held[k - 1], hypers = hypersOf(entry);
  const found = stepper.step(p, g, states, k, true);
  const rows = variant.stages[stageOf(variant.stages, k)];
  const head = `<thead><tr><th>${t("quantity")}</th><th>x</th><th>y</th></tr></thead>`;
  const line = (label, value) =>
    Array.isArray(value) && value.length === 2
      ? `<tr><th scope="row">${label}</th><td>${shown(value[0])}</td><td>${shown(value[1])}</td></tr>`
      : `<tr><th scope="row">${label}</th><td class="both" colspan="2">${[].concat(value).map((v) => shown(v)).join(", ")}</td></tr>`;
  const title = (text) => `<tr class="head"><th colspan="3" scope="rowgroup">${text}</th></tr>`;
  const before = [line(`${letters.p} ${t("parameter before the step")}`, p), line(`${letters.g} ${t("gradient")}`, g)];
  const kept = Object.entries(states).filter(([name]) => letters[name] && !about.looked.includes(name));
  for (const [name, value] of kept) before.push(line(`${letters[name]} <code>${name}</code> ${t("before the step")}`, value));
  const numbers = variant.where.filter(({ name }) => name in hypers).map(({ name, shown: s }) => `<span class="whole">${DATA.maths[s]} = ${shown(hypers[name])}</span>`);
  const step = found.p.map((v, j) => v - p[j]);
  table.innerHTML =
    head +
    `<tbody>${title(t("before"))}${before.join("")}` +
    title(`${t("the formula, with")} ${numbers.join(", ")}`) +
    (variant.looks ?? []).map(([name, look]) => line(DATA.maths[look], states[name])).join("") +
    rows.map((r) => line(`<span class="hidden">${escaped(r.key)}</span>${DATA.maths[r.shown]}`, found.quantities[r.key])).join("") +
    title(t("after")) +
    (stepper.twoPoints ? line(readAt(variant, k), walk.evaluated[k]) : "") +
    line(`${t("the step, after minus before")}`, step) +
    line(`${t("effective step size: the step over the gradient")}`, step.map((v, j) => Math.abs(v / g[j]))) +
    "</tbody>";
  return k;
}
