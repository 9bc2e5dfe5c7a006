// The page at work: controls change what runs; each frame takes every training to its next point and draws.
const FRAME = 9; // milliseconds that trainings take at most before the page answers, where nothing is drawn on the way
const problems = [];
const lives = DATA.runs.map((run) => new Live(run));
let [batch, seed, wing, which, playing, ticks, frames] = [DATA.batch, 0, 0, 0, false, false, []];

// What stands in the address; what cannot be read is said.
function readAddress() {
  const names = DATA.runs.map((r) => r.label), known = [...names, "batch", "seed", "wing", "lang", "theme"];
  const given = [...lookedAt.keys()].filter((name) => names.includes(name));
  const number = (name, fits, otherwise) => {
    if (!lookedAt.has(name)) return otherwise;
    const v = Number(lookedAt.get(name));
    if (lookedAt.get(name).trim() && fits(v)) return v;
    problems.push(() => t("{0} cannot be {1}.", name, lookedAt.get(name) || t("empty")));
    return otherwise;
  };
  const below = (limit) => (v) => Number.isInteger(v) && v >= 0 && v < limit;
  for (const name of lookedAt.keys()) if (!known.includes(name)) problems.push(() => t("An address of this page has no {0}.", name));
  for (const live of lives) {
    if (given.length) live.on = given.includes(live.run.label);
    live.lr = number(live.run.label, (v) => v >= DATA.rates[0] && v <= DATA.rates.at(-1), live.lr);
  }
  batch = number("batch", (v) => DATA.batches.includes(v), batch);
  seed = number("seed", below(DATA.seeds), seed);
  wing = number("wing", below(DATA.wings.length), wing);
}
const kept = () => [...lives.filter((l) => l.on).map((l) => [l.run.label, l.lr]), ["batch", batch], ["seed", seed], ["wing", wing]];

const on = () => lives.filter((l) => l.on);
const nameOf = (live) => t(live.run.title);
function lookOf({ run }, paint) {
  return { colour: paint.dark ? toned(run.colour, 255, 0.45) : run.colour, dash: run.dash };
}

// From the first weights, with the settings as they are.
function begin() {
  const order = orderOf(seed);
  for (const live of on()) live.begin(seed, batch, order);
  frames = [];
}
function restart() {
  begin();
  play();
  remember();
}
function play() {
  if (on().every((l) => l.done)) begin();
  playing = on().length > 0;
  showState();
  if (!ticks) tick();
}
function tick() {
  ticks = true;
  requestAnimationFrame((now) => {
    ticks = false;
    frames.push(now);
    const began = performance.now();
    do {
      if (playing) for (const live of on()) live.advance();
      if (on().every((l) => l.done)) playing = false;
    } while (playing && calm() && performance.now() - began < FRAME);
    // For who wants nothing to move, the picture comes when all is trained.
    if (!playing || !calm()) draw();
    showState();
    if (playing) tick();
  });
}

function draw() {
  const paint = colours(), shownLives = on(), looks = shownLives.map((l) => lookOf(l, paint)), labels = shownLives.map(nameOf);
  drawLosses($("curves"), shownLives, looks, labels, paint);
  drawFit($("fit"), wingOf(wing), shownLives.map((l, k) => ({ p: l.training.p, look: looks[k] })), paint);
}

// What changes while it runs.
function showState() {
  const shownLives = on(), seen = Math.max(0, ...shownLives.map((l) => l.training.seen)), done = shownLives.every((l) => l.done);
  $("run").textContent = playing ? t("Pause") : done ? t("Once more") : seen ? t("Go on") : t("Train");
  $("progress").textContent = t("pass {0} of {1}", (seen / COUNT).toFixed(1), DATA.epochs);
  for (const live of lives) {
    const loss = live.on ? live.loss : null;
    $(`loss-${live.run.label}`).textContent = loss === null ? "" : live.divergedAt !== null ? t("diverged") : digits(loss, 4);
  }
  const lost = shownLives.filter((l) => l.divergedAt !== null);
  const said = problems.map((say) => say());
  if (!shownLives.length) said.push(t("Choose a rule."));
  if (lost.length) said.push(t("Diverged: {0}. The steps overshoot more each time; a smaller learning rate would stay.", lost.map((l) => t("{0} has run away by step {1}", nameOf(l), l.divergedAt)).join("; ")));
  if ($("said").textContent !== said.join(" ")) $("said").textContent = said.join(" ");
  const ends = shownLives.map((l) => `${nameOf(l)} ${digits(l.loss, 4)}`).join("; ");
  if (playing) return;
  $("curves").setAttribute("aria-label", t("Loss after {0} passes: {1}", (seen / COUNT).toFixed(1), ends));
  $("fit").setAttribute("aria-label", t("Sound level against frequency, measured and by each network: {0}", wingInWords(wing)));
}
const digits = (v, n) => (Number.isFinite(v) ? v.toFixed(n) : shown(v));

