// A surface of one's own: the grammar of problems/formulas.py, read into functions, never run as code.
const FUNCTIONS = {
  sin: (a) => [sine, () => apply("cos", a)],
  cos: (a) => [cosine, () => negative(apply("sin", a))],
  tan: (a) => [Math.tan, () => sum(constant(1), raised(apply("tan", a), 2))],
  tanh: (a) => [Math.tanh, () => sum(constant(1), negative(raised(apply("tanh", a), 2)))],
  exp: (a) => [exponential, () => apply("exp", a)],
  log: (a) => [Math.log, () => quotient(constant(1), a)],
  sqrt: (a) => [Math.sqrt, () => quotient(constant(0.5), apply("sqrt", a))],
  abs: (a) => [Math.abs, () => sign(a)],
};
const LONGEST = 200, LARGEST_EXPONENT = 1000;

// A term: its value at (x, y), and its derivative by x (k = 0) or y (k = 1), a term again. `constant` where it has neither.
const constant = (c) => ({ constant: c, at: () => c, d: () => constant(0) });
const variable = (which) => ({ at: which ? (x, y) => y : (x) => x, d: (k) => constant(k === which ? 1 : 0) });
const sign = (a) => ({ at: (x, y) => Math.sign(a.at(x, y)), d: () => constant(0) });

function sum(a, b) {
  if (a.constant === 0) return b;
  if (b.constant === 0) return a;
  if (a.constant !== undefined && b.constant !== undefined) return constant(a.constant + b.constant);
  return { at: (x, y) => a.at(x, y) + b.at(x, y), d: (k) => sum(a.d(k), b.d(k)) };
}
function negative(a) {
  if (a.constant !== undefined) return constant(-a.constant);
  return { at: (x, y) => -a.at(x, y), d: (k) => negative(a.d(k)) };
}
function product(a, b) {
  if (a.constant === 0 || b.constant === 0) return constant(0);
  if (a.constant === 1) return b;
  if (b.constant === 1) return a;
  if (a.constant !== undefined && b.constant !== undefined) return constant(a.constant * b.constant);
  return { at: (x, y) => a.at(x, y) * b.at(x, y), d: (k) => sum(product(a.d(k), b), product(a, b.d(k))) };
}
function quotient(a, b) {
  if (a.constant !== undefined && b.constant !== undefined) return constant(a.constant / b.constant);
  const down = (k) => quotient(product(a, b.d(k)), product(b, b));
  return { at: (x, y) => a.at(x, y) / b.at(x, y), d: (k) => sum(quotient(a.d(k), b), negative(down(k))) };
}
function raised(a, c) {
  if (a.constant !== undefined) return constant(a.constant ** c);
  if (c === 0) return constant(1);
  if (c === 1) return a;
  const at = c === 2 ? (x, y) => { const v = a.at(x, y); return v * v; } : (x, y) => a.at(x, y) ** c;
  return { at, d: (k) => product(product(constant(c), raised(a, c - 1)), a.d(k)) };
}
function apply(name, a) {
  const [f, derivative] = FUNCTIONS[name](a);
  if (a.constant !== undefined) return constant(f(a.constant));
  return { at: (x, y) => f(a.at(x, y)), d: (k) => product(derivative(), a.d(k)) };
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
  const tokens = [];
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
    while (is("+", "-")) found = finite(began, take() === "+" ? sum(found, readProduct()) : sum(found, negative(readProduct())));
    return found;
  }
  function readProduct() {
    const began = next;
    let found = readSign();
    while (is("*", "/")) {
      const times = take() === "*", place = next, other = readSign();
      if (!times && other.constant === 0) refuse(t("a divisor other than 0"), place);
      found = finite(began, times ? product(found, other) : quotient(found, other));
    }
    return found;
  }
  function readSign() {
    if (++depth > 50) refuse(t("at most 50 brackets and signs inside each other"));
    let found;
    if (is("-")) {
      take();
      found = negative(readSign());
    } else {
      const began = next;
      found = readAtom();
      if (is("^", "**")) {
        take();
        const place = next, { constant: exponent } = readSign();
        if (exponent === undefined) refuse(t("an exponent without x and y"), place);
        if (found.constant === undefined && Math.abs(exponent) > LARGEST_EXPONENT) refuse(t("an exponent from {0} to {1}", -LARGEST_EXPONENT, LARGEST_EXPONENT), place);
        found = finite(began, raised(found, exponent));
      }
    }
    depth--;
    return found;
  }
  function readAtom() {
    const began = next, token = tokens[next];
    if (token.kind === "number") return finite(began, constant(Number(take())));
    if (token.kind === "name") {
      const known = { x: variable(0), y: variable(1), pi: constant(Math.PI), e: constant(Math.E) };
      if (has(known, token.said)) return take(), known[token.said];
      if (!has(FUNCTIONS, token.said)) refuse(t("one of {0}", [...Object.keys(known), ...Object.keys(FUNCTIONS)].join(", ")));
      take();
      if (!is("(")) refuse(t("( after {0}", token.said));
      return finite(began, apply(token.said, readAtom()));
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
  const dx = term.d(0), dy = term.d(1);
  return { value: term.at, gradient: (x, y) => [dx.at(x, y), dy.at(x, y)], window: DATA.formula.window, minima: [], noise: 0 };
}
