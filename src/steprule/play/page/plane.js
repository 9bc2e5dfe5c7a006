// The surface as log-spaced contours over colours, and the paths over it.
const LEVELS = 16;

// Values above the least, equally far apart in the logarithm.
function levelsOf({ f }, least) {
  const above = Array.from(f, (v) => v - least).filter((v) => v > 0 && v < Infinity).sort((a, b) => a - b);
  if (!above.length) return [];
  const high = above[above.length - 1], low = Math.max(above[Math.floor(0.002 * above.length)], high * 1e-5);
  return Array.from({ length: LEVELS }, (_, k) => low * (high / low) ** (k / (LEVELS - 1)));
}

// Marching squares: for each level pairs of points, in columns and rows of the grid.
function contoursOf({ f, columns, rows }, levels, least) {
  return levels.map((level) => {
    const lines = [], limit = least + level;
    for (let j = 0; j < rows - 1; j++) {
      for (let i = 0; i < columns - 1; i++) {
        const corners = [f[j * columns + i], f[j * columns + i + 1], f[(j + 1) * columns + i + 1], f[(j + 1) * columns + i]];
        const cuts = [];
        for (let k = 0; k < 4; k++) {
          const a = corners[k], b = corners[(k + 1) % 4];
          if (a < limit === b < limit || !Number.isFinite(a + b)) continue;
          const share = (limit - a) / (b - a);
          cuts.push([[i + share, j], [i + 1, j + share], [i + 1 - share, j + 1], [i, j + 1 - share]][k]);
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) lines.push(cuts[k], cuts[k + 1]);
      }
    }
    return lines;
  });
}

