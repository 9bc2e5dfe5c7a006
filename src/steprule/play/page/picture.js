// The picture as a file: plane, curves and legend on one sheet, for PNG and SVG alike.
const SHEET = { width: 1240, height: 760 };

function drawSheet(pen, model, paint) {
  const { ground, walks, looks, state, hidden } = model;
  pen.fillStyle = paint.paper;
  pen.fillRect(0, 0, SHEET.width, SHEET.height);
  pen.fillStyle = paint.ink;
  pen.font = "16px system-ui, sans-serif";
  pen.textAlign = "left";
  pen.textBaseline = "top";
  const drawn = state.entries.some((entry) => DATA.rules[entry.rule].draws);
  const noise = state.noise || drawn ? t(", gradient noise {0}, seed {1}", shown(state.noise), state.seed) : "";
  pen.fillText(t("{0}, {1} steps from ({2}, {3})", ground.name.replaceAll("_", " "), state.steps, shown(state.start[0]), shown(state.start[1])) + noise, 46, 12);
  const rows = Math.ceil(walks.length / 3), high = SHEET.height - 40 - 22 * rows - 14;
  const frame = frameOf(state.view ?? ground.window, 760, high + 40, { top: 44 });
  drawPlane(pen, frame, model, state.at, paint);
  inside(pen, frame.box, () => drawStart(pen, frame.to(state.start)));
  const third = (high - 4) / 3;
  chartsOf(model).forEach(({ series, title }, k) => {
    const box = { left: 850, top: 44 + k * third, width: 375, height: third - 48 };
    pen.save();
    pen.translate(785, 0);
    drawCurves(pen, { ...box, left: box.left - 785 }, series, model, { steps: state.steps, at: state.at, title, paint });
    pen.restore();
  });
  walks.forEach((walk, k) => {
    if (hidden.has(k)) return;
    const x = 50 + (k % 3) * 395, y = high + 56 + 22 * Math.floor(k / 3);
    pen.strokeStyle = looks[k].colour;
    pen.lineWidth = 3;
    pen.setLineDash(looks[k].dash);
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + 32, y);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = paint.ink;
    pen.font = "13px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    const read = walk.stepper.twoPoints ? ` (${t("faint: where the model is read")})` : "";
    pen.fillText(nameOf(walk.entry) + read, x + 40, y);
  });
}

// The three charts beside the plane: their lines and the titles of their axes.
function chartsOf({ walks, ground }) {
  return [
    { id: "values", series: walks.map((w) => heightsOf(w, ground)), title: t("value above minimum") },
    { id: "rate-x", series: walks.map((w) => ratesOf(w, 0)), title: t("effective step size, x") },
    { id: "rate-y", series: walks.map((w) => ratesOf(w, 1)), title: t("effective step size, y") },
  ];
}

// A rule with what was set of it: adam lr 0.4, beta1 0.5.
function nameOf({ rule, hypers }) {
  const set = Object.entries(hypers).map(([n, v]) => (typeof v === "boolean" ? (v ? n : `${n} ${t("off")}`) : `${n} ${shown(v, 3)}`));
  return [rule, set.join(", ")].filter(Boolean).join("  ");
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function saveSvg(model) {
  const pen = new SvgPen(SHEET.width, SHEET.height);
  drawSheet(pen, model, colours());
  save("steprule.svg", new Blob([pen.text()], { type: "image/svg+xml" }));
}

function savePng(model) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = 2 * SHEET.width;
  canvas.height = 2 * SHEET.height;
  pen.scale(2, 2);
  drawSheet(pen, model, colours());
  canvas.toBlob((blob) => save("steprule.png", blob));
}
