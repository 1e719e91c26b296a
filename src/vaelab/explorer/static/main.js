import { mount } from "./app.js";
import { openBackends } from "./backends.js";
import { make } from "./dom.js";
import { describeError } from "./messages.js";
import { formatCount } from "./numbers.js";

const element = document.getElementById("vaelab");
try {
  await mount(element, await openBackends(showProgress));
} catch (error) {
  console.error(error);
  element.replaceChildren(
    make("main", { class: "opening" },
      make("h1", { text: "vaelab explorer" }),
      make("p", { role: "alert", text: `This page could not be opened: ${describeError(error)}` }),
      make("button", { class: "button", type: "button", text: "Try again", onclick: () => location.reload() })),
  );
}

/** Shows how far the server has come with { label, done, total }; `total` may be unknown. */
function showProgress({ label, done, total }) {
  const bar = element.querySelector("progress");
  bar.hidden = false;
  if (total) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  bar.setAttribute("aria-label", label);
  element.querySelector(".opening .task").textContent = total ? `${label}: ${formatCount(done)} of ${formatCount(total)}` : `${label} …`;
}
