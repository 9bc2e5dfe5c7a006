// A matrix as squares of colour, and beside it its singular values as bars.
const WIDEST = Math.ceil(20 * Math.max(...TARGET.map(Math.abs))) / 20; // the weight that has the strongest colour
const TALLEST = 2.2; // the singular value at which the axis of the bars ends
const SMALL = "11px system-ui, sans-serif";

// The three colours of a weight, as the style has them: below zero, zero, above.
function weightColours() {
  const style = getComputedStyle(document.documentElement);
  return ["negative", "zero", "positive"].map((name) => channels(style.getPropertyValue(`--${name}`).trim()));
}
function weightColour(v, [negative, zero, positive]) {
  const share = Math.min(1, Math.abs(v) / WIDEST), end = v < 0 ? negative : positive;
  return `rgb(${zero.map((c, k) => Math.round(c + share * (end[k] - c))).join(" ")})`;
}

function drawWeights(canvas, W, colour, paint) {
  const { pen, width, height } = penOf(canvas), top = 18, side = Math.min(height - top - 18, 0.46 * width), shades = weightColours(), cell = side / SIZE;
  const titled = (text, x) => {
    [pen.font, pen.textAlign, pen.textBaseline, pen.fillStyle] = [SMALL, "left", "top", paint.soft];
    pen.fillText(text, x, 2);
  };
  titled(t("weights"), 0);
  W.forEach((v, at) => {
    pen.fillStyle = Number.isFinite(v) ? weightColour(v, shades) : paint.line;
    pen.fillRect((at % SIZE) * cell, top + Math.floor(at / SIZE) * cell, cell + 0.4, cell + 0.4); // a little more, so that no seam shows
  });
  [pen.strokeStyle, pen.lineWidth] = [paint.line, 1];
  pen.setLineDash([]);
  pen.strokeRect(0.5, top + 0.5, side - 1, side - 1);
  const box = { left: side + 34, top, width: width - side - 36, height: side };
  titled(t("singular values"), box.left);
  drawBars(pen, box, singularValues(W), colour, paint);
}

// The line at 1 is where the target's are.
function drawBars(pen, box, values, colour, paint) {
  const bottom = box.top + box.height, each = box.width / SIZE, y = (v) => bottom - (Math.min(v, TALLEST) / TALLEST) * box.height;
  [pen.font, pen.strokeStyle, pen.fillStyle, pen.textAlign, pen.textBaseline] = [SMALL, paint.line, paint.soft, "right", "middle"];
  for (const v of [0, 1, 2]) {
    pen.fillText(shown(v), box.left - 5, y(v));
    line(pen, [box.left - 3, y(v)], [box.left, y(v)]);
  }
  pen.strokeRect(box.left, box.top, box.width, box.height);
  [pen.textAlign, pen.textBaseline] = ["center", "top"];
  EACH.forEach((k) => pen.fillText(String(k + 1), box.left + (k + 0.5) * each, bottom + 4));
  pen.fillStyle = colour;
  values.forEach((v, k) => Number.isFinite(v) && pen.fillRect(box.left + k * each + 0.15 * each, y(v), 0.7 * each, bottom - y(v)));
  [pen.strokeStyle, pen.lineWidth] = [paint.ink, 1.2];
  pen.setLineDash([4, 3]);
  line(pen, [box.left, y(1)], [box.left + box.width, y(1)]);
  pen.setLineDash([]);
}
function line(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}
