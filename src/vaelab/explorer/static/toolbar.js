import { button, make } from "./dom.js";
import { formatCount } from "./numbers.js";
import { choice, nextTheme } from "./theme.js";

/** The bar at the head of the page: what is open, and controls of the whole page. */
export function mountToolbar(element, session, { copyLink, help }) {
  element.append(
    make("header", { class: "bar" },
      make("h1", { text: "vaelab explorer" }),
      make("ul", { class: "runs" }, ...session.models.map(({ manifest }) => describe(manifest))),
      make("div", { class: "tools", role: "group", "aria-label": "Page" },
        historyButton(session, "Undo", "Z", "canUndo", () => session.undo()),
        historyButton(session, "Redo", "Shift+Z", "canRedo", () => session.redo()),
        ...(copyLink ? [button("Copy link", copyLink, { title: "Copy a link to this view" })] : []),
        themeButton(),
        button("?", help, { "aria-label": "Help", title: "Keys and gestures (?)", "aria-haspopup": "dialog" }))),
  );
}

/** "digits · 1,438 points · 10 latents, 9 active · beta, β = 1". */
function describe({ run, title, count, total, latent_dim: width, active, objective, beta }) {
  const points = count === total ? `${formatCount(count)} points` : `${formatCount(count)} of ${formatCount(total)} images`;
  const facts = [points, `${width} latents, ${active} active`, beta === null ? objective : `${objective}, β = ${beta}`];
  return make("li", { title: title ?? run }, make("strong", { text: run }), make("span", { text: facts.join(" · ") }));
}

/** Greyed out where there is nothing to go to, yet it keeps the focus of who presses it to the end. */
function historyButton(session, text, key, can, work) {
  const found = button(text, work, { title: `${text} (${key})`, "aria-keyshortcuts": key });
  const show = () => found.setAttribute("aria-disabled", String(!session[can]));
  session.addEventListener("history", show);
  show();
  return found;
}

function themeButton() {
  const found = button("", nextTheme, { class: "button theme", title: "Theme: system, dark or light (T)" });
  const show = () => {
    found.textContent = choice();
    found.setAttribute("aria-label", `Theme: ${choice()}`);
  };
  document.addEventListener("explorer:theme", show);
  show();
  return found;
}
