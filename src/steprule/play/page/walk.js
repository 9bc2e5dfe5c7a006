// One rule on one surface: the loop around the steps that the compiler printed.
const NOISE = new Float64Array(Uint8Array.from(atob(DATA.noise), (c) => c.charCodeAt(0)).buffer);
const SEEDS = NOISE.length / (2 * DATA.mostSteps);

// The gradient that step k sees, k from 1.
function gradientAt(ground, p, k, noise, seed) {
  const g = ground.gradient(p[0], p[1]);
  if (noise) {
    const at = 2 * (seed * DATA.mostSteps + k - 1);
    g[0] += noise * NOISE[at];
    g[1] += noise * NOISE[at + 1];
  }
  return g;
}

// The path with all that the charts and the step's anatomy need; it ends where a number is not finite.
function walk(ground, entry, start, steps, noise, seed) {
  const stepper = stepperOf(entry);
  const points = [start], evaluated = [start], values = [ground.value(start[0], start[1])], gradients = [], held = [stepper.begin()];
  let divergedAt = null;
  for (let k = 1; k <= steps; k++) {
    const g = gradientAt(ground, points[k - 1], k, noise, seed);
    const seen = stepper.see(points[k - 1], g, held[k - 1], k, (q) => gradientAt(ground, q, k, noise, seed), seed, values[k - 1]);
    const next = stepper.step(points[k - 1], g, seen, k, false);
    held[k - 1] = seen;
    const place = stepper.read(next.p, next.states, k), value = ground.value(place[0], place[1]);
    gradients.push(g);
    points.push(next.p);
    evaluated.push(place);
    held.push(next.states);
    values.push(value);
    if (!Number.isFinite(next.p[0]) || !Number.isFinite(next.p[1]) || !Number.isFinite(value)) {
      divergedAt = k;
      break;
    }
  }
  if (!Number.isFinite(values[0])) divergedAt = 0;
  return { entry, stepper, points, evaluated, values, gradients, held, divergedAt };
}

// Only where it ends: what a map needs.
function endOf(ground, entry, start, steps, noise, seed) {
  const { begin, see, step, read } = stepperOf(entry);
  let p = start, states = begin();
  for (let k = 1; k <= steps; k++) {
    const gradient = (q) => gradientAt(ground, q, k, noise, seed), g = gradient(p);
    const next = step(p, g, see(p, g, states, k, gradient, seed, ground.value(p[0], p[1])), k, false);
    p = next.p;
    states = next.states;
    if (!Number.isFinite(p[0]) || !Number.isFinite(p[1])) return p;
  }
  return read(p, states, steps);
}

// The learning rate with the lowest end among those whose path stays in the window, or else the lowest of all.
function bestRate(ground, entry, start, steps, noise, seed) {
  const [[x0, x1], [y0, y1]] = ground.window;
  let best = null;
  for (const lr of DATA.rates) {
    const { points, values, divergedAt } = walk(ground, { ...entry, hypers: { ...entry.hypers, lr } }, start, steps, noise, seed);
    const last = divergedAt === null ? values[values.length - 1] : Infinity;
    const inside = points.every(([x, y]) => x >= x0 && x <= x1 && y >= y0 && y <= y1);
    const better = best === null || (inside && Number.isFinite(last) && !best.inside) || (inside === best.inside && last < best.last);
    if (better) best = { lr, last, inside: inside && Number.isFinite(last) };
  }
  return best.lr;
}
