// Names at the ends of lines, moved apart where they would lie on each other.
const LABEL = { font: "600 12.5px system-ui, sans-serif", height: 15, gap: 10 };

// What each line is called: the story's word, or the rule's title with the settings that tell it from others of its rule.
function labelsOf(state) {
  const story = storyOf(state);
  if (story) return story.labels.map((label) => t(label));
  return state.entries.map((entry) => {
    const alike = state.entries.filter((e) => e.rule === entry.rule).map(hypersOf);
    const telling = Object.entries(hypersOf(entry)).filter(([name, v]) => alike.some((other) => other[name] !== v));
    const said = telling.map(([name, v]) => (v === true ? name : v === false ? `${name} ${t("off")}` : `${name} ${shown(v, 3)}`));
    return [t(DATA.rules[entry.rule].title), ...said].join(" ");
  });
}

// The room that the longest name takes beside a chart.
function widthOfLabels(pen, { labels, hidden }) {
  pen.font = LABEL.font;
  return LABEL.gap + 4 + Math.max(0, ...labels.filter((_, k) => !hidden.has(k)).map((label) => pen.measureText(label).width));
}

// items: {k, place}, where line k ends. A label stands to the right of it, or to the left where there is no room.
function drawLabels(pen, box, items, { looks, labels }, paint, covered = []) {
  const [right, bottom] = [box.left + box.width, box.top + box.height], placed = [...covered];
  pen.font = LABEL.font;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const seen = items.filter(({ place: [x, y] }) => x >= box.left && x <= right && y >= box.top && y <= bottom);
  for (const { k, place } of seen.sort((a, b) => a.place[1] - b.place[1])) {
    const width = pen.measureText(labels[k]).width, beside = place[0] + LABEL.gap;
    const x = Math.max(box.left + 3, beside + width < right - 3 ? beside : place[0] - LABEL.gap - width);
    const taken = placed.filter((p) => x < p.x + p.width && p.x < x + width);
    const free = (y) => taken.every((p) => Math.abs(p.y - y) >= LABEL.height);
    const clip = (y) => Math.min(bottom - 9, Math.max(box.top + 9, y));
    const steps = Array.from({ length: 2 * taken.length + 8 }, (_, j) => clip(place[1] + LABEL.height * Math.ceil(j / 2) * (j % 2 ? 1 : -1)));
    const y = steps.find(free) ?? clip(place[1]);
    placed.push({ x, y, width });
    pen.lineWidth = 3.5;
    pen.strokeStyle = paint.paper;
    pen.strokeText(labels[k], x, y);
    pen.fillStyle = paint.dark ? looks[k].colour : darker(looks[k].colour);
    pen.fillText(labels[k], x, y);
  }
}
const darker = (colour) => toned(colour, 0, 0.35);
