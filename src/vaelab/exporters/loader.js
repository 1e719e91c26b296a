// The one script of a page in a single file. Browsers refuse to import modules from the disk, so every module of the page
// lies in it, gzipped, as do its arrays, networks and runtime; here each module gets an address in memory, after all those
// that it imports, whose names in it become their addresses. The modules are the very files of a page in a folder.

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
