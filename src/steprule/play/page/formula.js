// A surface of one's own: the grammar of problems/formulas.py, read into a list of operations, never run as code.
const FUNCTIONS = ["sin", "cos", "tan", "tanh", "exp", "log", "sqrt", "abs"];
const OPERATIONS = ["+", "-", "*", "/", "^", "negative", ...FUNCTIONS];
const LONGEST = 200, LARGEST_EXPONENT = 1000;

// Whole powers as products, as Python has them.
function raisedTo(a, c) {
  if (!Number.isInteger(c) || c < 1 || c > 64) return a ** c;
  let product = a;
  for (let k = 1; k < c; k++) product *= a;
  return product;
}

// What a formula computes, in order: operation k fills register k with its value from those of registers a and b, and with its
// slopes by x and by y. Registers 0 and 1 are x and y. A term is {constant}, or {at: its register}.
class Tape {
  constructor() {
    const room = 2 * LONGEST + 4;
    [this.v, this.dx, this.dy] = [0, 1, 2].map(() => new Float64Array(room));
    [this.kind, this.a, this.b] = [0, 1, 2].map(() => new Int32Array(room));
    this.dx[0] = this.dy[1] = 1;
    this.count = 2;
  }
  register(term) {
    if (term.at === undefined) {
      this.kind[this.count] = -1;
      this.v[(term.at = this.count++)] = term.constant;
    }
    return term.at;
  }
  // The operation on terms: folded where they are constants. A power's exponent is one.
  apply(name, a, b) {
    const constants = [a, ...(b ? [b] : [])].every((t) => t.constant !== undefined);
    if (!constants && name === "*" && (a.constant === 0 || b.constant === 0)) return { constant: 0 };
    if (!constants && name === "^" && b.constant === 0) return { constant: 1 };
    const [p, q] = [this.register(a), b ? this.register(b) : 0], k = this.count++;
    this.kind[k] = OPERATIONS.indexOf(name);
    this.a[k] = p;
    this.b[k] = q;
    if (!constants) return { at: k };
    this.run(k, k + 1);
    this.kind[k] = -1;
    return { at: k, constant: this.v[k] };
  }
  // Where an argument does not depend on x, its slope is 0 whatever it is multiplied by.
  run(from, until) {
    const { v, dx, dy, kind } = this;
    for (let k = from; k < until; k++) {
      const i = this.a[k], j = this.b[k], p = v[i], q = v[j];
      let r, s; // the value; the slope by p, where there is one argument
      switch (kind[k]) {
        case 0: v[k] = p + q; dx[k] = dx[i] + dx[j]; dy[k] = dy[i] + dy[j]; continue; // +
        case 1: v[k] = p - q; dx[k] = dx[i] - dx[j]; dy[k] = dy[i] - dy[j]; continue; // -
        case 2: // *
          v[k] = p * q;
          dx[k] = (dx[i] && dx[i] * q) + (dx[j] && p * dx[j]);
          dy[k] = (dy[i] && dy[i] * q) + (dy[j] && p * dy[j]);
          continue;
        case 3: // /
          v[k] = r = p / q;
          dx[k] = (dx[i] - (dx[j] && r * dx[j])) / q;
          dy[k] = (dy[i] - (dy[j] && r * dy[j])) / q;
          continue;
        case 4: r = raisedTo(p, q); s = q * raisedTo(p, q - 1); break; // ^
        case 5: r = -p; s = -1; break; // negative
        case 6: r = sine(p); s = cosine(p); break; // sin
        case 7: r = cosine(p); s = -sine(p); break; // cos
        case 8: r = Math.tan(p); s = 1 + r * r; break; // tan
        case 9: r = Math.tanh(p); s = 1 - r * r; break; // tanh
        case 10: r = s = exponential(p); break; // exp
        case 11: r = Math.log(p); s = 1 / p; break; // log
        case 12: r = Math.sqrt(p); s = 0.5 / r; break; // sqrt
        case 13: r = Math.abs(p); s = Math.sign(p); break; // abs
        default: continue; // a constant
      }
      v[k] = r;
      dx[k] = dx[i] && s * dx[i];
      dy[k] = dy[i] && s * dy[i];
    }
  }
  surface({ at }) {
    const compute = (x, y) => {
      this.v[0] = x;
      this.v[1] = y;
      this.run(2, this.count);
    };
    return {
      value: (x, y) => (compute(x, y), this.v[at]),
      gradient: (x, y) => (compute(x, y), [this.dx[at], this.dy[at]]),
    };
  }
}

