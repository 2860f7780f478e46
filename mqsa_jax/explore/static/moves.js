// Pointers, the wheel and keys as moves of a map: drag, pinch and scroll, arrow keys, + and -, 0, Enter.

/**
 * Calls `pan(dx, dy)`, `zoom(factor, x, y)` and `reset()`; `click(x, y)` of a pointer that did not drag, and `enter()` of
 * the key; `aim` with the pixel of a pointer that hovers, "middle" while keys move the map, or null.
 */
export function follow(canvas, { pan, zoom, reset, aim, click, enter }) {
  const pointers = new Map();
  let moved = 0;
  const place = (event) => [event.offsetX, event.offsetY];
  const spread = () => {
    const [[x1, y1], [x2, y2]] = pointers.values();
    return [Math.hypot(x1 - x2, y1 - y2), (x1 + x2) / 2, (y1 + y2) / 2];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1) moved = 0;
    aim(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      aim(place(event));
      return;
    }
    const old = pointers.size === 2 ? spread() : null;
    pointers.set(event.pointerId, place(event));
    const [dx, dy] = [event.offsetX - before[0], event.offsetY - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (old) {
      const [now, x, y] = spread();
      zoom(now / old[0], x, y);
      pan(x - old[1], y - old[2]);
    } else pan(dx, dy);
  });
  const end = (event) => {
    const was = pointers.delete(event.pointerId);
    if (was && event.type === "pointerup" && moved < 5 && !pointers.size) click(...place(event));
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
  }, { passive: false });
  const looksByKeys = () => canvas.matches(":focus-visible");
  canvas.addEventListener("pointerleave", () => aim(looksByKeys() ? "middle" : null));
  canvas.addEventListener("focus", () => looksByKeys() && aim("middle"));
  canvas.addEventListener("blur", () => aim(null));
  canvas.addEventListener("keydown", (event) => {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0" || event.key === "Home") reset();
    else if (event.key === "Enter") enter();
    else return;
    event.preventDefault();
    aim("middle");
  });
}
