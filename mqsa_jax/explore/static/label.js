// The label of a point of the map: the name of its item, beside the point.

import { get } from "./api.js";
import { announce, h, nameOf } from "./dom.js";

export function pointLabel() {
  const element = h("div", { class: "point-label", "aria-hidden": "true", hidden: true });
  const names = new Map(); // By index of the item; a promise until it is known.
  let current = null;

  async function nameFor(item) {
    if (!names.has(item)) names.set(item, get("/api/item", { index: item }).then(nameOf));
    try {
      return await names.get(item);
    } catch {
      names.delete(item); // Asked for anew next time; the map tells of a server that has ended.
      return null;
    }
  }

  function hide() {
    current = null;
    element.hidden = true;
  }

  /**
   * Shows the name of an item at a pixel of the map.
   *
   * @param {number} item index
   * @param {number[]} at the pixel
   * @param {number} width of the map: the label goes where there is more room
   * @param {boolean} aloud tell readers of the screen too
   */
  async function show(item, [x, y], width, aloud) {
    const isNew = current !== item;
    current = item;
    element.style.setProperty("--x", `${x}px`);
    element.style.setProperty("--y", `${y}px`);
    element.classList.toggle("to-the-left", x > width / 2);
    if (!isNew) return;
    element.hidden = true;
    const name = await nameFor(item);
    if (current !== item || name === null) return;
    element.textContent = name;
    element.hidden = false;
    if (aloud) announce(name);
  }

  return { element, show, hide };
}
