// The picture as a film: the sheet of the PNG, step by step, at the speed of the page.
const FILM = "video/webm", LINGER = 1.5; // seconds that the last step stays

const canFilm = () => "MediaRecorder" in window && MediaRecorder.isTypeSupported(FILM) && "captureStream" in HTMLCanvasElement.prototype;

// {whole: a promise of the film, or of null where it is stopped; stop}; `told(share)` says how far it is.
function film(model, speed, told) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), paint = colours(), { steps } = model.state;
  Object.assign(canvas, SHEET);
  // As it is now: what is changed meanwhile is not in it.
  const entries = structuredClone(model.state.entries), walks = model.walks.map((walk, k) => ({ ...walk, entry: entries[k] }));
  const draw = (at) => drawSheet(pen, { ...model, walks, state: { ...model.state, entries, at } }, paint);
  let stopFilm = null;
  draw(0);
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: FILM, videoBitsPerSecond: 6e6 }), parts = [];
  recorder.ondataavailable = ({ data }) => data.size && parts.push(data);
  let stopped = false;
  const whole = new Promise((done, failed) => {
    recorder.onstop = () => done(stopped ? null : new Blob(parts, { type: FILM }));
    recorder.onerror = ({ error }) => failed(error);
    recorder.start(250);
    const seconds = steps / speed + LINGER;
    stopFilm = animate(
      seconds,
      (share) => {
        draw(Math.min(steps, Math.floor(share * seconds * speed)));
        told(share);
      },
      () => recorder.stop(),
    );
  });
  return { whole, stop: () => (stopFilm(), (stopped = true), recorder.stop()) };
}
