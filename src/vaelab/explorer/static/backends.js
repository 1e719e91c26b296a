import { HttpBackend } from "./http-backend.js";

/**
 * The models that this page shows: a page that was exported says so in its head and carries one; else there is a server
 * that has one or two.
 */
export async function openBackends() {
  if (document.querySelector('meta[name="vaelab"][content="static"]')) {
    const { OnnxBackend } = await import("./onnx-backend.js"); // a page with a server never loads it
    return [await OnnxBackend.open()];
  }
  const answer = await fetch("runs", { cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()) || `${answer.status} ${answer.statusText}`);
  return (await answer.json()).map((_, index) => new HttpBackend(`runs/${index}/`));
}
