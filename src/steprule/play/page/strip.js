// Dots on strips: one row for each run, one dot for each seed, stacked where losses are alike; what a book printed as diamonds.
const FALL = 520; // milliseconds
// Most of the width shows where nearly all seeds end, the rest how far out the others are.
const PIECES = [{ from: 0.2413, to: 0.25, share: 0.82, fine: [0.001, 0.002], digits: 3 }, { from: 0.25, to: 0.4, share: 0.18, fine: [0.05, 0.15], digits: 2 }];
const GAP = 18;

class Strip {
  // rows: {title, colour, marks}, a dot: {value, seed, born}.
  constructor(rows) {
    this.rows = rows.map((row) => ({ ...row, dots: [], columns: new Map(), highest: 1 }));
    this.chosen = null;
  }
  height(width) { return this.rows.length * rowHeight(width) + 84; }
  // When the width changes, dots find new columns.
  lay(width) {
    const narrow = isNarrow(width), room = width - 28 - GAP;
    this.width = width;
    this.radius = narrow ? 1.9 : 2.9;
    this.pitch = 2 * this.radius + 0.4;
    let left = 14;
    this.pieces = PIECES.map((piece) => {
      const laid = { ...piece, left, width: room * piece.share, step: piece.fine[narrow ? 1 : 0] };
      left += laid.width + GAP;
      return laid;
    });
    for (const row of this.rows) {
      Object.assign(row, { columns: new Map(), highest: 1 });
      for (const dot of row.dots) this.place(row, dot);
    }
  }
  x(value) {
    const piece = this.pieces.find((p) => value <= p.to) ?? this.pieces.at(-1);
    return piece.left + piece.width * Math.min(1, Math.max(0, (value - piece.from) / (piece.to - piece.from)));
  }
  place(row, dot) {
    dot.column = Math.round(this.x(dot.value) / this.pitch);
    dot.rank = row.columns.get(dot.column) ?? 0;
    row.columns.set(dot.column, dot.rank + 1);
    row.highest = Math.max(row.highest, dot.rank + 1);
  }
  add(k, dot) {
    const row = this.rows[k];
    row.dots.push(dot);
    if (this.width) this.place(row, dot);
  }
  ground(k) { return 24 + (k + 1) * rowHeight(this.width) - 22; }
  // Where a dot lies once it has fallen.
  spot(k, dot) {
    const row = this.rows[k], room = rowHeight(this.width) - 46;
    const rise = Math.min(this.pitch, (room - this.radius) / row.highest);
    return [dot.column * this.pitch, this.ground(k) - this.radius - 1 - dot.rank * rise];
  }
  // The dot nearest to a place, {k, dot}, or null.
  at([x, y]) {
    let best = null, least = 18 ** 2;
    this.rows.forEach((row, k) => {
      for (const dot of row.dots) {
        const [a, b] = this.spot(k, dot), far = (a - x) ** 2 + (b - y) ** 2;
        if (far < least) [best, least] = [{ k, dot }, far];
      }
    });
    return best;
  }
}
const isNarrow = (width) => width < 640;
const rowHeight = (width) => (isNarrow(width) ? 88 : 93);

