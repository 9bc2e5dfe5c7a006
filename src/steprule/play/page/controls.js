// What the controls show of the state: lists, fields, sliders, the legend, the ways out.
// The lists that depend on the language alone.
function fillLists() {
  const { state } = model;
  const option = (value, text) => `<option value="${value}">${text}</option>`;
  $("surface").innerHTML = Object.keys(SURFACES).map((n) => option(n, n.replaceAll("_", " "))).join("") + option("", t("own formula"));
  $("another").innerHTML = Object.keys(DATA.rules).map((n) => option(n, n)).join("");
  $("seed").innerHTML = Array.from({ length: SEEDS }, (_, k) => option(k, k)).join("");
  $("stories").innerHTML = DATA.stories.map((s) => `<button type="button" data-story="${s.name}" aria-pressed="false">${t(s.title)}</button>`).join("");
  $("steps").max = DATA.mostSteps;
  $("language").value = language;
  $("theme").value = state.theme;
  $("start").title = t("Drag the start, or move it with the arrow keys");
}

// A number as a field shows it: in six digits where it has more, and short enough for it. The path keeps all of them.
function written(v) {
  if (typeof v !== "number" || String(v).length <= 7) return String(v);
  const told = Number(v.toPrecision(6)), plain = String(told), short = told.toExponential();
  return short.length < plain.length ? short : plain;
}

// A value into a control, unless somebody is typing there.
function put(id, value) {
  if (document.activeElement !== $(id)) $(id).value = written(value);
}

function showControls() {
  const { state, ground } = model, own = !has(SURFACES, state.surface);
  put("surface", own ? "" : state.surface);
  $("formula-row").style.display = own ? "" : "none";
  if (own) put("formula", state.surface);
  else $("formula-error").textContent = "";
  $("surface-shown").innerHTML = own ? "" : DATA.maths[ground.shown];
  put("start-x", state.start[0]);
  put("start-y", state.start[1]);
  put("steps", state.steps);
  put("noise", state.noise);
  put("seed", state.seed);
  $("at").max = state.steps;
  $("start").setAttribute("aria-label", t("Start: x {0}, y {1}. Drag it, or move it with the arrow keys.", shown(state.start[0]), shown(state.start[1])));
  showStory();
  const focused = document.activeElement?.dataset?.focus;
  $("entries").innerHTML = state.entries
    .map(
      (e, k) =>
        `<li><button type="button" class="choose" data-k="${k}" data-focus="choose${k}" aria-pressed="${k === state.chosen}">${swatchOf(k)}${escaped(nameOf(e))}</button>` +
        `<button type="button" class="remove" data-k="${k}" data-focus="remove${k}" aria-label="${escaped(t("Remove {0}", nameOf(e)))}" ${state.entries.length > 1 ? "" : "disabled"}>✕</button></li>`,
    )
    .join("");
  if (focused) document.querySelector(`[data-focus="${focused}"]`)?.focus();
  $("add").disabled = state.entries.length >= DATA.mostRules;
  const chosen = $("chosen");
  chosen.innerHTML = state.entries.map((e, k) => `<option value="${k}">${escaped(nameOf(e))}</option>`).join("");
  chosen.value = state.chosen;
  showHypers();
  const options = [["start", t("the start point")], ...seconds(state.entries[state.chosen].rule).map((h) => [h.name, `lr × ${h.name}`])];
  if (!options.some(([v]) => v === state.map)) state.map = "start";
  $("map-kind").innerHTML = options.map(([v, text]) => `<option value="${v}">${text}</option>`).join("");
  $("map-kind").value = state.map;
  showWays();
}

const swatchOf = (k) => `<svg width="30" height="10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" stroke="${model.looks[k].colour}" stroke-width="3" stroke-dasharray="${model.looks[k].dash.join(" ")}"/></svg>`;

