// Around a page: its language, its colours, its links, and the address that keeps them with what else the page keeps there.
const $ = (id) => document.getElementById(id);
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const lookedAt = new URLSearchParams(location.hash.slice(1));
let theme = ["light", "dark"].includes(lookedAt.get("theme")) ? lookedAt.get("theme") : "";
language = ["en", "zh"].includes(lookedAt.get("lang")) ? lookedAt.get("lang") : navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

function dress(title) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  translate(document);
  document.title = t(title);
  [$("language").value, $("theme").value] = [language, theme];
}

// `show` draws all of the page anew, in this language and these colours; `kept` gives what else the address says, [[name, value], ...].
let addressTimer = null, keptHere = () => [];
function frame(show, kept = () => []) {
  keptHere = kept;
  const changed = () => (show(), remember());
  $("language").addEventListener("change", (e) => ((language = e.target.value), lookedAt.set("lang", language), changed()));
  $("theme").addEventListener("change", (e) => ((theme = e.target.value), changed()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  addEventListener("hashchange", () => location.reload());
  // A page around this one says whether it is light or dark.
  addEventListener("message", ({ source, data }) => {
    if (source !== parent || source === window || !["light", "dark"].includes(data?.theme) || data.theme === theme) return;
    theme = data.theme;
    show();
  });
  for (const link of document.querySelectorAll("a[data-link]")) {
    const where = DATA.links[link.dataset.link];
    if (where) link.href = where;
    else link.remove();
  }
  show();
}

// Not at each change: browsers count how often an address is written, and refuse.
function remember() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    const said = [...keptHere(), ...(lookedAt.has("lang") ? [["lang", language]] : []), ...(theme ? [["theme", theme]] : [])];
    history.replaceState(null, "", `#${new URLSearchParams(said)}`);
  }, 150);
}
