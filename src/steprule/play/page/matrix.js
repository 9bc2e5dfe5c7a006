// The page at work: each change of a setting trains anew, each change of the step draws.
const problems = [];
const lives = Object.entries(DATA.rules).map(([rule, about]) => ({ rule, about, lr: about.lr, on: about.shown, run: null }));
let [steps, schedule, at, which, stopMotion, tuning] = [DATA.opening, Object.keys(DATA.schedules)[0], null, null, null, false];
const SECONDS = 2.5; // that a training takes to be watched

const on = () => lives.filter((l) => l.on);
const nameOf = (live) => t(live.about.title);
const entryOf = (live) => ({ rule: live.rule, hypers: live.lr === null ? {} : { lr: live.lr } });

// What stands in the address; what cannot be read is said.
function readAddress() {
  const known = [...lives.map((l) => l.rule), "steps", "schedule", "at", "which", "lang", "theme"];
  const given = lives.filter((l) => lookedAt.has(l.rule));
  const read = (name, fits, otherwise) => {
    if (!lookedAt.has(name)) return otherwise;
    const said = lookedAt.get(name), value = said.trim() && Number.isFinite(Number(said)) ? Number(said) : said;
    if (fits(value)) return value;
    problems.push(() => t("{0} cannot be {1}.", name, said || t("empty")));
    return otherwise;
  };
  for (const name of lookedAt.keys()) if (!known.includes(name)) problems.push(() => t("An address of this page has no {0}.", name));
  for (const live of lives) {
    if (given.length) live.on = given.includes(live);
    const { rates } = live.about;
    live.lr = read(live.rule, (v) => !rates.length || (v >= rates[0] && v <= rates.at(-1)), live.lr);
    if (!rates.length) live.lr = null;
  }
  steps = read("steps", (v) => DATA.steps.includes(v), steps);
  schedule = read("schedule", (v) => has(DATA.schedules, v), schedule);
  at = read("at", (v) => Number.isInteger(v) && v >= 0 && v <= steps, null) ?? steps;
  which = read("which", (v) => has(DATA.rules, v), null);
}
const kept = () => [...on().map((l) => [l.rule, l.lr ?? ""]), ["steps", steps], ["schedule", schedule], ...(at < steps ? [["at", at]] : []), ["which", which]];

// Train those that are shown and have no training; one whose rate nobody gave takes its best.
function trainAll() {
  for (const live of on()) {
    if (live.lr === null && live.about.rates.length) live.lr = bestRate(live.rule, steps, schedule);
    live.run ??= train(entryOf(live), steps, schedule);
  }
}

const atOf = ({ run }) => Math.min(at, run.read.length - 1);
function draw() {
  const paint = colours(), some = on(), looks = looksOf(some, paint.dark), { pen, width, height } = penOf($("curves"));
  const model = { looks, labels: some.map((l) => cutShort(nameOf(l))), hidden: new Set() };
  const box = { left: 58, top: 8, width: width - 66, height: height - 48 };
  drawCurves(pen, box, some.map((l) => l.run.losses), model, { steps, at, title: t("loss: half the weighted squared error"), paint, few: Infinity });
  $("curves").setAttribute("aria-label", t("Loss after {0} steps: {1}", at, some.map((l) => `${nameOf(l)} ${shown(l.run.losses[atOf(l)], 3)}`).join("; ")));
  drawCard("target", t("the target"), TARGET, paint.soft, paint);
  some.forEach((live, k) => {
    const loss = live.run.losses[atOf(live)];
    $(`loss-${live.rule}`).textContent = t("loss {0}", shown(loss, 3));
    drawCard(live.rule, nameOf(live), live.run.read[atOf(live)], looks[k].colour, paint);
  });
  $("at").value = at;
  $("at-shown").textContent = `${at} / ${steps}`;
  $("matrices-title").textContent = t("W and its singular values after step {0}", at);
}
function drawCard(id, name, W, colour, paint) {
  drawWeights($(`card-${id}`), W, colour, paint);
  $(`card-${id}`).setAttribute("aria-label", t("{0}: singular values {1}", name, singularValues(W).map((v) => shown(v, 2)).join(", ")));
}

function showState() {
  $("play").textContent = stopMotion ? t("Pause") : t("Play");
  $("best").textContent = tuning ? t("Searching …") : t("Best rates");
  $("best").disabled = tuning;
  const said = problems.map((say) => say()), lost = on().filter((l) => l.run.divergedAt !== null);
  if (!on().length) said.push(t("Choose a rule."));
  if (lost.length) said.push(t("Diverged: {0}. The steps overshoot more each time; a smaller learning rate would stay.", lost.map((l) => t("{0} is not finite from step {1}", nameOf(l), l.run.divergedAt)).join("; ")));
  if ($("said").textContent !== said.join(" ")) $("said").textContent = said.join(" ");
}

// What a choice changes, where the cards stay.
function showSettings() {
  for (const live of on().filter((l) => l.lr !== null)) {
    const { rates } = live.about, slider = $(`rate-${live.rule}`);
    const nearest = rates.reduce((best, r, k) => (Math.abs(Math.log(r / live.lr)) < Math.abs(Math.log(rates[best] / live.lr)) ? k : best), 0);
    if (document.activeElement !== slider || Number(slider.value) !== nearest) slider.value = nearest;
    slider.setAttribute("aria-valuetext", shown(live.lr, 3));
    $(`shown-${live.rule}`).textContent = shown(live.lr, 3);
  }
  [$("steps").value, $("schedule").value, $("at").max] = [steps, schedule, steps];
  const some = on();
  if (some.length && !some.some((l) => l.rule === which)) which = (some.find((l) => l.rule === "muon") ?? some[0]).rule;
  $("which").innerHTML = some.map((l) => `<option value="${l.rule}">${escaped(nameOf(l))}</option>`).join("");
  $("which").value = which;
  const live = lives.find((l) => l.rule === which), { about } = live;
  const set = Object.entries({ ...about.given, ...entryOf(live).hypers }).map(([n, v]) => ` --set ${n}=${v}`).join("");
  $("summary").textContent = t(about.summary);
  $("formula").innerHTML = about.formula.map((k) => `<div>${DATA.maths[k]}</div>`).join("");
  $("command").textContent = `steprule train ${about.spec} --on ${DATA.spec} --epochs ${steps} --schedule ${schedule}${set}`;
}

