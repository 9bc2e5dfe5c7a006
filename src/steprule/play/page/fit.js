// What each network says of one wing: the sound's level against its frequency, all else as it was measured there.
const [FREQUENCY, LEVEL] = [DATA.columns[0], DATA.columns.at(-1)];
const measured = (column, v) => column.mean + column.deviation * v;
const PLACES = 64;

// The wing's rows as points in Hz and dB, its other features, and the range of the frequencies.
function wingOf(k) {
  const rows = DATA.wings[k];
  const points = rows.map((r) => [measured(FREQUENCY, FEATURES[r * WIDTH]), measured(LEVEL, TARGETS[r])]);
  const others = [...FEATURES.subarray(rows[0] * WIDTH + 1, (rows[0] + 1) * WIDTH)];
  const levels = points.map(([, y]) => y);
  return { points, others, from: points[0][0] / 1.06, to: points.at(-1)[0] * 1.06, low: Math.min(...levels) - 6, high: Math.max(...levels) + 6 };
}

function wingInWords(k) {
  const [, angle, chord, speed] = DATA.columns, { others } = wingOf(k);
  const said = (column, v, factor = 1) => String(Math.abs(Number((factor * measured(column, v)).toFixed(1)))); // as the file has them
  return t("angle {0}°, chord {1} cm, {2} m/s", said(angle, others[0]), said(chord, others[1], 100), said(speed, others[2]));
}

// The output for one sample: what the last unit gives while the loss is computed.
const [ONE_ROW, ONE_TARGET, ONE_LOSS, ONE_UNITS] = [[0], [0], [0], new Float64Array(NETWORK.units)];
function outputOf(p, features) {
  NETWORK.loss(p, features, ONE_TARGET, ONE_ROW, 0, 1, ONE_UNITS, ONE_LOSS);
  return ONE_UNITS[NETWORK.units - 1];
}

// Ticks at round numbers of one digit, on a logarithmic axis.
function logarithmic(from, to, wanted) {
  const at = (v) => Math.log(v / from) / Math.log(to / from), ticks = [];
  for (let k = Math.floor(Math.log10(from)); 10 ** k <= to; k++) {
    for (const m of wanted) if (m * 10 ** k >= from * 0.9999 && m * 10 ** k <= to * 1.0001) ticks.push({ value: m * 10 ** k, label: shown(m * 10 ** k) });
  }
  return { at, ticks };
}

// `right` is left free for names.
const boxOf = ({ width, height }, right = 14) => ({ left: 58, top: 8, width: width - 58 - right, height: height - 50 });
function drawLine(pen, points, { colour, dash }, width = 2) {
  [pen.strokeStyle, pen.lineWidth] = [colour, width];
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], j) => pen[j ? "lineTo" : "moveTo"](x, Math.min(1e5, Math.max(-1e5, y))));
  pen.stroke();
  pen.setLineDash([]);
}

// entries: {p, look}.
function drawFit(canvas, wing, entries, paint) {
  const sized = penOf(canvas), { pen } = sized, box = boxOf(sized);
  const x = logarithmic(wing.from, wing.to, [1, 2, 5]), y = scaleOf(wing.low, wing.high, false, 8);
  drawAxes(pen, box, { x, y, xTitle: t("frequency, Hz"), yTitle: t("sound level, dB (dots: measured)"), paint });
  const place = ([a, b]) => [box.left + x.at(a) * box.width, box.top + box.height * (1 - y.at(b))];
  inside(pen, box, () => {
    for (const { p, look } of entries) {
      const line = Array.from({ length: PLACES }, (_, j) => {
        const f = wing.from * (wing.to / wing.from) ** (j / (PLACES - 1));
        return place([f, measured(LEVEL, outputOf(p, [(f - FREQUENCY.mean) / FREQUENCY.deviation, ...wing.others]))]);
      });
      if (line.every(([, v]) => Number.isFinite(v))) drawLine(pen, line, look);
    }
    for (const [colour, radius] of [[paint.paper, 5.5], [paint.ink, 4]]) {
      pen.fillStyle = colour;
      for (const point of wing.points) {
        const [px, py] = place(point);
        pen.beginPath();
        pen.arc(px, py, radius, 0, 7);
        pen.fill();
      }
    }
  });
}
