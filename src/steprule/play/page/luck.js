// The page at work: two parts alike, each a button, a strip, a seed looked at, sentences and a table.
const FRAME = 8; // milliseconds of a frame that trainings may take; the rest is for drawing
const ENOUGH = 20; // seeds, below which a spread is not spoken of

const settings = (told) => Object.entries(told).map(([n, v]) => `${n} ${shown(v, 3)}`).join(", ");
const titleOf = (run) => [run.method, ...(run.form === "class" ? [t("torch's class")] : []), settings(run.told)].filter(Boolean).join(", ");

// A part: `runs` are trained with `seeds` from `first`; `before` is what is done in frames ahead of them.
class Part {
  constructor(name, runs, first, idle) {
    Object.assign(this, { name, runs, first, idle, losses: runs.map(() => []), work: null, frames: [] });
    this.begin();
    $(`${name}-run`).addEventListener("click", () => (this.work ? this.stop() : this.start()));
    $(`${name}-seed`).addEventListener("input", (e) => this.choose(this.first + Number(e.target.value), this.which));
    $(`${name}-which`).addEventListener("change", (e) => this.choose(this.strip.chosen, Number(e.target.value)));
    $(`${name}-strip`).addEventListener("click", (e) => {
      const found = this.strip.at([e.offsetX, e.offsetY]);
      if (found) this.choose(found.dot.seed, found.k);
    });
  }
  begin() {
    this.losses = this.runs.map(() => []);
    this.which = 0;
    this.strip = new Strip(this.runs.map((run) => ({ title: titleOf(run), colour: run.colour, marks: run.book })));
  }
  get seeds() { return this.losses[0].length; }
  start() {
    this.begin();
    this.work = this.todo();
    this.frames = [];
    this.show();
    if (!this.ticks) this.tick();
  }
  // Trainings one after the other; a yield ends where a frame may be drawn.
  *todo() {
    for (let k = 0; k < DATA.seeds; k++) {
      const seed = this.first + k, order = orderOf(seed);
      for (const [j, run] of this.runs.entries()) {
        const value = lossOf(run, run.hypers, seed, order);
        this.losses[j].push(value);
        this.strip.add(j, { value, seed, born: calm() ? -Infinity : performance.now() });
      }
      yield !calm(); // a seed a frame, so that one sees them fall
    }
  }
  tick() {
    this.ticks = true;
    requestAnimationFrame((now) => {
      this.frames.push(now);
      const began = performance.now();
      while (this.work && performance.now() - began < FRAME) {
        const { done, value } = this.work.next();
        if (done) this.stop();
        else if (value) break;
      }
      const falls = this.draw();
      this.ticks = false;
      if (this.work || falls) this.tick();
    });
  }
  stop() {
    this.work = null;
    // What a seed had not finished is left out.
    const whole = Math.min(...this.losses.map((l) => l.length));
    this.losses = this.losses.map((l) => l.slice(0, whole));
    for (const row of this.strip.rows) row.dots.length = whole;
    this.strip.width = 0; // so that they are laid anew
    this.show();
  }
  choose(seed, which) {
    if (!this.seeds || this.work) return;
    this.which = which;
    this.strip.chosen = Math.min(seed, this.first + this.seeds - 1);
    this.showSeed();
    this.draw();
  }
  draw() {
    const canvas = $(`${this.name}-strip`), width = canvas.parentElement.clientWidth;
    canvas.style.height = `${this.strip.height(width)}px`;
    const { pen } = penOf(canvas);
    if (this.strip.width !== width) this.strip.lay(width);
    $(`${this.name}-count`).textContent = this.progress();
    return drawStrip(pen, this.strip, performance.now(), colours());
  }
  progress() { return this.seeds ? t("{0} of {1} seeds", this.seeds, DATA.seeds) : ""; }
  // All but the dots.
  show() {
    const ready = this.seeds > 0 && !this.work, of = (id) => $(`${this.name}-${id}`);
    of("run").textContent = this.work ? t("Stop") : this.seeds ? this.again() : this.idle();
    for (const id of ["told", "table"]) of(id).replaceChildren();
    of("seed").max = Math.max(0, this.seeds - 1);
    for (const id of ["seed", "which"]) of(id).closest("p").style.visibility = ready ? "visible" : "hidden";
    of("which").innerHTML = this.runs.map((run, k) => `<option value="${k}">${escaped(titleOf(run))}</option>`).join("");
    of("strip").setAttribute("aria-label", this.inWords());
    if (ready) this.strip.chosen ??= this.first;
    if (ready && this.seeds >= ENOUGH) {
      of("told").innerHTML = `<ul class="told">${this.told().map((s) => `<li>${escaped(s)}</li>`).join("")}</ul>`;
      this.showTable();
    }
    this.showSeed();
  }
  inWords() {
    if (!this.seeds) return t("No seed is trained yet. The book: {0}", this.runs.map((r) => `${titleOf(r)} ${r.book.join(", ")}`).join("; "));
    return t("Losses at the end of {0} seeds, mean: {1}", this.seeds, this.runs.map((r, k) => `${titleOf(r)} ${digits(mean(this.losses[k]), 5)}`).join("; "));
  }
  showTable() {
    const printed = this.runs.some((r) => r.book.length);
    const heads = ["", t("mean ± sd"), t("95 % of seeds"), ...(printed ? [t("the book"), t("seeds below it")] : [])];
    const rows = this.runs.map((run, k) => {
      const own = this.losses[k], ends = [0.025, 0.975].map((share) => digits(quantile(own, share), 4)).join(" … ");
      const cells = [`${digits(mean(own), 5)} ± ${digits(deviation(own), 5)}`, ends];
      if (printed) cells.push(run.book.map((v) => digits(v, 6)).join(", "), run.book.map((v) => own.filter((l) => l < v).length).join(", "));
      return `<tr><th scope="row">${escaped(titleOf(run))}</th>${cells.map((c) => `<td>${c}</td>`).join("")}</tr>`;
    });
    $(`${this.name}-table`).innerHTML = `<thead><tr>${heads.map((h) => (h ? `<th scope="col">${h}</th>` : "<td></td>")).join("")}</tr></thead><tbody>${rows.join("")}</tbody>`;
  }
  // The seed looked at: who ends where, and the command of one of its trainings.
  showSeed() {
    const of = (id) => $(`${this.name}-${id}`), ready = this.seeds > 0 && !this.work;
    if (!ready) return (of("order").textContent = of("command").textContent = "");
    const seed = this.strip.chosen, at = seed - this.first, run = this.runs[this.which];
    const ends = this.runs.map((r, k) => [this.losses[k][at], r.form === "class" ? `${r.method} (${t("torch's class")})` : r.method]).sort((a, b) => a[0] - b[0]);
    of("seed").value = at;
    of("order").textContent = t("Seed {0}: {1}", seed, ends.map(([v, name]) => `${name} ${digits(v, 5)}`).join(" < "));
    of("which").value = this.which;
    of("command").textContent = commandOf(run, seed);
  }
}