class FormulaError extends Error {
  constructor(at, expected, got) {
    super(t("Character {0}: expected {1}, got {2}.", at + 1, expected, got));
    this.at = at;
  }
}

// The surface of a formula; throws FormulaError with the place of the mistake.
function surfaceOf(text) {
  if (text.length > LONGEST) throw new FormulaError(LONGEST, t("at most {0} characters", LONGEST), String(text.length));
  const tokens = [], tape = new Tape(), constant = (c) => ({ constant: c });
  const pattern = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^()]))/y;
  let at = 0;
  while (text.slice(at).trim()) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) {
      at += text.slice(at).length - text.slice(at).trimStart().length;
      throw new FormulaError(at, t("a number, a name, an operator or a bracket"), `'${text[at]}'`);
    }
    const kind = found[1] !== undefined ? "number" : found[2] !== undefined ? "name" : "sign";
    const said = found[1] ?? found[2] ?? found[3];
    at = pattern.lastIndex;
    tokens.push({ kind, said, at: at - said.length });
  }
  tokens.push({ kind: "end", said: "", at: text.length });
  let next = 0, depth = 0;
  const is = (...signs) => tokens[next].kind === "sign" && signs.includes(tokens[next].said);
  const take = () => tokens[next++].said;
  const refuse = (expected, place = next) => {
    const token = tokens[place];
    throw new FormulaError(token.at, expected, token.kind === "end" ? t("the end") : `'${token.said}'`);
  };
  // What a term has become; a constant must be finite.
  const finite = (began, term) => {
    if (term.constant === undefined || Number.isFinite(term.constant)) return term;
    throw new FormulaError(tokens[began].at, t("a finite number"), shown(term.constant));
  };
  function readSum() {
    const began = next;
    let found = readProduct();
    while (is("+", "-")) found = finite(began, tape.apply(take(), found, readProduct()));
    return found;
  }
  function readProduct() {
    const began = next;
    let found = readSign();
    while (is("*", "/")) {
      const times = take() === "*", place = next, other = readSign();
      if (!times && other.constant === 0) refuse(t("a divisor other than 0"), place);
      found = finite(began, tape.apply(times ? "*" : "/", found, other));
    }
    return found;
  }
  function readSign() {
    if (++depth > 50) refuse(t("at most 50 brackets and signs inside each other"));
    let found;
    if (is("-")) {
      take();
      found = tape.apply("negative", readSign());
    } else {
      const began = next;
      found = readAtom();
      if (is("^", "**")) {
        take();
        const place = next, power = readSign(), exponent = power.constant;
        if (exponent === undefined) refuse(t("an exponent without x and y"), place);
        if (found.constant === undefined && Math.abs(exponent) > LARGEST_EXPONENT) refuse(t("an exponent from {0} to {1}", -LARGEST_EXPONENT, LARGEST_EXPONENT), place);
        found = finite(began, tape.apply("^", found, power));
      }
    }
    depth--;
    return found;
  }
  function readAtom() {
    const began = next, token = tokens[next];
    if (token.kind === "number") return finite(began, constant(Number(take())));
    if (token.kind === "name") {
      const known = { x: { at: 0 }, y: { at: 1 }, pi: constant(Math.PI), e: constant(Math.E) };
      if (has(known, token.said)) return take(), known[token.said];
      if (!FUNCTIONS.includes(token.said)) refuse(t("one of {0}", [...Object.keys(known), ...FUNCTIONS].join(", ")));
      take();
      if (!is("(")) refuse(t("( after {0}", token.said));
      return finite(began, tape.apply(token.said, readAtom()));
    }
    if (!is("(")) refuse(t("a number, x, y, a function or ("));
    take();
    const found = readSum();
    if (!is(")")) refuse(t("an operator or )"));
    take();
    return found;
  }
  const term = readSum();
  if (tokens[next].kind !== "end") refuse(t("an operator or the end"));
  if (term.constant !== undefined) throw new FormulaError(0, t("x or y in it"), t("a constant"));
  return { ...tape.surface(term), window: DATA.formula.window, minima: [], noise: 0 };
}
