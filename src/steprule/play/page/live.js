// Trainings that run side by side, each as far as the others, and the curves of their losses.
const EVERY = 300; // samples between two points of a curve
const RUNAWAY = 1e6; // a loss from which nothing comes back
const POINTS = (DATA.epochs * COUNT) / EVERY;

class Live {
  constructor(run) {
    Object.assign(this, { run, lr: run.lr, on: run.shown, before: [] });
  }
  begin(seed, batch, order) {
    // What was seen before stays to be compared with.
    if (this.losses?.length > 5) this.before = this.losses;
    this.training = new Training(this.run, { ...this.run.hypers, lr: this.lr }, seed, order, batch);
    this.losses = [this.training.loss()];
    this.divergedAt = null;
  }
  // To its next point.
  advance() {
    const { training } = this;
    if (training.done || this.divergedAt !== null) return;
    const next = this.losses.length * EVERY;
    while (!training.done && training.seen < next) training.step();
    // A batch may hold more samples than lie between two points.
    const loss = training.loss();
    while (this.losses.length * EVERY <= training.seen) this.losses.push(loss);
    if (!(loss < RUNAWAY)) this.divergedAt = training.steps;
  }
  get done() { return this.training.done || this.divergedAt !== null; }
  get loss() { return this.losses.at(-1); }
}

const LOSSES = [0.04, 0.8];
function drawLosses(canvas, lives, looks, labels, paint) {
  const sized = penOf(canvas), { pen } = sized, ends = [];
  pen.font = LABEL.font;
  const room = Math.max(14, ...labels.map((label) => pen.measureText(label).width + LABEL.gap + 6)), box = boxOf(sized, room);
  const x = scaleOf(0, DATA.epochs, false, 8), y = logarithmic(...LOSSES, [1, 2, 3, 5, 7]);
  drawAxes(pen, box, { x, y, xTitle: t("passes over the data"), yTitle: t("training loss: half the mean squared error / variance"), paint });
  const place = (loss, j) => [box.left + (j / POINTS) * box.width, box.top + box.height * (1 - y.at(loss))];
  inside(pen, box, () => {
    const [, floor] = place(DATA.line, 0);
    drawLine(pen, [[box.left, floor], [box.left + box.width, floor]], { colour: paint.soft, dash: [4, 4] }, 1.2);
    [pen.font, pen.textAlign, pen.textBaseline, pen.fillStyle] = [FONT, "right", "bottom", paint.soft];
    pen.fillText(t("the best linear model"), box.left + box.width - 6, floor - 3);
    const finite = (losses) => losses.filter((v) => Number.isFinite(v)).map(place);
    pen.globalAlpha = 0.3;
    lives.forEach((live, k) => drawLine(pen, finite(live.before), looks[k], 1.5));
    pen.globalAlpha = 1;
    lives.forEach((live, k) => {
      const line = finite(live.losses);
      drawLine(pen, line, looks[k]);
      // One that ends above the axis has its name at the edge.
      const [x, y] = line.at(-1) ?? [];
      if (line.length > 1) ends.push({ k, place: [x, Math.min(box.top + box.height, Math.max(box.top, y))] });
    });
  });
  drawLabels(pen, { ...box, width: box.width + room }, ends, { looks, labels }, paint);
}
