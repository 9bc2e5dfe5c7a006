// The picture as a film: the sheet of the PNG, step by step, at the speed of the page.
const FILM = "video/webm", LINGER = 1.5; // seconds that the last step stays

const canFilm = () => "MediaRecorder" in window && MediaRecorder.isTypeSupported(FILM) && "captureStream" in HTMLCanvasElement.prototype;

// A promise of the film; `told(share)` says how far it is.
function film(model, speed, told) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), paint = colours(), { steps } = model.state;
  Object.assign(canvas, SHEET);
  const draw = (at) => drawSheet(pen, { ...model, state: { ...model.state, at } }, paint);
  draw(0);
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: FILM, videoBitsPerSecond: 6e6 }), parts = [];
  recorder.ondataavailable = ({ data }) => data.size && parts.push(data);
  return new Promise((done, failed) => {
    recorder.onstop = () => done(new Blob(parts, { type: FILM }));
    recorder.onerror = ({ error }) => failed(error);
    recorder.start(250);
    const seconds = steps / speed + LINGER;
    animate(
      seconds,
      (share) => {
        draw(Math.min(steps, Math.floor(share * seconds * speed)));
        told(share);
      },
      () => recorder.stop(),
    );
  });
}
