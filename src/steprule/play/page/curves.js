// Axes, and lines against the step.
const FONT = "12px system-ui, sans-serif";

// low to high as a share of the axis, with ticks at round numbers: powers of ten where it is logarithmic.
function scaleOf(low, high, logarithmic, wanted = 6) {
  if (!(high > low)) [low, high] = logarithmic ? [low / 10, low * 10] : [low - 0.5, low + 0.5];
  if (logarithmic) {
    const first = Math.floor(Math.log10(low) + 1e-9), last = Math.ceil(Math.log10(high) - 1e-9), every = Math.ceil((last - first) / wanted) || 1;
    const ticks = [];
    for (let k = first; k <= last; k += every) ticks.push({ value: 10 ** k, label: Math.abs(k) <= 2 ? shown(10 ** k) : `1e${k}` });
    const a = first, b = Math.max(last, first + 1);
    if (b - a === 1) for (const m of [2, 5]) ticks.push({ value: m * 10 ** a, label: shown(m * 10 ** a) });
    return { at: (v) => (Math.log10(v) - a) / (b - a), ticks };
  }
  const rough = (high - low) / wanted, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= rough);
  const ticks = [];
  const first = Math.ceil(low / step - 1e-9);
  for (let k = 0; k <= 2 * wanted && (first + k) * step <= high + 1e-9 * step; k++) ticks.push({ value: (first + k) * step, label: shown((first + k) * step) });
  return { at: (v) => (v - low) / (high - low), ticks };
}

function drawAxes(pen, box, { x, y, xTitle, yTitle, paint, bare = false }) {
  const bottom = box.top + box.height;
  pen.font = FONT;
  pen.setLineDash([]);
  pen.lineWidth = 1;
  pen.strokeStyle = paint.line;
  pen.fillStyle = paint.soft;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  let free = -Infinity;
  for (const { value, label } of x.ticks) {
    const px = box.left + x.at(value) * box.width, half = pen.measureText(label).width / 2;
    if (px - half > free) pen.fillText(label, px, bottom + 5), (free = px + half + 6);
    pen.beginPath();
    pen.moveTo(px, bare ? bottom : box.top);
    pen.lineTo(px, bottom + 3);
    pen.stroke();
  }
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const { value, label } of y.ticks) {
    const py = bottom - y.at(value) * box.height;
    pen.fillText(label, box.left - 6, py);
    pen.beginPath();
    pen.moveTo(box.left - 3, py);
    pen.lineTo(bare ? box.left : box.left + box.width, py);
    pen.stroke();
  }
  pen.strokeRect(box.left, box.top, box.width, box.height);
  pen.fillStyle = paint.ink;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  pen.fillText(xTitle, box.left + box.width / 2, bottom + 21);
  pen.save();
  pen.translate(12, box.top + box.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.textBaseline = "middle";
  const long = pen.measureText(yTitle).width;
  if (long > box.height) pen.font = FONT.replace("12px", `${Math.max(9, Math.floor((12 * box.height) / long))}px`);
  pen.fillText(yTitle, 0, 0);
  pen.restore();
}

// Lines of positive numbers against the step, on a logarithmic axis; a mark at the step shown, with the line's name if there are few.
const FEW = 4;
function drawCurves(pen, box, series, model, { steps, at, title, paint, least = 1e-16, few = FEW }) {
  const { looks, hidden } = model, ends = [], room = widthOfLabels(pen, model), outer = box;
  const named = series.length - hidden.size <= few && room < 0.45 * box.width;
  if (named) box = { ...box, width: box.width - room };
  const all = series.flat().filter((v) => v > 0 && v < Infinity).map((v) => Math.max(v, least));
  const low = all.length ? Math.min(...all) : 0.1, high = all.length ? Math.max(...all) : 10;
  // What runs away leaves the axis, so that the others can be read.
  const sorted = [...all].sort((a, b) => a - b), middle = sorted[Math.floor(sorted.length / 2)] ?? 1;
  const x = scaleOf(0, steps, false, 5), y = scaleOf(Math.max(low, middle * 1e-12), Math.min(high, middle * 1e8), true, 6);
  drawAxes(pen, box, { x, y, xTitle: t("step"), yTitle: title, paint });
  inside(pen, box, () => series.forEach((values, k) => {
    if (hidden.has(k)) return;
    const { colour, dash } = looks[k];
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2;
    pen.setLineDash(dash);
    pen.beginPath();
    let broken = true, last = null;
    values.forEach((v, j) => {
      if (j > at) return;
      if (!(v >= 0 && v < Infinity)) return (broken = true);
      const point = [box.left + x.at(j) * box.width, within(box.top + box.height * (1 - y.at(Math.max(v, least))))];
      pen[broken ? "moveTo" : "lineTo"](...point);
      broken = false;
      last = point;
    });
    pen.stroke();
    pen.setLineDash([]);
    if (last) ends.push({ k, place: last });
  }));
  for (const { k, place } of ends.filter(({ place: [, y] }) => y >= box.top && y <= box.top + box.height)) {
    pen.fillStyle = looks[k].colour;
    pen.beginPath();
    pen.arc(...place, 4, 0, 7);
    pen.fill();
  }
  if (named) drawLabels(pen, outer, ends, model, paint);
}

// f above the least value that is known, and in each coordinate the step over the gradient.
function heightsOf(walk, ground) {
  return walk.values.map((v) => v - ground.least);
}
function ratesOf(walk, k) {
  const rates = walk.gradients.map((g, j) => Math.abs(walk.points[j + 1][k] - walk.points[j][k]) / Math.abs(g[k]));
  return [NaN, ...rates];
}
