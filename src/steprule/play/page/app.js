// The page at work: every control changes the state, every change of the state draws.
const $ = (id) => document.getElementById(id);
let model = null; // {state, ground, walks, looks, labels; hidden, guess, goesOn: of a story; coarse: while the part shown changes}
let stopMap = null, mapTimer = null, addressTimer = null, map = null, cross = null, pending = false;

// Open what stands behind the # of an address.
function open(text) {
  const opening = text || DATA.opening || `story=${DATA.stories[0].name}`, first = model === null;
  const read = readState(opening);
  language = read.state.language ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  if (read.problems.length) Object.assign(read, readState(opening)); // said again in the language
  take(read.state, read.problems);
  const scene = read.state.story && sceneOf(storyOf(read.state), read.state.story.scene);
  const asTold = scene && read.state.at === scene.at && JSON.stringify(read.state.view) === JSON.stringify(scene.view);
  if (asTold && !read.problems.length) tell(read.state.story.scene, false);
  else if (scene) moved();
  else if (first && !calm() && read.state.at === read.state.steps) playAt(Math.max(10, read.state.steps / OPENING));
}
const OPENING = 2.5; // seconds that the paths take at most when the page opens

// Take a state whole: from an address, a preset, a change of language. `problems`: what of the address could not be read.
function take(state, problems = []) {
  if (model) stop();
  model = { state, hidden: new Set(state.story ? sceneOf(storyOf(state), state.story.scene).hidden : []), guess: null, goesOn: false, coarse: false };
  showTheme();
  showLayout();
  translate(document);
  fillLists();
  changed(problems);
}

// After a change that somebody made: what was told is no longer what is shown.
function edited() {
  stop();
  Object.assign(model, { hidden: new Set(), guess: null });
  if (model.state.story) Object.assign(model.state, { story: null, at: Infinity }); // the whole path, where a scene stopped
  changed();
}

// After any change but of the step shown.
function changed(problems = []) {
  const { state } = model;
  model.ground = state.ground;
  state.at = Math.min(state.at, state.steps);
  state.chosen = Math.min(state.chosen, state.entries.length - 1);
  model.walks = state.entries.map((e) => walk(state.ground, e, state.start, state.steps, state.noise, state.seed));
  model.looks = looksOf(state.entries, colours().dark);
  model.labels = labelsOf(state);
  showControls();
  const messages = [...problems];
  if (!Number.isFinite(model.walks[0].values[0])) messages.push(t("The surface has no finite value at the start: take another place."));
  const lost = model.walks.filter((w) => w.divergedAt > 0);
  // Out of the surface's domain it has a place, and no value there; what runs away has an infinite one.
  const out = lost.filter((w) => w.evaluated.at(-1).every(Number.isFinite) && Number.isNaN(w.values.at(-1)));
  const said = (walks) => walks.map((w) => t("{0} is not finite from step {1}", nameOf(w.entry), w.divergedAt)).join("; ");
  const away = lost.filter((w) => !out.includes(w));
  if (away.length) messages.push(t("Diverged: {0}. The steps overshoot more each time; a smaller learning rate would stay.", said(away)));
  if (out.length) messages.push(t("Diverged: {0}. The path has left where the surface has values.", said(out)));
  $("said").textContent = messages.join(" ");
  if (map) map.stale = true;
  clearTimeout(mapTimer);
  mapTimer = setTimeout(refreshMap, 250);
  moved();
}

// After a change of the step shown, at most once a frame.
function moved() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    draw();
  });
}

function draw() {
  const { state, ground, walks, looks } = model, paint = colours();
  const { pen, width, height } = penOf($("plane"));
  model.frame = frameOf(viewOf(model), width, height);
  drawPlane(pen, model.frame, model, state.at, paint, { coarse: model.coarse, taken: takenPlaces() });
  const { box } = model.frame, [sx, sy] = model.frame.to(state.start);
  const near = [Math.min(box.left + box.width, Math.max(box.left, sx)), Math.min(box.top + box.height, Math.max(box.top, sy))];
  Object.assign($("start").style, { left: `${near[0]}px`, top: `${near[1]}px` });
  $("start").classList.toggle("away", near[0] !== sx || near[1] !== sy);
  $("whole").disabled = state.view === null;
  placeGuesses();
  const seen = walks.map((_, k) => k).filter((k) => !model.hidden.has(k)); // a reader hears of no path that is not shown
  for (const { id, series, title } of chartsOf(model)) {
    const { pen, width, height } = penOf($(id));
    drawCurves(pen, { left: 64, top: 8, width: width - 76, height: height - 48 }, series, model, { steps: state.steps, at: state.at, title, paint });
    const last = (k) => shown(series[k][Math.min(state.at, series[k].length - 1)]);
    $(id).setAttribute("aria-label", `${title}: ${seen.map((k) => `${nameOf(walks[k].entry)} ${last(k)}`).join("; ")}`);
  }
  const ends = seen.map((j) => {
    const w = walks[j], k = Math.min(state.at, w.points.length - 1);
    return t("{0} at x {1}, y {2}, value {3}", nameOf(w.entry), shown(w.evaluated[k][0]), shown(w.evaluated[k][1]), shown(w.values[k]));
  });
  $("plane").setAttribute("aria-label", t("Paths on {0} after {1} steps: {2}", ground.name, state.at, ends.join("; ")));
  $("at").value = state.at;
  $("at-shown").textContent = `${state.at} / ${state.steps}`;
  const k = drawAnatomy($("anatomy"), walks[state.chosen], state.at);
  $("anatomy-step").textContent = t("step {0}", k);
  drawTheMap();
  showMotion();
  // Not at each frame: browsers count how often an address is written, and refuse.
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", `#${writeState(model.state)}`), 150);
}