// What a choice changes.
function showSettings() {
  const at = (live) => DATA.rates.reduce((best, r, k) => (Math.abs(Math.log(r / live.lr)) < Math.abs(Math.log(DATA.rates[best] / live.lr)) ? k : best), 0);
  for (const live of lives) {
    const of = (id) => $(`${id}-${live.run.label}`);
    of("on").checked = live.on;
    of("rate").value = at(live);
    of("rate").disabled = !live.on;
    of("rate").setAttribute("aria-valuetext", shown(live.lr, 3));
    of("shown").textContent = shown(live.lr, 3);
  }
  $("intro").textContent = t("On a plane a rule moves two numbers. Here the same rules, by the same printed steps, move the {0} weights and biases of a network of {1} units, by batches of {2} of 1,500 measurements: how loud is a wing?", NETWORK.parameters, DATA.sizes[1], batch);
  $("batch").value = DATA.batches.indexOf(batch);
  $("batch").setAttribute("aria-valuetext", String(batch));
  $("batch-shown").textContent = t("{0}: {1} steps a pass", batch, Math.ceil(COUNT / batch));
  $("seed").textContent = t("Another seed (now {0})", seed);
  $("wing").value = wing;
  const some = on();
  $("which").innerHTML = some.map((l) => `<option value="${lives.indexOf(l)}">${escaped(nameOf(l))}</option>`).join("");
  if (some.length && !some.includes(lives[which])) which = lives.indexOf(some[0]);
  $("which").value = which;
  const { run, lr } = lives[which], set = Object.entries({ ...run.given, lr }).map(([n, v]) => ` --set ${n}=${v}`).join("");
  $("command").textContent = some.length ? `steprule train ${run.rule} --on ${DATA.spec} --seed ${seed} --batch-size ${batch}${set}` : "";
  // A race needs two, and tunes momentum itself: gradient descent with it is no other rule there.
  const raced = [...new Set(some.map((l) => l.run.rule))];
  for (const rule of ["sgd", "adam"]) if (raced.length < 2 && !raced.includes(rule)) raced.push(rule);
  $("race-command").textContent = `steprule race ${raced.join(" ")} --on airfoil-mlp`;
}

function showAll() {
  dress("A network learns");
  const paint = colours(), dashed = (d) => (d.length ? ` stroke-dasharray="${d.join(" ")}"` : "");
  $("runs").innerHTML = lives.map((l) => {
    const { label } = l.run, look = lookOf(l, paint), name = escaped(nameOf(l));
    const line = `<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="${look.colour}" stroke-width="2.5"${dashed(look.dash)}/></svg>`;
    return `<li><label><input id="on-${label}" type="checkbox"> ${line} ${name}</label><input id="rate-${label}" type="range" min="0" max="${DATA.rates.length - 1}" step="1" aria-label="${escaped(t("{0}: learning rate", nameOf(l)))}"><output id="shown-${label}" for="rate-${label}"></output><span id="loss-${label}"></span></li>`;
  }).join("");
  $("wing").innerHTML = DATA.wings.map((_, k) => `<option value="${k}">${wingInWords(k)}</option>`).join("");
  $("batch").max = DATA.batches.length - 1;
  for (const live of lives) {
    const { label } = live.run;
    $(`on-${label}`).addEventListener("change", (e) => {
      live.on = e.target.checked;
      edited();
    });
    $(`rate-${label}`).addEventListener("input", (e) => {
      live.lr = DATA.rates[Number(e.target.value)];
      edited();
    });
  }
  showSettings();
  showState();
  draw();
}

function edited() {
  problems.length = 0;
  showSettings();
  restart();
}

$("run").addEventListener("click", () => {
  if (!playing) return play();
  playing = false;
  draw();
  showState();
});
$("again").addEventListener("click", restart);
$("seed").addEventListener("click", () => ((seed = (seed + 1) % DATA.seeds), edited()));
$("batch").addEventListener("input", (e) => {
  batch = DATA.batches[Number(e.target.value)];
  edited();
});
$("wing").addEventListener("change", (e) => ((wing = Number(e.target.value)), draw(), showState(), remember()));
$("which").addEventListener("change", (e) => ((which = Number(e.target.value)), showSettings()));
new ResizeObserver(draw).observe($("curves"));
readAddress();
begin();
frame(showAll, kept);
if (!calm()) play();
