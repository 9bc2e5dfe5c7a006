// Stories: a question with places to click, then scenes that play by themselves, each with one sentence.
let stopMotion = null; // what ends the motion or the wait that is under way

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const storyOf = (state) => (state.story && DATA.stories.find((s) => s.name === state.story.name)) ?? null;
// Scene 0 is the question.
const sceneOf = (story, k) => (k ? story.scenes[k - 1] : story.question);

// Calls with the share of the time that has passed, once per frame, up to 1. Returns what stops it.
function animate(seconds, frame, done) {
  const began = performance.now();
  let id = requestAnimationFrame(function next(now) {
    const share = Math.min(1, Math.max(0, (now - began) / (1000 * seconds)));
    frame(share);
    if (share === 1) return done();
    id = requestAnimationFrame(next);
  });
  return () => cancelAnimationFrame(id);
}

function halt() {
  stopMotion?.();
  stopMotion = null;
  if (model) model.coarse = false;
}

// Play scene k; then, if it goes on, the next ones, each after the time that its sentence takes to read.
function tell(k, goesOn) {
  stop();
  const { state } = model, story = storyOf(state), scene = sceneOf(story, k);
  const first = scene.begins ?? Math.min(scene.at, k > 1 ? story.scenes[k - 2].at : 0);
  const [before, after] = [viewOf(model), scene.view ?? model.ground.window], moves = JSON.stringify(before) !== JSON.stringify(after);
  state.story.scene = k;
  model.hidden = new Set(scene.hidden);
  // The step that is taken apart tells nothing of a path that is not shown.
  if (model.hidden.has(state.chosen)) state.chosen = Math.max(0, state.entries.findIndex((_, j) => !model.hidden.has(j)));
  model.goesOn = goesOn && k < story.scenes.length && !calm();
  const arrive = () => {
    halt();
    Object.assign(state, { at: scene.at, view: scene.view });
    if (model.goesOn) waitFor(readingTime(t(scene.words)), () => tell(k + 1, true)); // first, so that the buttons say Pause
    showStory();
    moved();
  };
  showControls();
  if (calm()) return arrive();
  state.at = first;
  const seconds = Math.min(3, Math.max(0.9, (scene.at - first) / 12));
  stopMotion = animate(
    seconds,
    (share) => {
      const eased = Math.min(1, 1.6 * share), smooth = eased * eased * (3 - 2 * eased);
      model.coarse = moves && eased < 1;
      state.view = moves ? before.map(([a, b], j) => [a + smooth * (after[j][0] - a), b + smooth * (after[j][1] - b)]) : scene.view;
      state.at = Math.floor(first + share * (scene.at - first));
      moved();
    },
    arrive,
  );
}

function waitFor(seconds, then) {
  const id = setTimeout(then, 1000 * seconds);
  stopMotion = () => clearTimeout(id);
}
const readingTime = (text) => 1.5 + text.length * (language === "zh" ? 0.15 : 0.045);

// The place that is nearest to where the path really was.
function rightPlace(story) {
  const [x, y] = model.walks[story.subject].points[story.asked];
  const far = story.places.map(({ at }) => Math.hypot(at[0] - x, at[1] - y));
  return far.indexOf(Math.min(...far));
}

function guess(k) {
  model.guess = k;
  tell(1, true);
  $("tell").focus();
}

// The guess beside what happened, once it has.
function verdictOf(story, scene) {
  const known = story.scenes.slice(0, scene).some(({ at, hidden }) => at >= story.asked && !hidden.includes(story.subject));
  if (model.guess === null) return "";
  if (!known) return t("Your guess: {0}.", `${"ABC"[model.guess]}, ${t(story.places[model.guess].words)}`);
  const right = rightPlace(story), said = (k) => `${"ABC"[k]}, ${t(story.places[k].words)}`;
  return model.guess === right ? t("Your guess was {0}: right.", said(right)) : t("Your guess was {0}; it is {1}.", said(model.guess), said(right));
}