function swatchOf({ colour, dash }) {
  return `<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="${colour}" stroke-width="3" stroke-dasharray="${dash.join(" ")}"/></svg>`;
}

// All of the page anew: in another language, other colours, with other rules.
function showAll() {
  dress("A matrix learns");
  trainAll();
  const some = on(), dark = colours().dark, looks = looksOf(some, dark), own = looksOf(lives, dark);
  const lookOf = (live) => looks[some.indexOf(live)] ?? own[lives.indexOf(live)];
  const [first, last] = [DATA.shares[0], DATA.shares.at(-1)].map((share) => Math.round(100 * share));
  $("intro").textContent = t("A matrix W of {0} x {0} shall map each of {0} keys to its value: an associative memory. Keys come with frequencies that fall as 1/i²: the first in {1} of cases, the last in {2}. The loss is half the squared error, each pair weighted by its frequency, and every step sees its exact gradient.", SIZE, `${first}\u00a0%`, `${last}\u00a0%`);
  $("choices").innerHTML = lives.map((l) => `<label><input id="on-${l.rule}" type="checkbox"${l.on ? " checked" : ""}> ${swatchOf(lookOf(l))} ${escaped(nameOf(l))}</label>`).join("");
  const card = (id, name, head, foot) => `<li><h3>${head} ${escaped(name)}</h3><canvas id="card-${id}" role="img"></canvas>${foot}</li>`;
  const slider = (l) => {
    const loss = `<span id="loss-${l.rule}"></span>`, named = escaped(t("{0}: learning rate", nameOf(l)));
    return l.lr === null ? `<p>${loss}</p>` : `<p>${loss}<input id="rate-${l.rule}" type="range" min="0" max="${l.about.rates.length - 1}" step="1" aria-label="${named}"><output id="shown-${l.rule}" for="rate-${l.rule}"></output></p>`;
  };
  $("cards").innerHTML = card("target", t("the target"), "", "") + some.map((l) => card(l.rule, nameOf(l), swatchOf(lookOf(l)), slider(l))).join("");
  $("steps").innerHTML = DATA.steps.map((n) => `<option value="${n}">${t("{0} steps", n)}</option>`).join("");
  $("schedule").innerHTML = Object.keys(DATA.schedules).map((n) => `<option value="${n}">${n === "linear" ? t("falls to zero") : t("constant")}</option>`).join("");
  [$("lowest").textContent, $("highest").textContent] = [t("weight {0}", -WIDEST), String(WIDEST)];
  showSettings();
  showState();
  draw();
}

// After a change of settings: `changed` are those that train anew.
function edited(changed) {
  problems.length = 0;
  for (const live of changed) live.run = null;
  stop();
  trainAll();
  showSettings();
  showState();
  draw();
  remember();
}

function stop() {
  if (stopMotion) cancelAnimationFrame(stopMotion);
  stopMotion = null;
}
// From the step that is shown, or from the start.
function play() {
  const first = at >= steps ? 0 : at, began = performance.now();
  const frame = (now) => {
    const share = Math.max(0, now - began) / (1000 * SECONDS); // a frame's time may lie before the click
    at = Math.min(steps, first + Math.floor(share * steps));
    stopMotion = at < steps ? requestAnimationFrame(frame) : null;
    draw();
    if (!stopMotion) showState(), remember();
  };
  stopMotion = requestAnimationFrame(frame);
  showState();
}
function show(step) {
  stop();
  at = Math.min(steps, Math.max(0, step));
  showState();
  draw();
  remember();
}

// One rule after the other, so that the page answers meanwhile.
async function tuneAll() {
  tuning = true;
  showState();
  for (const live of on().filter((l) => l.about.rates.length)) {
    await new Promise((r) => setTimeout(r));
    live.lr = bestRate(live.rule, steps, schedule);
  }
  tuning = false;
  edited(on());
}

$("play").addEventListener("click", () => (stopMotion ? show(at) : play()));
$("back").addEventListener("click", () => show(at - 1));
$("forth").addEventListener("click", () => show(at + 1));
$("at").addEventListener("input", (e) => show(Number(e.target.value)));
$("best").addEventListener("click", tuneAll);
$("steps").addEventListener("change", (e) => {
  const wasAtEnd = at === steps;
  steps = Number(e.target.value);
  at = wasAtEnd ? steps : Math.min(at, steps);
  edited(lives);
});
$("schedule").addEventListener("change", (e) => ((schedule = e.target.value), edited(lives)));
$("which").addEventListener("change", (e) => ((which = e.target.value), showSettings(), remember()));
$("choices").addEventListener("change", (e) => {
  const live = lives.find((l) => `on-${l.rule}` === e.target.id);
  live.on = e.target.checked;
  stop();
  problems.length = 0;
  showAll();
  $(e.target.id).focus();
  remember();
});
$("cards").addEventListener("input", (e) => {
  const live = lives.find((l) => `rate-${l.rule}` === e.target.id);
  live.lr = live.about.rates[Number(e.target.value)];
  edited([live]);
});
readAddress();
frame(showAll, kept);
new ResizeObserver(draw).observe($("curves"));
if (!calm() && at === steps) play();
