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
    return cutShort([t(DATA.rules[entry.rule].title), ...said].join(" "));
  });
}

const LETTERS = 24;
const cutShort = (text) => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);

// The room that the longest name takes beside a chart.
function widthOfLabels(pen, { labels, hidden }) {
  pen.font = LABEL.font;
  return LABEL.gap + 4 + Math.max(0, ...labels.filter((_, k) => !hidden.has(k)).map((label) => pen.measureText(label).width));
}

// items: {k, place}, where line k ends. A label stands to the right of it, or to the left where there is no room; from above
// downwards each keeps clear of those before it, and all move up where the last one has no room.
function drawLabels(pen, box, items, { looks, labels }, paint, covered = []) {
  const [right, bottom] = [box.left + box.width, box.top + box.height], placed = [...covered];
  pen.font = LABEL.font;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const seen = items.filter(({ place: [x, y] }) => x >= box.left && x <= right && y >= box.top && y <= bottom);
  const own = seen.sort((a, b) => a.place[1] - b.place[1]).map(({ k, place }) => {
    const width = pen.measureText(labels[k]).width, beside = place[0] + LABEL.gap;
    const label = { k, width, x: Math.max(box.left + 3, beside + width < right - 3 ? beside : place[0] - LABEL.gap - width), y: Math.max(box.top + 9, place[1]) };
    for (let other; (other = placed.find((p) => meet(p, label))); ) label.y = other.y + LABEL.height;
    placed.push(label);
    return label;
  });
  own.toReversed().reduce((below, label) => {
    label.y = Math.min(label.y, below && meet(label, below) ? below.y - LABEL.height : bottom - 9);
    return label;
  }, null);
  for (const { k, x, y } of own) {
    pen.lineWidth = 3.5;
    pen.strokeStyle = paint.paper;
    pen.strokeText(labels[k], x, y);
    pen.fillStyle = paint.dark ? looks[k].colour : darker(looks[k].colour);
    pen.fillText(labels[k], x, y);
  }
}
const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && Math.abs(a.y - b.y) < LABEL.height - 0.01;
const darker = (colour) => toned(colour, 0, 0.35);
