// Colours of the points, by theme, and their legend.

import { h, shown } from "./dom.js";

const [NUM_CATEGORIES, NUM_STEPS] = [8, 6]; // Colours in base.css, which has them by theme.
const [NONE, OTHER] = [-1, -2];

/** The colours of that name in the theme, grey first. */
function palette(name, count) {
  const style = getComputedStyle(document.documentElement);
  const names = ["--other", ...Array.from({ length: count }, (_, at) => `--${name}-${at}`)];
  return names.map((each) => style.getPropertyValue(each).trim());
}

/**
 * The group of each point, and the colours of the groups, drawn in the order of the groups.
 * @param {object} found what the server says of an attribute
 * @param {Int32Array} items index of each point's item
 */
export function colouring(found, items) {
  if (found.kind === "numbers") {
    const last = NUM_STEPS - 1;
    const group = Uint8Array.from(items, (item) => (found.share[item] < 0 ? 0 : 1 + Math.round(found.share[item] * last)));
    return { group, palette: () => palette("scale", NUM_STEPS) };
  }
  const group = Uint8Array.from(items, (item) => {
    const colour = found.colour[item];
    return colour === NONE || colour === OTHER ? 0 : 1 + colour;
  });
  return { group, palette: () => palette("category", NUM_CATEGORIES) };
}

/** The legend; a value of a category is a button that lights it up. */
export function legendOf(found, light) {
  if (found.kind === "numbers") {
    const steps = Array.from({ length: NUM_STEPS }, (_, at) => h("i", { vars: { swatch: `var(--scale-${at})` } }));
    return [
      h("div", { class: "scale-bar", "aria-hidden": "true" }, ...steps),
      h("p", { class: "scale-ends quiet" }, ...[found.low, found.middle, found.high].map((value) => h("span", {}, shown(value, 2)))),
      h("p", { class: "quiet" }, "By rank: lowest, median, highest."),
    ];
  }
  const buttons = found.values.map((each, at) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "plain value", "aria-pressed": "false", "data-value": each.value, on: { click: () => light(each) } },
        h("i", { class: "swatch", vars: { swatch: `var(--category-${at})` } }),
        h("span", { class: "name" }, each.name),
        h("span", { class: "quiet" }, each.count.toLocaleString("en")),
      ),
    ),
  );
  const rest = h("li", { class: "rest quiet" }, h("i", { class: "swatch", vars: { swatch: "var(--other)" } }), "other values, or none");
  return [h("ul", { class: "values", "aria-label": "Values" }, ...buttons, rest)];
}