function commandOf(run, seed) {
  const what = run.form === "class" ? run.optimizer : run.rule;
  const set = Object.entries(run.given).map(([n, v]) => ` --set ${n}=${v}`).join("");
  return `steprule train ${what}${run.problem && ` --on ${run.problem}`} --seed ${seed}${set}`;
}

class BookPart extends Part {
  constructor() { super("book", DATA.runs, 0, () => t("Train {0} seeds", DATA.seeds)); }
  again() { return t("Watch them fall again"); }
  told() { return toldOfTheBook(this.runs, this.losses); }
}

// Each rule tries the same learning rates with one seed; the best trains the fresh seeds.
class TunedPart extends Part {
  constructor() {
    super("tuned", DATA.runs.filter((r) => DATA.tuned.includes(r.label)).map((r) => ({ ...r, book: [], told: {} })), DATA.seeds, () => t("Tune, then train {0} fresh seeds", DATA.seeds));
    this.tuning = 2 * DATA.seeds - 1;
    this.trials = 0;
  }
  *todo() {
    this.tuning = this.tuning + 1 < DATA.streams.length ? this.tuning + 1 : 2 * DATA.seeds;
    this.runs.forEach((run, k) => {
      run.told = {};
      this.strip.rows[k].title = titleOf(run);
    });
    const order = orderOf(this.tuning);
    for (const [k, run] of this.runs.entries()) {
      let best = null;
      for (const lr of DATA.rates) {
        const loss = lossOf(run, { ...run.hypers, lr }, this.tuning, order);
        if (best === null || loss < best.loss) best = { lr, loss };
        this.trials = k * DATA.rates.length + DATA.rates.indexOf(lr) + 1;
        yield false;
      }
      const lr = Number(best.lr.toPrecision(3));
      Object.assign(run, { hypers: { ...run.hypers, lr }, given: { ...run.given, lr }, told: { lr } });
      this.strip.rows[k].title = titleOf(run);
    }
    yield* super.todo();
  }
  progress() {
    const tried = t("{0} of {1} trials", this.trials, this.runs.length * DATA.rates.length);
    return this.trials && (this.work || this.seeds) ? [tried, super.progress()].filter(Boolean).join(", ") : "";
  }
  again() { return t("Tune again, with another seed"); }
  told() { return toldOfTheTuned(this.runs, this.losses, this.tuning); }
  inWords() { return this.seeds ? super.inWords() : t("No seed is trained yet."); }
}

const parts = [new BookPart(), new TunedPart()];

function showAll() {
  dress("How much of a ranking is luck?");
  const [low, high] = [DATA.rates[0], DATA.rates.at(-1)].map((v) => shown(v, 2));
  $("tuned-intro").textContent = t("The book's learning rates differ by rule, and it does not say how they were found. Now each rule tries the same {0} learning rates, from {1} to {2}, with one seed. The best trains {3} seeds that the tuning never saw.", DATA.rates.length, low, high, DATA.seeds);
  $("race-command").textContent = DATA.command;
  $("sources").textContent = t("The model is linear regression on five features of 1,500 airfoil measurements (Brooks, Pope, Marcolini, NASA, 1989; CC BY 4.0), batch {0}, {1} passes. Every step is printed from the rule's own code, and seed 7 here is seed 7 of steprule train.", DATA.batch, DATA.epochs);
  for (const part of parts) {
    part.strip.rows.forEach((row, k) => (row.title = titleOf(part.runs[k])));
    part.show();
    part.draw();
  }
}

new ResizeObserver(() => parts.forEach((part) => part.draw())).observe(document.body);
frame(showAll);
