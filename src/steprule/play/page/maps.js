// Many paths at once: where each ends, over the start point or over the learning rate and a second hyperparameter.
const CELLS = 100;
// Viridis at five places: even steps look even, in grey too.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const BASINS = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [230, 159, 0]];
const DIVERGED = [128, 128, 128];

// A share of the way to a value of a hyperparameter, and back.
function valueAt({ low, high, scale }, share) {
  if (scale === "linear") return low + share * (high - low);
  if (scale === "complement") return 1 - (1 - low) ** (1 - share) * (1 - high) ** share;
  return low ** (1 - share) * high ** share;
}
function shareOf({ low, high, scale }, v) {
  const clip = (s) => Math.min(1, Math.max(0, Number.isNaN(s) ? 0 : s));
  if (scale === "linear") return clip((v - low) / (high - low));
  if (scale === "complement") return clip(Math.log((1 - v) / (1 - low)) / Math.log((1 - high) / (1 - low)));
  return clip(Math.log(v / low) / Math.log(high / low));
}

function seconds(rule) {
  const all = DATA.rules[rule].hypers;
  return all.some((h) => h.name === "lr") ? all.filter((h) => h.scale && h.name !== "lr") : [];
}

// What a map is over: its axes, and the path of each cell.
function planOf(state, entry) {
  const { ground } = state;
  const second = seconds(entry.rule).find((h) => h.name === state.map);
  if (!second) {
    const [[x0, x1], [y0, y1]] = ground.window;
    return {
      overStart: true,
      x: { title: t("start x"), value: (s) => x0 + s * (x1 - x0), share: (v) => (v - x0) / (x1 - x0), scale: () => scaleOf(x0, x1, false) },
      y: { title: t("start y"), value: (s) => y0 + s * (y1 - y0), share: (v) => (v - y0) / (y1 - y0), scale: () => scaleOf(y0, y1, false) },
      here: state.start,
      path: (x, y) => [entry, [x, y]],
    };
  }
  const lr = DATA.rules[entry.rule].hypers.find((h) => h.name === "lr"), now = hypersOf(entry);
  const axis = (hyper) => ({
    title: hyper.scale === "complement" ? `${hyper.name} ${t("(logarithmic in 1 - {0})", hyper.name)}` : hyper.name,
    value: (s) => valueAt(hyper, s),
    share: (v) => shareOf(hyper, v),
    scale: () => ({ at: (v) => shareOf(hyper, v), ticks: ticksOf(hyper) }),
  });
  return {
    x: axis(lr),
    y: axis(second),
    here: [now.lr, now[second.name]],
    path: (x, y) => [{ rule: entry.rule, hypers: { ...entry.hypers, lr: x, [second.name]: y } }, state.start],
  };
}
function ticksOf({ low, high, scale }) {
  if (scale === "log") return scaleOf(low, high, true, 7).ticks.filter((k) => k.value >= low * 0.999 && k.value <= high * 1.001);
  if (scale === "linear") return scaleOf(low, high, false).ticks;
  return [0, 0.5, 0.9, 0.99, 0.999, 0.9999].filter((v) => v >= low && v <= high).map((value) => ({ value, label: String(value) }));
}

// Computes in slices of a frame's time, so that the page goes on; `done(map)` at the end. Returns what stops it.
function computeMap(state, entry, done) {
  const plan = planOf(state, entry), { ground } = state;
  const ends = new Float64Array(2 * CELLS * CELLS), heights = new Float64Array(CELLS * CELLS);
  const began = performance.now();
  let cell = 0, stopped = false;
  (function slice() {
    if (stopped) return;
    const until = performance.now() + 24;
    while (cell < CELLS * CELLS && performance.now() < until) {
      const [who, start] = plan.path(plan.x.value((cell % CELLS + 0.5) / CELLS), plan.y.value((Math.floor(cell / CELLS) + 0.5) / CELLS));
      const end = endOf(ground, who, start, state.steps, state.noise, state.seed);
      heights[cell] = ground.value(end[0], end[1]) - ground.least;
      ends[2 * cell] = end[0];
      ends[2 * cell + 1] = end[1];
      cell++;
    }
    if (cell < CELLS * CELLS) setTimeout(slice, 0);
    else done({ plan, ends, heights, seconds: (performance.now() - began) / 1000 });
  })();
  return () => (stopped = true);
}

