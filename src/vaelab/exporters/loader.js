// The only script of a page in a single file. Browsers refuse to import modules from the disk, so the page contains every module,
// array, network and file of the runtime, gzipped. Each module gets a URL in memory after all those that it imports, and their
// names in it are replaced by their URLs. The modules are those of a page in a folder.

const carried = new Map([...document.querySelectorAll("script[data-part]")].map((each) => [each.dataset.part, each]));

/** The content of a file that the page carries, an ArrayBuffer. */
globalThis.vaelabParts = async (name) => {
  const letters = atob(carried.get(name).textContent);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
};

(async () => {
  const addresses = new Map();
  for (const name of JSON.parse(document.getElementById("modules").textContent)) {
    let text = new TextDecoder().decode(await globalThis.vaelabParts(name));
    for (const [other, address] of addresses) text = text.replaceAll(`"${other.replace("page/", "./")}"`, `"${address}"`);
    addresses.set(name, URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  }
  await import(addresses.get("page/main.js"));
})().catch((error) => {
  document.querySelector('[role="status"]').textContent = `This page could not be opened: ${error.message}`;
  throw error;
});
