// An associative memory: W maps each key to its value. A matrix is an array of its rows, one after the other.
const SIZE = DATA.size;
const doubles = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const [KEYS, VALUES] = [doubles(DATA.keys), doubles(DATA.values)];
const EACH = Array.from({ length: SIZE }, (_, i) => i);

// W k - v of pair i.
const missing = (W, i) => EACH.map((r) => EACH.reduce((sum, c) => sum + W[r * SIZE + c] * KEYS[i * SIZE + c], -VALUES[i * SIZE + r]));

// Half the squared error of all pairs, each as often as its key comes; and its gradient, of the error of row r and column c of W.
function lossOf(W) {
  return EACH.reduce((sum, i) => sum + (DATA.shares[i] * missing(W, i).reduce((all, e) => all + e * e, 0)) / 2, 0);
}
function gradientOf(W) {
  const errors = EACH.map((i) => missing(W, i));
  return W.map((_, at) => EACH.reduce((sum, i) => sum + DATA.shares[i] * errors[i][Math.floor(at / SIZE)] * KEYS[i * SIZE + (at % SIZE)], 0));
}

// The matrix that makes no error: keys are orthonormal.
const TARGET = Array.from({ length: SIZE * SIZE }, (_, at) => EACH.reduce((sum, i) => sum + VALUES[i * SIZE + Math.floor(at / SIZE)] * KEYS[i * SIZE + (at % SIZE)], 0));

// Largest first, by one-sided Jacobi: pairs of columns are turned until all are orthogonal, and then their lengths are the values.
function singularValues(W) {
  const columns = EACH.map((c) => EACH.map((r) => W[r * SIZE + c]));
  const dot = (a, b) => a.reduce((sum, v, k) => sum + v * b[k], 0);
  for (let turned = true, sweep = 0; turned && sweep < 30; sweep++) {
    turned = false;
    for (let a = 0; a < SIZE; a++) for (let b = a + 1; b < SIZE; b++) {
      const [x, y] = [columns[a], columns[b]], [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
      if (!(Math.abs(xy) > 1e-15 * Math.sqrt(xx * yy))) continue;
      turned = true;
      const ratio = (yy - xx) / (2 * xy), tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.hypot(1, ratio)), cosine = 1 / Math.hypot(1, tangent);
      for (let r = 0; r < SIZE; r++) [x[r], y[r]] = [cosine * (x[r] - tangent * y[r]), cosine * (y[r] + tangent * x[r])];
    }
  }
  return columns.map((x) => Math.sqrt(dot(x, x))).sort((a, b) => b - a);
}

// A training from W = 0: where it stands behind each step, where the model is read, and the loss there; it ends where that is not finite.
function train(entry, steps, schedule) {
  const factors = DATA.schedules[schedule][steps], stepper = stepperOf(entry, (k) => factors[k - 1]);
  let [p, states] = [Array(SIZE * SIZE).fill(0), stepper.begin()];
  const points = [p], read = [p], losses = [lossOf(p)];
  for (let k = 1; k <= steps; k++) {
    const g = gradientOf(p), next = stepper.step(p, g, stepper.see(p, g, states, k, gradientOf, 0, lossOf(p)), k, false);
    [p, states] = [next.p, next.states];
    points.push(p);
    read.push(stepper.read(p, states, k));
    losses.push(lossOf(read[k]));
    if (!(losses[k] < Infinity)) return { points, read, losses, divergedAt: k };
  }
  return { points, read, losses, divergedAt: null };
}

// The learning rate that ends lowest, of all that the slider has, among those whose loss never rises above where it begins.
function bestRate(rule, steps, schedule) {
  let [best, least] = [DATA.rules[rule].rates[0], Infinity];
  for (const lr of DATA.rules[rule].rates) {
    const { losses, divergedAt } = train({ rule, hypers: { lr } }, steps, schedule);
    const stays = divergedAt === null && losses.every((v) => v <= losses[0]), last = stays ? losses[steps] : Infinity;
    if (last < least) [best, least] = [lr, last];
  }
  return best;
}
