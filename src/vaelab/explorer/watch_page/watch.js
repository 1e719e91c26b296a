// Reads the state of a run every two seconds, its curves when it has moved on, its pictures when there is a new checkpoint.

import { button, card, make } from "./dom.js";
import { choice, nextTheme } from "./theme.js";

const EVERY = 2000;
const MOST_FAILURES = 3;
const TERMS = { loss: "Loss", reconstruction: "Reconstruction", kl: "KL" };
const WIDTH = 400;
const HEIGHT = 210;
const LEFT = 44;
const BOTTOM = 22;

const page = build();
let failures = 0;
let drawnStep = -1;
let drawnCheckpoint = -1;
let timer = 0;
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();

function build() {
  const parts = {
    name: make("h1", { text: "…" }),
    title: make("p"),
    step: make("dd", { class: "number", text: "–" }),
    epoch: make("dd", { class: "number", text: "–" }),
    passed: make("dd", { class: "number", text: "–" }),
    left: make("dd", { class: "number", text: "–" }),
    fill: make("div", { class: "fill" }),
    note: make("p", { class: "note", role: "status" }),
    charts: {},
    pictures: {},
  };
  parts.track = make("div", { class: "track", role: "progressbar", "aria-label": "Training progress", "aria-valuemin": "0", "aria-valuemax": "100" }, parts.fill);
  const theme = button(`Theme: ${choice()}`, () => {
    nextTheme();
    theme.textContent = `Theme: ${choice()}`;
  });
  const figure = (word, value) => make("div", {}, make("dt", { text: word }), value);
  const list = make("dl", { class: "figures" }, figure("step", parts.step), figure("epoch", parts.epoch), figure("trained for", parts.passed), figure("time left", parts.left));
  const main = document.getElementById("watch");
  main.replaceChildren(
    make("div", { class: "masthead" }, make("div", { class: "about" }, parts.name, parts.title), theme),
    make("section", { class: "card progress", "aria-label": "Progress" }, list, parts.track, parts.note),
  );
  for (const [term, title] of Object.entries(TERMS)) {
    const panel = card(title, { class: "chart", hint: "nats per image" });
    const latest = make("p", { class: "latest number" });
    const drawing = make("div");
    panel.append(latest, drawing);
    parts.charts[term] = { latest, drawing };
    main.append(panel);
  }
  for (const [name, title, hint] of [
    ["samples", "Samples", "decoded from the same prior samples each time"],
    ["reconstructions", "Reconstructions", "held-out images, each row above its reconstructions"],
  ]) {
    const panel = card(title, { class: "pictures", hint });
    const waiting = make("p", { class: "waiting", text: "Shown after the first checkpoint." });
    const holder = make("div", {}, waiting);
    const step = make("span", { class: "hint number" });
    panel.querySelector(".beside").append(step);
    panel.append(holder);
    parts.pictures[name] = { holder, waiting, step, title };
    main.append(panel);
  }
  parts.footer = make("footer", { text: "This page only reads files of the run. Closing it does not affect training." });
  main.append(parts.footer);
  return parts;
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const state = await read("state");
    failures = 0;
    show(state);
    if (state.checkpoint) for (const { waiting } of Object.values(page.pictures)) waiting.textContent = "Decoding …";
    if (state.step !== drawnStep) {
      showCurves(await read("curves"));
      drawnStep = state.step;
    }
    if (state.checkpoint !== drawnCheckpoint && (await showPictures())) drawnCheckpoint = state.checkpoint;
  } catch (error) {
    failures += 1;
    if (failures >= MOST_FAILURES) tell(error instanceof TypeError ? "vaelab watch was stopped. This does not affect training." : error.message, true);
  }
  timer = setTimeout(refresh, failures < MOST_FAILURES ? EVERY : 5 * EVERY);
}

async function read(path) {
  const answer = await fetch(path);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.problem);
  return content;
}

function tell(text, bad = false) {
  page.note.textContent = text;
  page.note.toggleAttribute("data-bad", bad);
}

function show(state) {
  const end = state.ended_at ?? state.steps;
  const share = end ? Math.min(1, state.step / end) : 0;
  document.title = `${state.state === "training" ? `${Math.floor(100 * share)} %` : state.state}: ${state.name}`;
  page.name.textContent = state.name;
  page.title.textContent = state.title;
  page.step.textContent = `${group(state.step)} of ${group(end)}`;
  page.epoch.textContent = group(state.epoch);
  page.passed.textContent = duration(state.seconds);
  page.left.textContent = state.left === null ? "–" : duration(state.left);
  page.fill.style.width = `${100 * share}%`;
  page.track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  tell(describe(state));
}

