import { HttpBackend } from "./http-backend.js";

/** Milliseconds between requests for the progress of a server that is loading. */
const POLL = 400;

/**
 * The models that this page shows: the one that an exported page carries, else the one or two of the server. While the server
 * loads them, `showProgress` receives { label, done, total }.
 */
export async function openBackends(showProgress) {
  if (document.querySelector('meta[name="vaelab"][content="static"]')) {
    const { OnnxBackend } = await import("./onnx-backend.js"); // only exported pages load it
    return [await OnnxBackend.open()];
  }
  for (;;) {
    const answer = await fetch("runs", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()) || `${answer.status} ${answer.statusText}`);
    const found = await answer.json();
    if (answer.status !== 202) return found.map((_, index) => new HttpBackend(`runs/${index}/`));
    showProgress(found);
    await new Promise((done) => setTimeout(done, POLL));
  }
}
