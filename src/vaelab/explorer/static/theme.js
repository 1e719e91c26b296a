// Light or dark: as the system says ("auto") or as the person chose, kept where the browser allows it.

import { loadSetting, saveSetting } from "./storage.js";

const CHOICES = ["auto", "dark", "light"];
const system = matchMedia("(prefers-color-scheme: dark)");

let chosen = CHOICES.includes(loadSetting("theme")) ? loadSetting("theme") : "auto";
apply();
system.addEventListener("change", announce);

/** The user's choice: "auto", "dark" or "light". */
export const choice = () => chosen;

/** The present theme: "dark" or "light". */
export const theme = () => (chosen === "auto" ? (system.matches ? "dark" : "light") : chosen);

/** Switches to the next choice; canvases listen to "explorer:theme" on the document. */
export function nextTheme() {
  chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
  saveSetting("theme", chosen);
  apply();
  announce();
}

function apply() {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

function announce() {
  document.dispatchEvent(new CustomEvent("explorer:theme", { detail: theme() }));
}
