import { mount } from "./app.js";
import { openBackends } from "./backends.js";
import { make } from "./dom.js";
import { describeError } from "./messages.js";

const element = document.getElementById("vaelab");
try {
  await mount(element, await openBackends());
} catch (error) {
  console.error(error);
  element.replaceChildren(
    make("main", { class: "opening" },
      make("h1", { text: "vaelab explorer" }),
      make("p", { role: "alert", text: `This page could not be opened: ${describeError(error)}` }),
      make("button", { class: "button", type: "button", text: "Try again", onclick: () => location.reload() })),
  );
}
