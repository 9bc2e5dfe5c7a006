// A training in the page: the package's samples, first weights and orders, the printed network, the steps that the compiler printed.
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const COUNT = DATA.data.samples, WIDTH = NETWORK.inputs;
const [FEATURES, TARGETS] = (() => {
  const rows = floats(DATA.data.rows), features = new Float64Array(COUNT * WIDTH), targets = new Float64Array(COUNT);
  for (let k = 0; k < COUNT; k++) {
    for (let j = 0; j < WIDTH; j++) features[k * WIDTH + j] = rows[k * (WIDTH + 1) + j];
    targets[k] = rows[k * (WIDTH + 1) + WIDTH];
  }
  return [features, targets];
})();
const BEGINNINGS = Object.fromEntries(Object.entries(DATA.beginnings).map(([form, text]) => [form, floats(text)]));
const IN_ORDER = Uint16Array.from({ length: COUNT }, (_, k) => k);

// torch's generator (MT19937, Matsumoto and Nishimura 1998), for the order of the samples alone.
class Twister {
  constructor(seed) {
    this.words = new Uint32Array(624);
    this.words[0] = seed;
    for (let k = 1; k < 624; k++) this.words[k] = Math.imul(1812433253, this.words[k - 1] ^ (this.words[k - 1] >>> 30)) + k;
    this.at = 624;
  }
  twist() {
    const w = this.words;
    for (let k = 0; k < 624; k++) {
      const y = (w[k] & 0x80000000) | (w[(k + 1) % 624] & 0x7fffffff);
      w[k] = w[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
  next() {
    if (this.at === 624) this.twist();
    let y = this.words[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
}

// The samples of a seed in the order in which all its passes see them, each shuffled anew as torch.randperm does.
function orderOf(seed) {
  const twister = new Twister(DATA.streams[seed]), order = new Uint16Array(DATA.epochs * COUNT);
  for (let pass = 0; pass < DATA.epochs; pass++) {
    const part = order.subarray(pass * COUNT, (pass + 1) * COUNT);
    part.set(IN_ORDER);
    for (let k = 0; k < COUNT - 1; k++) {
      const other = k + (twister.next() % (COUNT - k)), held = part[k];
      part[k] = part[other];
      part[other] = held;
    }
  }
  return order;
}

// One training under way: `run` says which steps, where its states start and with which first weights, `hypers` its numbers.
class Training {
  constructor(run, hypers, seed, order = orderOf(seed), batch = DATA.batch) {
    const size = NETWORK.parameters, begin = BEGINNINGS[run.begins].subarray(seed * size, (seed + 1) * size);
    Object.assign(this, { hypers, order, batch, seen: 0, steps: 0, stages: STEPS[run.label], total: new Float64Array(1) });
    [this.p, this.g] = [Float64Array.from(begin), new Float64Array(size)];
    [this.a, this.d] = [new Float64Array(NETWORK.units), new Float64Array(NETWORK.units)];
    // Each tensor steps for itself, with states of its own.
    this.tensors = NETWORK.tensors.map(([from, to]) => {
      const states = {};
      for (const s of run.slots) {
        const value = typeof s.start === "string" ? hypers[s.start] : s.start;
        states[s.name] = s.perTensor ? value : Array(to - from).fill(value);
      }
      return { p: this.p.subarray(from, to), g: this.g.subarray(from, to), states };
    });
  }
  get done() { return this.seen === this.order.length; }
  step() {
    const left = COUNT - (this.seen % COUNT), count = Math.min(this.batch, left);
    NETWORK.gradient(this.p, FEATURES, TARGETS, this.order, this.seen, count, this.a, this.total, this.d, this.g);
    this.seen += count;
    this.steps += 1;
    this.tensors.forEach((tensor, k) => {
      const stages = this.stages[k], stage = stages[Math.min(this.steps, stages.length) - 1];
      // Copies, for a state may be the gradient or the parameter itself, and those are written over.
      const next = stage(tensor.p.slice(), tensor.g.slice(), tensor.states, this.hypers, this.steps, false);
      tensor.p.set(next.p);
      // An early stage may leave a state as it is, and then does not give it.
      tensor.states = this.steps < stages.length ? { ...tensor.states, ...next.states } : next.states;
    });
  }
  // On all samples.
  loss() {
    NETWORK.loss(this.p, FEATURES, TARGETS, IN_ORDER, 0, COUNT, this.a, this.total);
    return this.total[0];
  }
}

// The loss at the end; Infinity where there is none, so that it can be compared.
function lossOf(run, hypers, seed, order) {
  const training = new Training(run, hypers, seed, order);
  while (!training.done) training.step();
  const loss = training.loss();
  return Number.isFinite(loss) ? loss : Infinity;
}