// The shading, a small picture: from the colour of low values to that of high ones, by the logarithm.
function shadeOf({ f, columns, rows }, levels, least, slope) {
  const first = Math.log(levels[0]), last = Math.log(levels[levels.length - 1]);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const v = f[j * columns + i];
      if (!Number.isFinite(v)) continue; // paper shows where there is no value
      const share = (Math.log(Math.max(v - least, 1e-300)) - first) / (last - first);
      image.data.set([...mix(slope, Math.min(1, Math.max(0, share || 0))), 255], 4 * ((rows - 1 - j) * columns + i));
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

// What lies under the paths in this part of the plane; drawn coarsely while the part changes.
function terrainOf(ground, view, paint, coarse) {
  const key = JSON.stringify([view, paint.slope, coarse]);
  if (ground.terrain?.key === key) return ground.terrain;
  const whole = view === ground.window, grid = whole ? ground.grid : coarse ? gridOf(ground, view, 61, 46) : gridOf(ground, view);
  const levels = levelsOf(grid, ground.least);
  return (ground.terrain = { key, grid, shade: shadeOf(grid, levels, ground.least, paint.slope), contours: contoursOf(grid, levels, ground.least) });
}

// The left margin holds the longest number of any part of the plane, and stays the same when it is zoomed.
function frameOf([[x0, x1], [y0, y1]], width, height, { left = 62, right = 20, top = 8, bottom = 38 } = {}) {
  const box = { left, top, width: width - left - right, height: height - top - bottom };
  return {
    box,
    view: [[x0, x1], [y0, y1]],
    to: ([x, y]) => [box.left + ((x - x0) / (x1 - x0)) * box.width, box.top + ((y1 - y) / (y1 - y0)) * box.height],
    from: (px, py) => [x0 + ((px - box.left) / box.width) * (x1 - x0), y1 - ((py - box.top) / box.height) * (y1 - y0)],
  };
}

// `taken`: what no label may cover.
function drawPlane(pen, frame, model, at, paint, { coarse = false, taken = [] } = {}) {
  const { box, to, view } = frame, { ground } = model;
  const { grid, shade, contours } = terrainOf(ground, view, paint, coarse), { columns, rows } = grid;
  pen.imageSmoothingEnabled = true;
  pen.drawImage(shade, box.left, box.top, box.width, box.height);
  pen.strokeStyle = paint.contour;
  pen.lineWidth = 0.6;
  for (const lines of contours) {
    pen.beginPath();
    for (let k = 0; k < lines.length; k += 2) {
      for (const [move, [i, j]] of [["moveTo", lines[k]], ["lineTo", lines[k + 1]]]) {
        pen[move](box.left + (i / (columns - 1)) * box.width, box.top + box.height - (j / (rows - 1)) * box.height);
      }
    }
    pen.stroke();
  }
  const [[x0, x1], [y0, y1]] = view;
  drawAxes(pen, box, { x: scaleOf(x0, x1, false), y: scaleOf(y0, y1, false), xTitle: "x", yTitle: "y", paint, bare: true });
  inside(pen, box, () => {
    for (const minimum of ground.minima) drawStar(pen, to(minimum));
    drawPaths(pen, to, model, at, paint);
  });
  drawLabels(pen, box, endsOf(model, at).map(({ k, point }) => ({ k, place: to(point) })), model, paint, taken);
}

// Where each path that is shown stands: its last finite point up to a step.
function endsOf({ walks, hidden }, at) {
  const ends = [];
  walks.forEach((walk, k) => {
    if (hidden.has(k)) return;
    const point = walk.points.slice(0, at + 1).findLast((p) => p.every(Number.isFinite));
    if (point) ends.push({ k, point });
  });
  return ends;
}

// Up to a step, and to the last point that is finite.
function placesOf(points, until, to) {
  const seen = [];
  for (let j = 0; j <= until && points[j].every(Number.isFinite); j++) seen.push(to(points[j]));
  return seen;
}

// The fainter track under a path: where its model is read, of a rule that states it.
function drawTrack(pen, to, walk, until, colour) {
  const seen = placesOf(walk.evaluated, until, to);
  if (!walk.stepper.twoPoints || !seen.length) return;
  pen.strokeStyle = pen.fillStyle = colour;
  pen.globalAlpha = 0.45;
  pen.lineWidth = 6;
  pen.setLineDash([]);
  pen.beginPath();
  seen.forEach(([x, y], j) => pen[j ? "lineTo" : "moveTo"](within(x), within(y)));
  pen.stroke();
  pen.beginPath();
  pen.arc(within(seen.at(-1)[0]), within(seen.at(-1)[1]), 6.5, 0, 7);
  pen.fill();
  pen.globalAlpha = 1;
}

function drawPaths(pen, to, { walks, looks, hidden }, at, paint) {
  walks.forEach((walk, k) => {
    if (hidden.has(k)) return;
    const until = Math.min(at, walk.points.length - 1), { colour, dash } = looks[k];
    const seen = placesOf(walk.points, until, to);
    drawTrack(pen, to, walk, until, colour);
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2.2;
    pen.setLineDash(dash);
    pen.beginPath();
    seen.forEach(([x, y], j) => pen[j ? "lineTo" : "moveTo"](within(x), within(y)));
    pen.stroke();
    pen.setLineDash([]);
    if (until <= 60) {
      pen.beginPath();
      for (const [x, y] of seen.slice(1)) pen.moveTo(within(x) + 2.6, within(y)), pen.arc(within(x), within(y), 2.6, 0, 7);
      pen.fill();
    }
    if (!seen.length) return;
    const [x, y] = seen[seen.length - 1];
    if (walk.divergedAt !== null && until >= walk.divergedAt) return drawCross(pen, within(x), within(y));
    pen.beginPath();
    pen.arc(within(x), within(y), 4.8, 0, 7);
    pen.fill();
    pen.strokeStyle = paint.paper;
    pen.lineWidth = 1.5;
    pen.stroke();
  });
}

// Where a path was last finite.
function drawCross(pen, x, y) {
  pen.lineWidth = 4;
  pen.beginPath();
  pen.moveTo(x - 7, y - 7), pen.lineTo(x + 7, y + 7), pen.moveTo(x - 7, y + 7), pen.lineTo(x + 7, y - 7);
  pen.stroke();
}

// So large that it is seen under the end of a path.
function drawStar(pen, [x, y]) {
  pen.beginPath();
  for (let k = 0; k < 10; k++) {
    const r = k % 2 ? 5.5 : 12.5, angle = (k * Math.PI) / 5 - Math.PI / 2;
    pen[k ? "lineTo" : "moveTo"](x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  pen.closePath();
  pen.fillStyle = "#ffd700";
  pen.fill();
  pen.strokeStyle = "#111";
  pen.lineWidth = 1.2;
  pen.stroke();
}

function drawStart(pen, [x, y]) {
  pen.beginPath();
  pen.arc(x, y, 7, 0, 7);
  pen.fillStyle = "#fff";
  pen.fill();
  pen.strokeStyle = "#111";
  pen.lineWidth = 2.5;
  pen.stroke();
}
