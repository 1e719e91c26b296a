/**
 * An element: `make("button", { class: "button", type: "button", onclick: work }, "Text", child)`. Keys that begin with "on" are
 * listeners, `text` is its text, true and false set or leave out an attribute, all others are attributes as in HTML.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A card of the page with a heading, and things beside it. */
export function card(title, { class: name = "", hint = "" } = {}, ...beside) {
  const heading = make("h2", { text: title });
  const top = make("header", {}, heading, hint ? make("p", { class: "hint", text: hint }) : null, make("div", { class: "beside" }, ...beside));
  return make("section", { class: `card ${name}`.trim(), "aria-label": title }, top);
}

export const button = (text, onclick, properties = {}) =>
  make("button", { class: "button", type: "button", text, onclick, ...properties });

/** Whether the system asks for as little motion as possible. */
export const prefersReducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
