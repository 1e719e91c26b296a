/** The distance that a press may move and still be a click, CSS pixels. */
const STRAY = 4;

/**
 * Calls `handlers` for gestures on an element, with positions in CSS pixels from its corner: `drag(pixel)` and `drop()`,
 * `click(pixel)`, `pan(dx, dy)`, `zoom(pixel, factor)`, `hover(pixel or null)`.
 *
 * One finger or the left button drags. The other buttons, Space and two fingers pan. Wheel and pinch zoom.
 */
export function listenForGestures(element, handlers) {
  const fingers = new Map();
  /** The current gesture: null, "press" (not yet decided), "drag", "pan", or "rest" (one of two fingers is left). */
  let doing = null;
  let space = false;
  let start = [0, 0];

  const pixelOf = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left - element.clientLeft, event.clientY - box.top - element.clientTop];
  };

  function down(event) {
    const pixel = pixelOf(event);
    element.setPointerCapture(event.pointerId);
    element.focus({ preventScroll: true, focusVisible: false });
    event.preventDefault();
    handlers.hover(null);
    fingers.set(event.pointerId, pixel);
    if (fingers.size > 1) {
      if (doing === "drag") handlers.drop();
      doing = "pan";
    } else {
      start = pixel;
      doing = event.button !== 0 || space ? "pan" : "press";
    }
    element.classList.toggle("panning", doing === "pan");
  }

  function move(event) {
    const pixel = pixelOf(event);
    const before = fingers.get(event.pointerId);
    if (!before) return event.pointerType === "touch" ? undefined : handlers.hover(pixel);
    if (doing === "press" && apart(pixel, start) > STRAY) doing = "drag";
    if (doing === "drag") handlers.drag(pixel);
    if (doing === "pan") slide(event.pointerId, before, pixel);
    fingers.set(event.pointerId, pixel);
  }

  /** One pointer pans; of two, the middle pans and the distance zooms. */
  function slide(id, before, pixel) {
    const other = [...fingers].find(([each]) => each !== id)?.[1];
    if (!other) return handlers.pan(pixel[0] - before[0], pixel[1] - before[1]);
    handlers.pan((pixel[0] - before[0]) / 2, (pixel[1] - before[1]) / 2);
    const middle = [(pixel[0] + other[0]) / 2, (pixel[1] + other[1]) / 2];
    handlers.zoom(middle, Math.max(1, apart(pixel, other)) / Math.max(1, apart(before, other)));
  }

  function up(event) {
    if (!fingers.delete(event.pointerId)) return;
    if (fingers.size) {
      doing = "rest";
      return;
    }
    if (doing === "drag") handlers.drop();
    if (doing === "press" && event.type === "pointerup") handlers.click(start);
    doing = null;
    element.classList.remove("panning");
  }

  function wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
    const speed = event.ctrlKey ? 0.01 : 0.0018;
    handlers.hover(null);
    handlers.zoom(pixelOf(event), Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) * speed));
  }

  element.addEventListener("pointerdown", down);
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("pointerleave", () => handlers.hover(null));
  element.addEventListener("wheel", wheel, { passive: false });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("auxclick", (event) => event.preventDefault());
  const hold = (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    space = event.type === "keydown";
  };
  element.addEventListener("keydown", hold);
  element.addEventListener("keyup", hold);
  element.addEventListener("blur", () => { space = false; });
}

const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Where arrows point, x to the right and y up. */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * Calls `handlers` for keys on an element: `step(x, y)` in steps, `drop()` after them, `zoomBy(factor)`, `fit()`, `choose()`,
 * `leave()`.
 */
export function listenForMapKeys(element, handlers) {
  const others = {
    "+": () => handlers.zoomBy(1.25),
    "=": () => handlers.zoomBy(1.25),
    "-": () => handlers.zoomBy(0.8),
    f: () => handlers.fit(),
    Enter: () => handlers.choose(),
    Escape: () => handlers.leave(),
  };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    const work = others[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!arrow && !work) return;
    event.preventDefault();
    if (!arrow) return work();
    const steps = event.shiftKey ? 5 : 1;
    handlers.step(arrow[0] * steps, arrow[1] * steps);
  });
  element.addEventListener("keyup", (event) => { if (event.key in ARROWS) handlers.drop(); });
}
