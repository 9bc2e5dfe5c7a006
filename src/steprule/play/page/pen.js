// One way to draw for the screen and for files: this pen takes the calls of a 2-D canvas that the page uses, and writes SVG.
class SvgPen {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.parts = [];
    this.stack = [];
    this.clips = 0;
    this.open = 0;
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, font: "12px sans-serif", textAlign: "left", textBaseline: "alphabetic", globalAlpha: 1 });
    this.dash = [];
    this.transform = "";
    this.path = "";
    this.ruler = document.createElement("canvas").getContext("2d");
  }
  save() {
    const { fillStyle, strokeStyle, lineWidth, font, textAlign, textBaseline, globalAlpha, dash, transform, open } = this;
    this.stack.push({ fillStyle, strokeStyle, lineWidth, font, textAlign, textBaseline, globalAlpha, dash, transform, open });
  }
  restore() {
    const before = this.stack.pop();
    this.parts.push("</g>".repeat(this.open - before.open));
    Object.assign(this, before);
  }
  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${cut(x)} ${cut(y)}`; }
  lineTo(x, y) { this.path += `L${cut(x)} ${cut(y)}`; }
  closePath() { this.path += "Z"; }
  rect(x, y, w, h) { this.path += `M${cut(x)} ${cut(y)}h${cut(w)}v${cut(h)}h${cut(-w)}Z`; }
  // Whole circles alone.
  arc(x, y, r) { this.path += `M${cut(x - r)} ${cut(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`; }
  fill() { this.put(`<path d="${this.path}" fill="${this.fillStyle}"`); }
  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.put(`<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}" stroke-linejoin="round"${dash}`);
  }
  fillRect(x, y, w, h) { this.put(`<rect x="${cut(x)}" y="${cut(y)}" width="${cut(w)}" height="${cut(h)}" fill="${this.fillStyle}"`); }
  strokeRect(x, y, w, h) { this.put(`<rect x="${cut(x)}" y="${cut(y)}" width="${cut(w)}" height="${cut(h)}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"`); }
  drawImage(image, x, y, w, h) { this.put(`<image href="${image.toDataURL()}" x="${cut(x)}" y="${cut(y)}" width="${cut(w)}" height="${cut(h)}" preserveAspectRatio="none"`); }
  clip() {
    const id = `clip${++this.clips}`;
    const moved = this.transform ? ` transform="${this.transform}"` : "";
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"${moved}/></clipPath><g clip-path="url(#${id})">`);
    this.open += 1;
  }
  setLineDash(dash) { this.dash = dash; }
  translate(x, y) { this.transform += `translate(${cut(x)} ${cut(y)})`; }
  rotate(angle) { this.transform += `rotate(${cut((angle * 180) / Math.PI)})`; }
  measureText(text) {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }
  // Behind a text, to set it off from what is under it.
  strokeText(text, x, y) { this.write(text, x, y, `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}" stroke-linejoin="round"`); }
  fillText(text, x, y) { this.write(text, x, y, `fill="${this.fillStyle}"`); }
  write(text, x, y, look) {
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const line = { alphabetic: "auto", middle: "central", top: "hanging" }[this.textBaseline];
    const size = this.font.match(/([\d.]+)px/)[1], weight = this.font.match(/^\d{3} /)?.[0].trim() ?? "400";
    this.put(`<text x="${cut(x)}" y="${cut(y)}" font-size="${size}" font-weight="${weight}" font-family="system-ui, sans-serif" text-anchor="${anchor}" dominant-baseline="${line}" ${look}>${escaped(text)}</text>`, true);
  }
  put(start, whole = false) {
    const moved = this.transform ? ` transform="${this.transform}"` : "";
    const faint = this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : "";
    this.parts.push(whole ? (moved ? `<g${moved}>${start}</g>` : start) : `${start}${moved}${faint}/>`);
  }
  text() {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" viewBox="0 0 ${this.width} ${this.height}">${this.parts.join("")}</svg>`;
  }
}
const cut = (v) => String(Math.round(v * 100) / 100);

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { ink: of("ink"), soft: of("soft"), paper: of("paper"), line: of("line"), contour: of("contour"), slope: ["low", "middle", "high"].map((name) => channels(of(name))), dark: document.documentElement.dataset.theme === "dark" };
}

// Each entry's look: its rule's own, another colour and dash for the second of a kind; lighter on dark paper.
const SPARE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#555555", "#117733"];
function looksOf(entries, dark) {
  const taken = new Set(), looks = [];
  for (const { rule } of entries) {
    let { colour, dash } = DATA.rules[rule];
    if (taken.has(colour)) {
      colour = SPARE.find((c) => !taken.has(c) && !entries.some((e) => DATA.rules[e.rule].colour === c)) ?? SPARE.find((c) => !taken.has(c)) ?? colour;
      dash = dash.length ? [] : [6, 3];
    }
    taken.add(colour);
    looks.push({ colour: dark ? toned(colour, 255, 0.45) : colour, dash });
  }
  return looks;
}
const channels = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
// A share of the way to black, 0, or white, 255.
function toned(colour, end, share) {
  return `#${channels(colour).map((v) => Math.round(v + (end - v) * share).toString(16).padStart(2, "0")).join("")}`;
}

// A canvas at the screen's own resolution: its pen, and its size in CSS pixels.
function penOf(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

function inside(pen, box, draw) {
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.width, box.height);
  pen.clip();
  draw();
  pen.restore();
}
// What lies far outside is brought near: a canvas cannot draw to 1e300.
const within = (v) => Math.min(1e5, Math.max(-1e5, v));