function showLegend() {
  const lines = model.labels.map((label, k) => (model.hidden.has(k) ? "" : swatchOf(k) + escaped(label))).filter(Boolean);
  const [x, y] = viewOf(model), near = ([a, b]) => a >= x[0] && a <= x[1] && b >= y[0] && b <= y[1];
  const track = model.walks.some((w, k) => w.stepper.twoPoints && !model.hidden.has(k));
  const marks = [track ? `<span class="track" aria-hidden="true"></span> ${t("where the model is read")}` : "", near(model.state.start) ? `○ ${t("start")}` : "", model.ground.minima.length ? `★ ${t("minimum")}` : "", `${t("low")} <span class="slope" aria-hidden="true"></span> ${t("high")}`];
  $("legend").innerHTML = [...lines, ...marks.filter(Boolean)].map((item) => `<li>${item}</li>`).join("");
}

// The chosen rule's controls are built once for each rule and kept, so that a slider in the hand stays there.
function showHypers() {
  const { state } = model, entry = state.entries[state.chosen], about = DATA.rules[entry.rule], all = hypersOf(entry);
  const key = `${entry.rule} ${state.chosen} ${language}`;
  $("hypers-title").textContent = entry.rule;
  $("summary").textContent = t(about.summary);
  $("best").hidden = !("lr" in all);
  const letters = lettersOf(about.variants[variantOf(entry.rule, all)]);
  if ($("hypers").dataset.key !== key) {
    $("hypers").dataset.key = key;
    $("hypers").innerHTML = about.hypers
      .map((h) => {
        const meaning = `<span class="meaning">${escaped(t(h.meaning))}</span>`;
        if (h.flag) return `<div class="hyper"><label class="check"><input type="checkbox" data-name="${h.name}"> <code>${h.name}</code></label> ${meaning}</div>`;
        const slider = h.scale ? `<input type="range" min="0" max="1000" data-slider="${h.name}" aria-label="${t("{0}, slider", h.name)}">` : "";
        return `<div class="hyper"><div><span data-letter="${h.name}"></span> <code>${h.name}</code> ${meaning}</div><div class="row">${slider}<input type="number" step="any" data-name="${h.name}" aria-label="${h.name}"></div><p class="error" data-error="${h.name}" role="alert"></p></div>`;
      })
      .join("");
  }
  for (const h of about.hypers) {
    const field = document.querySelector(`[data-name="${h.name}"]`), slider = document.querySelector(`[data-slider="${h.name}"]`);
    if (h.flag) field.checked = all[h.name];
    else if (document.activeElement !== field) field.value = written(all[h.name]);
    const letter = document.querySelector(`[data-letter="${h.name}"]`);
    if (letter) letter.innerHTML = letters[h.name] ?? "";
    if (!slider) continue;
    if (document.activeElement !== slider) slider.value = sliderOf(h, all[h.name]);
    slider.setAttribute("aria-valuetext", shown(all[h.name]));
  }
}
// On a logarithmic slider the lowest place is 0 where 0 is allowed to switch something off.
const sliderOf = (h, v) => (h.switches && v === 0 ? 0 : Math.round(1000 * shareOf(h, v)));
const fromSlider = (h, place) => (h.switches && place === 0 ? 0 : Number(valueAt(h, place / 1000).toPrecision(4)));

function setHyper(name, value) {
  const entry = model.state.entries[model.state.chosen], { default: usual } = DATA.rules[entry.rule].hypers.find((h) => h.name === name);
  if (value === usual) delete entry.hypers[name];
  else entry.hypers[name] = value;
  edited();
}

function showWays() {
  const ways = waysOf(model.state);
  if ($("ways").childElementCount !== ways.length * 2) {
    $("ways").innerHTML = ways.map((_, k) => `<div class="row"><strong></strong><button type="button" data-k="${k}"></button></div><pre tabindex="0"></pre>`).join("");
  }
  ways.forEach(({ title, text }, k) => {
    const [head, pre] = [$("ways").children[2 * k], $("ways").children[2 * k + 1]];
    head.firstChild.textContent = title;
    head.lastChild.textContent = t("Copy");
    head.lastChild.setAttribute("aria-label", t("Copy: {0}", title));
    pre.textContent = text;
  });
}
