// The state of the page, and how the address writes it: what is at its default is left out.
const MEANT = ["rule", "surface", "start", "steps", "noise", "seed", "at", "view", "chosen", "map", "theme", "lang", "story", "scene", "embed"];
const BESIDE_A_STORY = ["story", "scene", "at", "view", "chosen", "map", "theme", "lang", "embed"]; // all else is the story's own
const FAR = 1e9; // no part of the plane reaches farther, and none is so small that its numbers run out of digits

// {state, problems}: what cannot be read is said, and replaced by what is there without it.
function readState(text) {
  let given = new URLSearchParams(text);
  const problems = [], unknown = [...given.keys()].filter((name) => !MEANT.includes(name));
  for (const name of new Set(unknown)) problems.push(t("An address of this page has no {0}.", name));
  const twice = [...new Set(given.keys())].filter((name) => name !== "rule" && given.getAll(name).length > 1);
  for (const name of twice) problems.push(t("{0} stands there twice: the first counts.", name));
  const story = DATA.stories.find((s) => s.name === given.get("story")) ?? null;
  if (given.has("story") && !story) problems.push(t("This page has no story {0}.", given.get("story")));
  if (story) {
    const others = MEANT.filter((name) => given.has(name) && !BESIDE_A_STORY.includes(name));
    for (const name of others) problems.push(t("A story has a {0} of its own.", name));
    const told = new URLSearchParams(story.state);
    for (const name of BESIDE_A_STORY) if (given.has(name)) told.set(name, given.get(name));
    given = told;
  }
  const state = { entries: [], surface: "quadratic", ground: null, steps: 20, noise: null, seed: 0, at: null, view: null, chosen: 0, map: "start", story: null, theme: given.get("theme") ?? "" };
  if (given.getAll("rule").length > DATA.mostRules) problems.push(t("At most {0} rules.", DATA.mostRules));
  for (const said of given.getAll("rule").slice(0, DATA.mostRules)) {
    const [rule, ...pairs] = said.split(",");
    if (!has(DATA.rules, rule)) {
      problems.push(t("This page has no rule {0}.", rule));
      continue;
    }
    const entry = { rule, hypers: {} };
    for (const pair of pairs) {
      const [name, value] = pair.split("=");
      const hyper = DATA.rules[rule].hypers.find((h) => h.name === name);
      const read = hyper && readHyper(hyper, value);
      if (read === undefined || read === null) problems.push(t("{0}: {1} cannot be {2}.", rule, name, value));
      else entry.hypers[name] = read;
    }
    state.entries.push(entry);
  }
  if (!state.entries.length) state.entries.push({ rule: "sgd", hypers: { lr: 0.1 } });
  state.surface = given.get("surface") ?? "quadratic";
  try {
    state.ground = groundOf(state.surface);
  } catch (error) {
    if (!(error instanceof FormulaError)) throw error;
    problems.push(`${state.surface}: ${error.message}`);
    state.surface = "quadratic";
    state.ground = groundOf("quadratic");
  }
  const typed = (given.get("start") ?? "").split(","), start = typed.map(Number);
  const whole = start.length === 2 && start.every(Number.isFinite) && typed.every((part) => part.trim());
  if (given.has("start") && !whole) problems.push(t("The start needs two numbers x,y, not {0}.", given.get("start")));
  state.start = given.has("start") && whole ? start : [...state.ground.start];
  const number = (name, low, high, integer) => {
    if (!given.has(name)) return null;
    const v = Number(given.get(name));
    if (given.get(name) !== "" && v >= low && v <= high && (!integer || Number.isInteger(v))) return v;
    problems.push(t("{0} must be from {1} to {2}, not {3}.", name, low, high, given.get(name)));
    return null;
  };
  state.steps = number("steps", 1, DATA.mostSteps, true) ?? 20;
  state.noise = number("noise", 0, 1e6, false) ?? state.ground.noise;
  state.seed = number("seed", 0, SEEDS - 1, true) ?? 0;
  if (story) state.story = { name: story.name, scene: number("scene", 0, story.scenes.length, true) ?? 0 };
  const scene = story && sceneOf(story, state.story.scene);
  state.at = number("at", 0, state.steps, true) ?? scene?.at ?? state.steps;
  state.chosen = number("chosen", 0, state.entries.length - 1, true) ?? 0;
  state.map = given.get("map") ?? "start";
  state.embed = DATA.embed || given.has("embed");
  state.view = scene?.view ?? null;
  if (given.has("view")) {
    const [x0, x1, y0, y1, ...more] = given.get("view").split(",").map(Number);
    const wide = ([a, b]) => b - a > 1e-9 * Math.max(1, Math.abs(a), Math.abs(b)) && a > -FAR && b < FAR;
    if (!more.length && wide([x0, x1]) && wide([y0, y1])) state.view = [[x0, x1], [y0, y1]];
    else problems.push(t("The view needs four numbers, x from, x to, y from, y to, not {0}.", given.get("view")));
  }
  const oneOf = (name, choices) => {
    if (!given.has(name) || choices.includes(given.get(name))) return given.get(name);
    problems.push(t("{0} must be one of {1}, not {2}.", name, choices.join(", "), given.get(name)));
    return null;
  };
  state.theme = oneOf("theme", ["light", "dark"]) ?? "";
  state.language = oneOf("lang", ["en", "zh"]);
  return { state, problems };
}

