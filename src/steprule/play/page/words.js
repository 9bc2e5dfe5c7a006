// What the page says: English in the code, other languages by a table from English. {0}, {1} stand for values.
let language = "en";
const has = Object.hasOwn; // a rule or a hyperparameter may be called constructor

function t(text, ...values) {
  const said = language === "zh" ? (has(DATA.chinese, text) ? DATA.chinese[text] : text) : text;
  return said.replace(/\{(\d)\}/g, (_, k) => values[k]);
}

function translate(root) {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const e of root.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
  for (const e of root.querySelectorAll("[data-l]")) e.setAttribute("aria-label", t(e.dataset.l)), (e.title = t(e.dataset.l));
}

// Text as it stands, where a page would read it as markup.
const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// A number as people read it: six digits, an exponent only where it must be.
function shown(v, digits = 6) {
  if (Number.isNaN(v)) return "NaN";
  if (!Number.isFinite(v)) return v > 0 ? "∞" : "-∞";
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e-3 && size < 1e6 ? String(Number(v.toPrecision(digits))) : v.toExponential(digits - 2).replace(/\.?0+e/, "e");
}