// What the button below a story's sentence does next.
function tellWord(story, scene) {
  if (model.goesOn) return t("Pause");
  if (scene === 0) return t("Show me");
  return scene < story.scenes.length ? t("Go on") : t("Again");
}

// The words and buttons of the story that is told, or of none.
function showStory() {
  const { state } = model, story = storyOf(state), scene = state.story?.scene ?? 0;
  for (const b of $("stories").children) b.setAttribute("aria-pressed", String(b.dataset.story === state.story?.name));
  $("telling").hidden = !story;
  document.documentElement.classList.toggle("telling", Boolean(story));
  showLegend();
  const asked = story && scene === 0;
  if (!asked || $("places").dataset.of !== story.name) $("places").replaceChildren();
  $("places").dataset.of = story?.name ?? "";
  if (!story) return;
  $("sentence").textContent = t(sceneOf(story, scene).words);
  $("verdict").textContent = verdictOf(story, scene);
  // Built once for each story, so that the focus stays on a button.
  if ($("scenes").childElementCount !== story.scenes.length) $("scenes").innerHTML = story.scenes.map((_, k) => `<li><button type="button" data-scene="${k + 1}">${k + 1}</button></li>`).join("");
  for (const { firstChild: button } of $("scenes").children) {
    const k = Number(button.dataset.scene);
    button.setAttribute("aria-label", t("Scene {0} of {1}", k, story.scenes.length));
    if (k === scene) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  }
  showMotion();
  story.places.forEach(({ words }, k) => {
    if (scene && model.guess !== k) return;
    const there = $("places").querySelector(`[data-place="${k}"]`), button = there ?? document.createElement("button");
    Object.assign(button, { type: "button", textContent: "ABC"[k], title: t(words), disabled: scene > 0 });
    button.hidden ||= !there; // until it is placed
    button.setAttribute("aria-label", `${"ABC"[k]}: ${t(words)}`);
    button.dataset.place = k;
    if (!there) $("places").append(button);
  });
  placeGuesses();
}

// Where the picture is covered by what lies on it: {x, y, width} of a label's height each.
function takenPlaces() {
  const { frame, state } = model, story = storyOf(state);
  const round = [...$("places").children].map((button) => story.places[button.dataset.place].at);
  return [state.start, ...round].map(frame.to).flatMap(([x, y]) => [-8, 8].map((by) => ({ x: x - 16, y: y + by, width: 32 })));
}

// The places lie on the picture, where they are in the part that is shown.
function placeGuesses() {
  const story = storyOf(model.state);
  if (!story || !model.frame) return;
  const { box, to } = model.frame;
  for (const button of $("places").children) {
    const [x, y] = to(story.places[button.dataset.place].at);
    button.hidden = x < box.left || x > box.left + box.width || y < box.top || y > box.top + box.height;
    Object.assign(button.style, { left: `${x}px`, top: `${y}px` });
  }
}

function listenToStories() {
  $("stories").addEventListener("click", ({ target }) => target.dataset.story && openStory(target.dataset.story));
  $("scenes").addEventListener("click", ({ target }) => target.dataset.scene && tell(Number(target.dataset.scene), false));
  $("places").addEventListener("click", ({ target }) => target.dataset.place && guess(Number(target.dataset.place)));
  $("earlier").addEventListener("click", () => stepStory(-1));
  $("later").addEventListener("click", () => stepStory(1));
  $("tell").addEventListener("click", () => {
    const { scene } = model.state.story, last = storyOf(model.state).scenes.length;
    if (model.goesOn) return (model.goesOn = false), halt(), showStory(), moved();
    tell(scene === last ? 0 : scene + 1, scene !== last);
  });
}

function stepStory(by) {
  const { story } = model.state, last = storyOf(model.state).scenes.length;
  tell(Math.min(last, Math.max(0, story.scene + by)), false);
}

function openStory(name) {
  const { theme, language: own, embed } = model.state;
  take({ ...readState(`story=${name}`).state, theme, language: own, embed });
  tell(0, false);
}