function writeState(state) {
  const parts = state.story ? storySaid(state) : settingsOf(state);
  if (state.chosen) parts.push(`chosen=${state.chosen}`);
  if (state.map !== "start") parts.push(`map=${state.map}`);
  if (state.theme) parts.push(`theme=${state.theme}`);
  if (state.language) parts.push(`lang=${state.language}`);
  if (state.embed) parts.push("embed=true");
  return parts.join("&");
}

function storySaid(state) {
  const { at, view } = sceneOf(storyOf(state), state.story.scene), parts = [`story=${state.story.name}`, `scene=${state.story.scene}`];
  if (state.at !== at) parts.push(`at=${state.at}`);
  if (JSON.stringify(state.view) !== JSON.stringify(view)) parts.push(viewSaid(state.view ?? state.ground.window));
  return parts;
}

// To a ten-thousandth of its width.
function viewSaid(view) {
  const digits = ([a, b]) => Math.min(15, Math.max(0, 4 - Math.floor(Math.log10(b - a))));
  return `view=${view.flatMap((side) => side.map((v) => Number(v.toFixed(digits(side))))).join(",")}`;
}

function settingsOf(state) {
  const parts = state.entries.map(({ rule, hypers }) => {
    const set = Object.entries(hypers).map(([n, v]) => `${n}=${v}`);
    return `rule=${[rule, ...set].join(",")}`;
  });
  parts.push(`surface=${encodeURIComponent(state.surface)}`, `start=${state.start.join(",")}`, `steps=${state.steps}`);
  if (state.noise !== state.ground.noise) parts.push(`noise=${state.noise}`);
  if (state.seed) parts.push(`seed=${state.seed}`);
  if (state.at !== state.steps) parts.push(`at=${state.at}`);
  if (state.view) parts.push(viewSaid(state.view));
  return parts;
}

// A value for a hyperparameter, or null where it does not fit its bounds.
function readHyper(hyper, text) {
  if (hyper.flag) return { true: true, false: false }[text] ?? null;
  const v = Number(text);
  if (String(text).trim() === "" || !Number.isFinite(v)) return null;
  const holds = { Ge: (limit) => v >= limit, Gt: (limit) => v > limit, Le: (limit) => v <= limit, Lt: (limit) => v < limit };
  return hyper.bounds.every(([kind, limit]) => holds[kind](limit)) ? v : null;
}

// A surface of the catalogue, or of a formula: its functions, and the least value that is known of it.
function groundOf(name) {
  const known = has(SURFACES, name);
  const ground = known ? { ...DATA.surfaces[name], ...SURFACES[name] } : surfaceOf(name);
  if (!known) ground.start = startOf(ground);
  ground.name = name;
  ground.grid = gridOf(ground, ground.window);
  if (!Number.isFinite(ground.grid.least)) throw new FormulaError(0, t("finite values somewhere in the window"), t("none"));
  const least = ground.minima.length ? ground.value(...ground.minima[0]) : ground.grid.least;
  ground.least = least;
  return ground;
}

// Where a formula's path begins: the usual start, or where value and gradient are finite near it, as formulas.py has it.
function startOf(ground) {
  const [x, y] = DATA.formula.start, grid = [];
  for (let j = 0; j < 41; j++) for (let i = 0; i < 41; i++) grid.push([-5 + i / 4, -5 + j / 4]);
  const away = ([a, b]) => (a - x) ** 2 + (b - y) ** 2;
  grid.sort((p, q) => away(p) - away(q));
  const holds = (p) => [ground.value(...p), ...ground.gradient(...p)].every(Number.isFinite);
  return [[x, y], [x, -y], [-x, y], [-x, -y], ...grid].find(holds) ?? [x, y];
}

// f over a part of the plane, rows of y from below, with its least finite value.
function gridOf(ground, [[x0, x1], [y0, y1]], columns = 161, rows = 121) {
  const f = new Float64Array(columns * rows);
  let least = Infinity;
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const x = x0 + ((x1 - x0) * i) / (columns - 1), y = y0 + ((y1 - y0) * j) / (rows - 1);
      const v = (f[j * columns + i] = ground.value(x, y));
      if (v < least && v > -Infinity) least = v;
    }
  }
  return { f, columns, rows, least };
}