function describe(state) {
  if (state.state === "finished") {
    const early = state.ended_at ? ` early, at step ${group(state.ended_at)} of ${group(state.steps)}` : "";
    return `Finished${early}. Report: ${state.report}`;
  }
  if (state.state === "completing") return "Training is complete. Evaluation, figures and report are being created.";
  if (state.quiet === null) return "Waiting for the first batches.";
  if (state.quiet > 60) return `No progress for ${duration(state.quiet)}: training was stopped or is waiting. The same vaelab train command resumes it.`;
  return `Training. Last progress ${state.quiet < 3 ? "just now" : `${Math.round(state.quiet)} s ago`}.`;
}

function showCurves(curves) {
  for (const [term, { latest, drawing }] of Object.entries(page.charts)) {
    const lines = [
      { name: "training", points: pair(curves.training, term) },
      { name: "held-out", points: pair(curves.held_out, term) },
    ];
    latest.replaceChildren(
      ...lines
        .filter(({ points }) => points.length)
        .map(({ name, points }) => make("span", {}, make("i", { class: name }), `${name} `, make("b", { text: points.at(-1)[1].toFixed(2) }))),
    );
    drawing.replaceChildren(chart(lines, TERMS[term]));
  }
}

const pair = (table, term) => (table[term] ?? []).map((value, i) => [table.step[i], value]).filter(([, value]) => Number.isFinite(value));

/** A chart whose height suits the later part of a curve: the first tenth, which falls from far above, may be cut off. */
function chart(lines, title) {
  const all = lines.flatMap(({ points }) => points);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} by step` });
  if (!all.length) return svg;
  const last = Math.max(...all.map(([step]) => step));
  const shown = all.filter(([step]) => step > last / 10).map(([, value]) => value);
  let [low, high] = [Math.min(...shown), Math.max(...shown)];
  const margin = 0.06 * (high - low || Math.abs(high) || 1);
  [low, high] = [low - margin, high + margin];
  const x = (step) => LEFT + ((WIDTH - LEFT - 8) * step) / last;
  const y = (value) => 8 + ((HEIGHT - BOTTOM - 8) * (high - value)) / (high - low);
  for (const value of ticks(low, high, 5)) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const step of ticks(0, last, 4)) svg.append(draw("text", { x: x(step), y: HEIGHT - 4, "text-anchor": "middle" }, short(step)));
  const clip = `clip-${title}`;
  svg.append(draw("clipPath", { id: clip }, draw("rect", { x: LEFT, y: 2, width: WIDTH - LEFT, height: HEIGHT - BOTTOM })));
  const inside = draw("g", { "clip-path": `url(#${clip})` });
  for (const { name, points } of lines) {
    const path = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    inside.append(draw("path", { class: `line of-${name}`, d: path }));
  }
  const held = lines[1].points;
  if (held.length && held.length <= 30) for (const [step, value] of held) inside.append(draw("circle", { cx: x(step), cy: y(value), r: 3 }));
  svg.append(inside);
  return svg;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

/** Whether both pictures of the newest checkpoint are shown. */
async function showPictures() {
  let complete = true;
  for (const [name, { holder, step, title }] of Object.entries(page.pictures)) {
    const answer = await fetch(`pictures/${name}`);
    if (answer.status === 503) {
      holder.replaceChildren(make("p", { class: "waiting", text: (await answer.json()).problem }));
    } else if (answer.status === 200) {
      const address = URL.createObjectURL(await answer.blob());
      const image = make("img", { src: address, alt: `${title} at step ${answer.headers.get("X-Step")}` });
      await image.decode();
      const before = holder.querySelector("img")?.src;
      const sheet = make("div", { class: "sheet" }, image);
      for (const side of ["columns", "rows"]) sheet.style.setProperty(`--${side}`, answer.headers.get(`X-${side}`));
      holder.replaceChildren(sheet);
      if (before) URL.revokeObjectURL(before);
      step.textContent = `step ${group(Number(answer.headers.get("X-Step")))}`;
    } else complete = false;
  }
  return complete;
}

const group = (number) => number.toLocaleString("en-US");
const short = (number) => (Math.abs(number) >= 1000 ? `${Number((number / 1000).toPrecision(3))}k` : `${Number(number.toPrecision(4))}`).replace("-", "−");

function duration(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