// Draws it at a moment; whether a dot still falls.
function drawStrip(pen, strip, now, paint) {
  let falls = false;
  drawGround(pen, strip, paint);
  strip.rows.forEach((row, k) => {
    const ground = strip.ground(k), top = ground - rowHeight(strip.width) + 46;
    pen.strokeStyle = paint.line;
    pen.lineWidth = 1;
    for (const { left, width } of strip.pieces) line(pen, left, ground, left + width, ground);
    pen.fillStyle = paint.dark ? toned(row.colour, 255, 0.45) : row.colour;
    pen.beginPath();
    for (const dot of row.dots) {
      const [x, end] = strip.spot(k, dot), share = (now - dot.born) / FALL;
      if (share < 1) falls = true;
      const y = share < 1 ? top + (end - top) * Math.max(0, share) ** 2 : end;
      pen.moveTo(x + strip.radius, y);
      pen.arc(x, y, strip.radius, 0, 7);
    }
    pen.fill();
    pen.font = "600 13px system-ui, sans-serif";
    [pen.textAlign, pen.textBaseline, pen.fillStyle] = ["left", "alphabetic", paint.ink];
    pen.fillText(row.title, strip.x(DATA.floor) + 7, top - 12);
    drawMarks(pen, strip, row, ground, top, paint);
    const chosen = row.dots.find((d) => d.seed === strip.chosen);
    if (chosen) {
      const [x, y] = strip.spot(k, chosen);
      for (const [width, colour] of [[4.5, paint.paper], [2, paint.ink]]) {
        [pen.lineWidth, pen.strokeStyle] = [width, colour];
        pen.beginPath();
        pen.arc(x, y, strip.radius + 3, 0, 7);
        pen.stroke();
      }
    }
  });
  return falls;
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

// The axis with its break, and the floor: no weights end lower.
function drawGround(pen, strip, paint) {
  const bottom = 24 + strip.rows.length * rowHeight(strip.width), [main] = strip.pieces;
  Object.assign(pen, { font: "12px system-ui, sans-serif", textBaseline: "alphabetic", lineWidth: 1 });
  for (const piece of strip.pieces) {
    pen.strokeStyle = paint.ink;
    line(pen, piece.left, bottom, piece.left + piece.width, bottom);
    const first = Math.ceil(piece.from / piece.step - 1e-9);
    for (let j = first; j * piece.step <= piece.to + 1e-9; j++) {
      const value = j * piece.step;
      if (piece !== main && value < piece.from + 1e-9) continue; // the same number ends the piece before
      const x = piece.left + (piece.width * (value - piece.from)) / (piece.to - piece.from);
      pen.strokeStyle = paint.line;
      pen.globalAlpha = 0.5;
      line(pen, x, 30, x, bottom);
      pen.globalAlpha = 1;
      pen.strokeStyle = paint.ink;
      line(pen, x, bottom, x, bottom + 5);
      pen.fillStyle = paint.ink;
      pen.textAlign = x > strip.width - 30 ? "right" : "center";
      pen.fillText(value.toFixed(piece.digits), pen.textAlign === "right" ? strip.width - 4 : x, bottom + 18);
    }
  }
  pen.strokeStyle = paint.ink;
  const broken = main.left + main.width + GAP / 2;
  for (const side of [-4, 4]) line(pen, broken + side - 3, bottom + 5, broken + side + 3, bottom - 5);
  const floor = strip.x(DATA.floor);
  pen.setLineDash([5, 3]);
  line(pen, floor, 20, floor, bottom);
  pen.setLineDash([]);
  [pen.textAlign, pen.fillStyle] = ["left", paint.ink];
  pen.fillText(t("the least there is: {0}, least squares", DATA.floor.toFixed(8)), floor - 2, 14);
  const [what, unit] = [t("loss at the end: half the mean squared error"), t("in variances of the target, ({0} dB)²", DATA.deviation.toFixed(3))];
  const whole = `${what}, ${unit}`, middle = strip.width / 2;
  pen.textAlign = "center";
  if (pen.measureText(whole).width < strip.width - 8) return pen.fillText(whole, middle, bottom + 40);
  pen.fillText(what, middle, bottom + 37);
  pen.fillText(unit, middle, bottom + 53);
}

// What the book printed: diamonds under the row with lines up through its dots, and one label beside them, or above where it is narrow.
function drawMarks(pen, strip, row, ground, top, paint) {
  if (!row.marks.length) return;
  const places = row.marks.map((v) => strip.x(v)).sort((a, b) => a - b);
  [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [paint.ink, paint.ink, 1.2];
  for (const x of places) {
    line(pen, x, ground + 4, x, top);
    pen.beginPath();
    pen.moveTo(x, ground + 4);
    pen.lineTo(x + 5.5, ground + 10);
    pen.lineTo(x, ground + 16);
    pen.lineTo(x - 5.5, ground + 10);
    pen.closePath();
    pen.fill();
  }
  pen.font = "12px system-ui, sans-serif";
  const narrow = isNarrow(strip.width), said = row.marks.toSorted((a, b) => a - b).map((v) => v.toFixed(narrow ? 4 : 6)).join(", ");
  pen.textAlign = narrow ? "right" : "left";
  if (narrow) pen.fillText(`◆ ${said}`, strip.width - 4, top - 12);
  else pen.fillText(t("the book: {0}", said), places.at(-1) + 10, ground + 14);
}
