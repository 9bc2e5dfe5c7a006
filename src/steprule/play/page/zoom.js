// Which part of the plane is shown: zoomed at a place, moved, fitted to the paths, or the whole of it.
const NEAREST = 1e-4, FARTHEST = 4; // as shares of the surface's own window
const viewOf = ({ state, ground }) => state.view ?? ground.window;

function setView(view) {
  stop(); // a scene that zooms too
  model.state.view = view;
  moved();
}

// A share below 1 zooms in; the place stays where it is.
function zoom(place, share) {
  const view = viewOf(model), sizes = model.ground.window.map(([a, b]) => b - a);
  const scaled = view.map(([a, b], k) => {
    const wanted = Math.min(FARTHEST * sizes[k], Math.max(NEAREST * sizes[k], (b - a) * share)), real = wanted / (b - a);
    return [place[k] + (a - place[k]) * real, place[k] + (b - place[k]) * real];
  });
  setView(scaled);
}

function move(by) {
  setView(viewOf(model).map(([a, b], k) => [a + by[k], b + by[k]]));
}

// All that the shown paths visit, with room around it, and no farther than can be zoomed out.
function fit() {
  const { walks, hidden, state, ground } = model;
  const walked = walks.filter((_, k) => !hidden.has(k)).flatMap((w) => [...w.points.slice(0, state.steps + 1), ...w.evaluated.slice(0, state.steps + 1)]);
  const points = [state.start, ...walked].filter((p) => p.every(Number.isFinite));
  setView(
    ground.window.map(([a, b], k) => {
      const middle = (a + b) / 2, far = (FARTHEST * (b - a)) / 2, held = points.map((p) => p[k]).filter((v) => Math.abs(v - middle) < far);
      if (!held.length) return [a, b];
      const low = Math.min(...held), high = Math.max(...held), room = Math.max(0.12 * (high - low), 1e-3 * (b - a));
      return [low - room, high + room];
    }),
  );
}

// With the keyboard: about the end of the first path that is seen.
function zoomAtEnd(share) {
  const [[x0, x1], [y0, y1]] = viewOf(model), seen = ([x, y]) => x > x0 && x < x1 && y > y0 && y < y1;
  const end = endsOf(model, model.state.at).map((e) => e.point).find(seen);
  zoom(end ?? [(x0 + x1) / 2, (y0 + y1) / 2], share);
}

// `click(place)` where the pointer was not moved.
function listenToZoom(plane, click) {
  const at = ({ clientX, clientY }) => {
    const box = plane.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  };
  const place = (pixel) => model.frame.from(...pixel);
  let held = null; // where a drag began, and the last place of it
  plane.addEventListener("pointerdown", (e) => {
    if (e.pointerType === "mouse" && e.button) return;
    held = { from: at(e), last: at(e), moved: false, drags: e.pointerType === "mouse" };
    if (held.drags) plane.setPointerCapture(e.pointerId);
  });
  plane.addEventListener("pointermove", (e) => {
    if (!held) return;
    const now = at(e);
    held.moved ||= Math.hypot(now[0] - held.from[0], now[1] - held.from[1]) > 4;
    if (!held.moved || !held.drags) return;
    const [a, b] = [place(held.last), place(now)];
    held.last = now;
    move([a[0] - b[0], a[1] - b[1]]);
  });
  plane.addEventListener("pointerup", (e) => {
    if (held && !held.moved) click(place(at(e)));
    held = null;
  });
  plane.addEventListener("pointercancel", () => (held = null));
  // A wheel alone scrolls the page; with Ctrl, as a pinch on a trackpad sends it, it zooms.
  plane.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    zoom(place(at(e)), Math.exp(Math.max(-0.5, Math.min(0.5, 0.005 * e.deltaY))));
  }, { passive: false });
  let pinch = null;
  const fingers = ({ touches: [a, b] }) => ({ middle: [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2], apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) });
  plane.addEventListener("touchmove", (e) => {
    if (e.touches.length !== 2) return (pinch = null);
    e.preventDefault();
    const now = fingers(e), middle = at({ clientX: now.middle[0], clientY: now.middle[1] });
    held = null;
    if (pinch) {
      const [a, b] = [place(at({ clientX: pinch.middle[0], clientY: pinch.middle[1] })), place(middle)];
      move([a[0] - b[0], a[1] - b[1]]);
      zoom(place(middle), pinch.apart / now.apart);
    }
    pinch = now;
  }, { passive: false });
  plane.addEventListener("touchend", () => (pinch = null));
}
