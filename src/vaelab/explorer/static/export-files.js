// The files of an exported page: beside it, or within it where it is a single file (then its loader has set `vaelabParts`).

/** The content of a file of the export, an ArrayBuffer; `name` as in the manifest, such as "model/codes.bin". */
export async function readFile(name) {
  return globalThis.vaelabParts ? globalThis.vaelabParts(name) : download(name);
}

/** The content of a file of the export that is JSON. */
export const readJson = async (name) => JSON.parse(new TextDecoder().decode(await readFile(name)));

/** The content at an address, an ArrayBuffer; with `integrity` ("sha256-…") an error if it has another digest. */
export async function download(address, integrity = undefined) {
  const answer = await fetch(address, { integrity }).catch(() => {
    throw new Error(`${address} cannot be fetched${integrity ? ", or is not what it should be" : ""}`);
  });
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

/** Bytes that were gzipped, unpacked. */
export function gunzip(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** An address of JavaScript that is in memory: one that holds it, for workers of a page from the disk import no blobs. */
export const moduleUrl = (bytes) => `data:text/javascript,${encodeURIComponent(new TextDecoder().decode(bytes))}`;
