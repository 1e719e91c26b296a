import { make } from "./dom.js";
import { LatestOnly } from "./scheduling.js";
import { formatCount } from "./numbers.js";
import { paint } from "./pixels.js";

/** Images kept of points that were hovered. */
const KEPT = 200;

/**
 * A card beside a point with its image, number and class. It only says what the eye is on: with the keyboard, Enter goes to the
 * nearest point and shows its image.
 */
export class HoverCard {
  element;
  #image = make("canvas", { class: "image" }); #number = make("strong"); #class = make("span");
  #model; #images = new Map(); #index = -1;
  #find = new LatestOnly((index) => this.#model.backend.images([index]), (pixels, index) => this.#keep(index, pixels), (error) => this.#model.fail(error));

  constructor(model) {
    this.#model = model;
    const words = make("div", {}, this.#number, this.#class, make("span", { class: "hint", text: "click: go there" }));
    this.element = make("div", { class: "hover-card", "aria-hidden": "true", hidden: true }, this.#image, words);
  }

  /** Shows point `index` of the manifest beside a pixel of a frame { width, height }. */
  show(index, name, [px, py], { width, height }) {
    const { element } = this;
    element.hidden = false;
    this.#number.textContent = `#${formatCount(index)}`;
    this.#class.textContent = name;
    if (index !== this.#index) {
      this.#index = index;
      if (this.#images.has(index)) this.#paint();
      else {
        this.#image.style.visibility = "hidden"; // the image of another point
        this.#find.submit(index);
      }
    }
    const [cardWidth, cardHeight] = [element.offsetWidth, element.offsetHeight];
    const left = px + 16 + cardWidth > width ? px - 16 - cardWidth : px + 16;
    const top = Math.min(Math.max(4, py - cardHeight / 2), height - cardHeight - 4);
    element.style.transform = `translate(${Math.round(Math.max(0, left))}px, ${Math.round(top)}px)`;
  }

  hide() { this.element.hidden = true; }

  #keep(index, pixels) {
    if (this.#images.size >= KEPT) this.#images.delete(this.#images.keys().next().value);
    this.#images.set(index, pixels);
    if (index === this.#index) this.#paint();
  }

  #paint() {
    paint(this.#image, this.#images.get(this.#index), this.#model.manifest.image);
    this.#image.style.visibility = "";
  }
}