function showTheme() {
  const dark = model.state.theme ? model.state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

function refreshMap() {
  stopMap?.();
  cross = null;
  const { state } = model;
  stopMap = computeMap(state, state.entries[state.chosen], (found) => {
    map = found;
    $("map").dataset.seconds = found.seconds.toFixed(3);
    $("map-shown").textContent = t("{0}: where {1} paths of {2} steps end, {3} s", nameOf(state.entries[state.chosen]), (CELLS * CELLS).toLocaleString("en"), state.steps, found.seconds.toFixed(2));
    drawTheMap();
  });
}

function drawTheMap() {
  const { pen, width, height } = penOf($("map"));
  if (!map) return;
  drawMap(pen, width, height, map, model.ground, colours(), cross);
  const text = map.painted.basins ? t("Colour: the minimum that is nearest to the end; darker: farther above it.") : t("Colour: the value at the end, above the minimum.");
  $("map").setAttribute("aria-label", `${text} ${t("Arrow keys move a cross, Enter takes its place.")}`);
  if (!cross) $("map-read").textContent = `${text} ${t("Click to take a place; with the keyboard, arrow keys and Enter.")}`;
}

function readMap() {
  const { x, y } = map.plan, at = [x.share(cross[0]), y.share(cross[1])].map((s) => Math.min(CELLS - 1, Math.floor(s * CELLS)));
  $("map-read").textContent = `${x.title} ${shown(cross[0], 4)}, ${y.title} ${shown(cross[1], 4)}: ${shown(map.heights[at[1] * CELLS + at[0]], 4)}`;
}

function takeCross() {
  const { state } = model;
  if (map.plan.overStart) state.start = cross.map((v) => Number(v.toPrecision(5)));
  else {
    const entry = state.entries[state.chosen];
    entry.hypers.lr = Number(cross[0].toPrecision(4));
    entry.hypers[state.map] = Number(cross[1].toPrecision(4));
  }
  edited();
}

// End whatever moves by itself.
function stop() {
  halt();
  model.goesOn = false;
  showMotion();
}

// The buttons say Pause while a path or a story moves, and between the scenes of a story that goes on.
function showMotion() {
  $("play").textContent = stopMotion ? t("Pause") : t("Play");
  const story = storyOf(model.state);
  if (story) $("tell").textContent = tellWord(story, model.state.story.scene);
}

function play() {
  if (stopMotion) return stop(), moved();
  playAt(Number($("speed").value));
}

// From the step that is shown, or from the start.
function playAt(speed) {
  stop();
  const { state } = model, first = state.at >= state.steps ? 0 : state.at, left = state.steps - first;
  const frame = (share) => {
    state.at = first + Math.floor(share * left);
    moved();
  };
  stopMotion = animate(left / speed, frame, () => (stop(), moved()));
  showMotion();
}

function show(at) {
  stop();
  model.state.at = Math.min(model.state.steps, Math.max(0, at));
  moved();
}

function setStart(point) {
  const [[x0, x1], [y0, y1]] = model.ground.window;
  model.state.start = [Math.min(x1, Math.max(x0, point[0])), Math.min(y1, Math.max(y0, point[1]))].map((v) => Number(v.toPrecision(5)));
  edited();
}

function setSurface(name) {
  try {
    const ground = groundOf(name);
    Object.assign(model.state, { surface: name, ground, start: [...ground.start], noise: ground.noise, view: null });
    $("formula-error").textContent = "";
    return true;
  } catch (error) {
    if (!(error instanceof FormulaError)) throw error;
    $("formula-error").textContent = error.message;
    const field = $("formula");
    if (document.activeElement === field) field.setSelectionRange(error.at, error.at + 1);
    return false;
  }
}

function listen() {
  const on = (id, kind, action) => $(id).addEventListener(kind, action);
  on("language", "change", (e) => {
    language = model.state.language = e.target.value;
    translate(document);
    showLayout();
    fillLists();
    changed();
  });
  on("theme", "change", (e) => ((model.state.theme = e.target.value), showTheme(), changed()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (showTheme(), changed()));
  listenToStories();
  on("surface", "change", (e) => {
    if (setSurface(e.target.value || "x^2/10 + 2*y^2 + sin(2*x)")) edited();
  });
  on("formula", "change", (e) => setSurface(e.target.value) && edited());
  const field = (id, check, set) =>
    on(id, "change", (e) => {
      const v = Number(e.target.value);
      if (e.target.value !== "" && check(v)) return set(v), edited();
      $("said").textContent = t("{0} cannot be {1}.", e.target.labels[0].textContent.trim(), e.target.value || t("empty"));
      e.target.value = id === "start-x" ? model.state.start[0] : id === "start-y" ? model.state.start[1] : model.state[id];
    });
  field("start-x", Number.isFinite, (v) => (model.state.start = [v, model.state.start[1]]));
  field("start-y", Number.isFinite, (v) => (model.state.start = [model.state.start[0], v]));
  field("steps", (v) => Number.isInteger(v) && v >= 1 && v <= DATA.mostSteps, (v) => {
    const atEnd = model.state.at === model.state.steps;
    model.state.steps = v;
    if (atEnd) model.state.at = v;
  });
  field("noise", (v) => v >= 0 && v <= 1e6, (v) => (model.state.noise = v));
  field("seed", () => true, (v) => (model.state.seed = v));
  on("entries", "click", (e) => {
    const button = e.target.closest("button");
    if (!button) return;
    const k = Number(button.dataset.k), { state } = model;
    if (button.classList.contains("remove")) {
      state.entries.splice(k, 1);
      if (state.chosen > k) state.chosen -= 1;
      return edited();
    }
    state.chosen = k;
    changed();
  });
  on("add", "click", () => {
    const { state, ground } = model, entry = { rule: $("another").value, hypers: {} };
    if ("lr" in hypersOf(entry)) entry.hypers.lr = Number(bestRate(ground, entry, state.start, state.steps, state.noise, state.seed).toPrecision(4));
    state.entries.push(entry);
    state.chosen = state.entries.length - 1;
    edited();
  });
  on("best", "click", () => {
    const { state, ground } = model;
    setHyper("lr", Number(bestRate(ground, state.entries[state.chosen], state.start, state.steps, state.noise, state.seed).toPrecision(4)));
  });
  on("hypers", "input", (e) => {
    const { name, slider } = e.target.dataset, about = DATA.rules[model.state.entries[model.state.chosen].rule];
    const hyper = about.hypers.find((h) => h.name === (name ?? slider));
    if (slider) return setHyper(slider, fromSlider(hyper, Number(e.target.value)));
    if (hyper.flag) return setHyper(name, e.target.checked);
    const value = readHyper(hyper, e.target.value), error = document.querySelector(`[data-error="${name}"]`);
    error.textContent = value === null ? t("Expected {0}.", t(hyper.range)) : "";
    if (value !== null) setHyper(name, value);
  });
  on("chosen", "change", (e) => ((model.state.chosen = Number(e.target.value)), changed()));
  on("map-kind", "change", (e) => ((model.state.map = e.target.value), changed()));
  on("play", "click", play);
  on("first", "click", () => show(0));
  on("back", "click", () => show(model.state.at - 1));
  on("forth", "click", () => show(model.state.at + 1));
  on("last", "click", () => show(model.state.steps));
  on("at", "input", (e) => show(Number(e.target.value)));
  on("png", "click", () => savePng(model));
  on("svg", "click", () => saveSvg(model));
  on("film", "click", saveFilm);
  on("copy-view", "click", () => copy($("copy-view"), waysOf(model.state)[0].text, $("ways").children[1]));
  on("whole-screen", "click", () => {
    const done = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
    done.catch(() => ($("said").textContent = t("The browser does not allow full screen here.")));
  });
  addEventListener("fullscreenchange", () => {
    showLayout();
    moved();
  });
  on("ways", "click", (e) => {
    if (e.target.dataset.k === undefined) return;
    const pre = $("ways").children[2 * e.target.dataset.k + 1];
    copy(e.target, pre.textContent, pre);
  });
  const place = (e) => {
    const box = $("plane").getBoundingClientRect();
    return model.frame.from(e.clientX - box.left, e.clientY - box.top);
  };
  // In a story a click beside a place is a miss, and no new start: that is dragged.
  listenToZoom($("plane"), (place) => !model.state.story && setStart(place));
  on("closer", "click", () => zoomAtEnd(1 / 1.6));
  on("farther", "click", () => zoomAtEnd(1.6));
  on("fit", "click", fit);
  on("whole", "click", () => setView(null));
  on("start", "pointerdown", (e) => e.target.setPointerCapture(e.pointerId));
  on("start", "pointermove", (e) => e.target.hasPointerCapture(e.pointerId) && setStart(place(e)));
  on("start", "keydown", (e) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
    if (!way) return;
    e.preventDefault();
    const share = e.shiftKey ? 0.002 : 0.02;
    setStart(model.state.start.map((v, k) => v + way[k] * share * (model.ground.window[k][1] - model.ground.window[k][0])));
  });
  const mapPlace = (e) => {
    const box = $("map").getBoundingClientRect(), inner = mapBox(box.width, box.height);
    const share = [(e.clientX - box.left - inner.left) / inner.width, 1 - (e.clientY - box.top - inner.top) / inner.height];
    return share.every((s) => s >= 0 && s <= 1) ? [map.plan.x.value(share[0]), map.plan.y.value(share[1])] : null;
  };
  // Until the map is that of the settings, a place in it means something else.
  const ready = () => map && !map.stale;
  on("map", "pointermove", (e) => ready() && (cross = mapPlace(e)) && readMap());
  on("map", "click", (e) => ready() && (cross = mapPlace(e)) && takeCross());
  on("map", "keydown", (e) => {
    if (!ready()) return;
    if (e.key === "Enter" && cross) return takeCross();
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
    if (!way) return;
    e.preventDefault();
    const { x, y, } = map.plan, [a, b] = cross ?? map.plan.here, clip = (s) => Math.min(1 - 0.5 / CELLS, Math.max(0.5 / CELLS, s));
    cross = [x.value(clip(x.share(a) + way[0] / CELLS)), y.value(clip(y.share(b) + way[1] / CELLS))];
    drawTheMap();
    readMap();
  });
  // Arrow keys step through the story, or along the path, unless they mean something where they are pressed.
  addEventListener("keydown", (e) => {
    const place = storyOf(model.state)?.places["abc".indexOf(e.key)];
    if (place && model.state.story.scene === 0 && !e.ctrlKey && !e.altKey && !e.metaKey && !e.target.closest?.("input, select, textarea")) return guess("abc".indexOf(e.key));
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (!by || e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || e.target.closest?.("input, select, textarea, pre, .wide, #legend, #map")) return;
    e.preventDefault();
    if (model.state.story) stepStory(by);
    else show(model.state.at + by);
  });
  // The event's own address: a frame that is drawn before the event comes writes the old state back into the page's.
  addEventListener("hashchange", ({ newURL }) => {
    const text = new URL(newURL).hash.slice(1);
    if (writeState(model.state) !== text) open(text);
  });
  // A page around this one says whether it is light or dark.
  addEventListener("message", ({ source, data }) => {
    if (source !== parent || source === window || !["light", "dark"].includes(data?.theme) || data.theme === model.state.theme) return;
    model.state.theme = data.theme;
    showTheme();
    changed();
  });
  const sizes = new ResizeObserver(moved);
  for (const part of [document.body, $("plane-frame"), $("values")]) sizes.observe(part);
}

async function copy(button, text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = t("Copied");
  } catch {
    getSelection().selectAllChildren(shown); // no leave to write to the clipboard: select it for the reader
    shown.scrollIntoView({ block: "nearest" });
  }
}

let filming = null;
// A second click stops it.
async function saveFilm() {
  if (filming) return filming.stop();
  try {
    filming = film(model, Number($("speed").value), (share) => ($("film").textContent = t("{0} %, stop", Math.round(100 * share))));
    const found = await filming.whole;
    if (found) save("steprule.webm", found);
  } finally {
    filming = null;
    $("film").textContent = t("Save WebM");
  }
}

// On a slide or a whole screen there is the picture with its story alone; inside another page the path comes first.
function showLayout() {
  document.documentElement.classList.toggle("slide", Boolean(model?.state.embed || document.fullscreenElement));
  document.documentElement.classList.toggle("embedded", self !== top);
  $("whole-screen").textContent = document.fullscreenElement ? t("Leave full screen") : t("Full screen");
}

for (const link of document.querySelectorAll("a[data-link]")) {
  const where = DATA.links[link.dataset.link];
  if (where) link.href = where;
  else link.remove();
}
$("film").disabled = !canFilm();
$("whole-screen").hidden = !document.fullscreenEnabled;
listen();
open(location.hash.slice(1));