// The cell's colour: by the minimum that was reached where there are several, darker the farther away; else by the height.
function paintMap(map, ground) {
  const finite = Array.from(map.heights).filter(Number.isFinite).map((h) => Math.log10(Math.max(h, 1e-12))).sort((a, b) => a - b);
  const low = finite[0] ?? 0, high = Math.max(finite[Math.floor(0.98 * (finite.length - 1))] ?? 1, low + 1e-9);
  const basins = ground.minima.length > 1 && map.plan.overStart;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = CELLS;
  const pen = canvas.getContext("2d"), image = pen.createImageData(CELLS, CELLS);
  for (let cell = 0; cell < CELLS * CELLS; cell++) {
    const share = Math.min(1, Math.max(0, (Math.log10(Math.max(map.heights[cell], 1e-12)) - low) / (high - low)));
    let colour = DIVERGED;
    if (Number.isFinite(map.heights[cell])) {
      colour = basins ? BASINS[nearest(ground.minima, map.ends[2 * cell], map.ends[2 * cell + 1])].map((v) => v * (1 - 0.65 * share)) : mix(VIRIDIS, 1 - share);
    }
    image.data.set([...colour, 255], 4 * ((CELLS - 1 - Math.floor(cell / CELLS)) * CELLS + (cell % CELLS)));
  }
  pen.putImageData(image, 0, 0);
  return { canvas, low, high, basins };
}
function mix(stops, share) {
  const at = share * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at));
  return stops[k].map((v, c) => v + (at - k) * (stops[k + 1][c] - v));
}
function nearest(minima, x, y) {
  const far = minima.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
  return far.indexOf(Math.min(...far)) % BASINS.length;
}

function mapBox(width, height) {
  return { left: 58, top: 10, width: width - 58 - 96, height: height - 52 };
}

function drawMap(pen, width, height, map, ground, paint, cross) {
  const box = mapBox(width, height), { plan } = map;
  map.painted ??= paintMap(map, ground);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(map.painted.canvas, box.left, box.top, box.width, box.height);
  drawAxes(pen, box, { x: plan.x.scale(), y: plan.y.scale(), xTitle: plan.x.title, yTitle: plan.y.title, paint, bare: true });
  const place = ([x, y]) => [box.left + plan.x.share(x) * box.width, box.top + (1 - plan.y.share(y)) * box.height];
  drawStart(pen, place(plan.here));
  if (cross) {
    const [px, py] = place(cross);
    pen.strokeStyle = "#fff";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(px - 9, py), pen.lineTo(px + 9, py), pen.moveTo(px, py - 9), pen.lineTo(px, py + 9);
    pen.stroke();
  }
  const left = box.left + box.width + 14, { low, high, basins } = map.painted;
  pen.font = FONT;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  if (basins) {
    ground.minima.forEach(([x, y], k) => {
      pen.fillStyle = `rgb(${BASINS[k % BASINS.length].join()})`;
      pen.fillRect(left, box.top + 22 * k, 14, 14);
      pen.fillStyle = paint.ink;
      pen.fillText(`${shown(x, 2)}, ${shown(y, 2)}`, left + 19, box.top + 22 * k + 7);
    });
  } else {
    for (let k = 0; k < 60; k++) {
      pen.fillStyle = `rgb(${mix(VIRIDIS, k / 59).map(Math.round).join()})`;
      pen.fillRect(left, box.top + (k * 120) / 60, 14, 2.5);
    }
    pen.fillStyle = paint.ink;
    pen.fillText(`1e${Math.round(high)}`, left + 19, box.top + 5);
    pen.fillText(low <= -12 + 1e-9 ? "≤1e-12" : `1e${Math.round(low)}`, left + 19, box.top + 117);
  }
  pen.fillStyle = `rgb(${DIVERGED.join()})`;
  pen.fillRect(left, box.top + 136, 14, 14);
  pen.fillStyle = paint.ink;
  pen.fillText(t("diverged"), left + 19, box.top + 143);
}
