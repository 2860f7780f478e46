// The view of the map: the item vectors in two dimensions, coloured by an attribute.

import { get, getNumbers } from "./api.js";
import { combobox } from "./combobox.js";
import { announce, h, nameOf, shown } from "./dom.js";
import { colouring, legendOf } from "./colours.js";
import { pointLabel } from "./label.js";
import { scatter } from "./scatter.js";

const POLL = 1000; // Milliseconds between two looks at a map that is being computed.

/** Fills a section; returns what other views may ask of it. */
export function mapView(section, { run, append }) {
  let items = new Int32Array();
  let selected = null;
  let spotlight = null;
  const label = pointLabel();
  const drawing = scatter(
    (place) => choose(items[place]),
    (place, at, byKeys) => (place < 0 ? label.hide() : label.show(items[place], at, drawing.element.clientWidth, byKeys)),
  );
  const status = h("p", { class: "quiet", role: "status" });
  const progress = h("progress", { max: 1, value: 0, "aria-label": "Progress of the map" });
  const legend = h("div", { class: "legend-box" });
  const chosen = h("div", { class: "chosen" });
  const attribute = h("select", { id: "attribute" }, ...run.attributes.map((name) => h("option", { value: name }, name)));
  const values = h("div");
  const finder = combobox({
    label: "Find an item",
    placeholder: "Title or id of an item",
    search: (text) => get("/api/items", { text }),
    describe: (item) => [nameOf(item), item.title ? item.id : ""],
    choose: (item) => choose(item.index, true),
  });
  const zooms = [
    ["Zoom in", "+", () => drawing.zoom(1.5)],
    ["Zoom out", "−", () => drawing.zoom(1 / 1.5)],
    ["Whole map", "⤢", () => drawing.reset()],
  ].map(([label, text, act]) => h("button", { type: "button", "aria-label": label, title: label, on: { click: act } }, text));
  section.append(
    h(
      "div",
      { class: "map-layout" },
      h("div", { class: "panel map-panel" }, drawing.element, label.element, h("div", { class: "zooms" }, ...zooms), h("div", { class: "map-status" }, progress, status)),
      h(
        "aside",
        { class: "stack", "aria-label": "Map controls" },
        h("div", { class: "panel stack-small" }, finder.element, h("div", { class: "field" }, h("label", { for: attribute.id }, "Colour by"), attribute), values, legend),
        h("section", { class: "panel", "aria-label": "Selected item" }, chosen),
      ),
    ),
  );

  async function start() {
    items = await getNumbers("/api/map/items", Int32Array);
    drawing.setCount(items.length);
    attribute.addEventListener("change", colour);
    document.addEventListener("themechange", () => drawing.draw());
    await Promise.all([follow(), colour()]);
  }

  /** Draws the map as far as it is, until it is done. */
  async function follow() {
    let last = -1;
    for (;;) {
      const now = await get("/api/map");
      if (now.steps !== last) drawing.setPositions(await getNumbers("/api/map/positions", Float32Array));
      // Chosen in another view, before there was a map.
      if (last < 0 && selected !== null) choose(selected, true);
      last = now.steps;
      const done = now.steps === now.total;
      progress.hidden = done || now.error !== null;
      progress.value = now.total ? now.steps / now.total : 1;
      const most = now.count < run.items ? `, the ${now.count.toLocaleString("en")} most frequent items` : "";
      if (now.error !== null) status.textContent = `The map could not be computed (${now.error}); these are the main axes.`;
      else if (!done) status.textContent = `Computing the map: ${Math.round(100 * progress.value)} %${most}`;
      else status.textContent = `t-SNE of the item vectors by cosine${most}. Drag, scroll or use arrow keys, + and −.`;
      if (done || now.error !== null) break;
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  }

  async function colour() {
    spotlight = null;
    if (!attribute.value) return;
    const found = await get("/api/map/colours", { attribute: attribute.value });
    drawing.setColours(colouring(found, items));
    legend.replaceChildren(...legendOf(found, light));
    values.replaceChildren();
    if (found.kind === "categories") values.append(valueFinder().element);
  }

  function valueFinder() {
    return combobox({
      label: `Find a value of ${attribute.value}`,
      placeholder: "Light up the items that have it",
      search: (text) => get("/api/map/values", { attribute: attribute.value, text }),
      describe: ({ name, count }) => [name, `${count}×`],
      choose: light,
      keepsText: true,
    });
  }

  /** Lights up the items that have a value; again: all of them. */
  async function light({ value, name }) {
    spotlight = spotlight === value ? null : value;
    for (const button of legend.querySelectorAll("[data-value]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.value) === spotlight));
    }
    if (spotlight === null) {
      drawing.setSpotlight(null);
      return;
    }
    const members = await get("/api/map/members", { attribute: attribute.value, value });
    const places = new Set(members.map(placeOf));
    drawing.setSpotlight(places);
    announce(`${members.length} items have ${name}`);
  }

  /** Where an item stands in the arrays of the map; -1 if it is not on it. */
  function placeOf(item) {
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle] < item) low = middle + 1;
      else high = middle;
    }
    return items[low] === item ? low : -1;
  }

  async function choose(item, centre = false) {
    selected = item;
    try {
      const found = await get("/api/neighbours", { item });
      if (selected !== item) return;
      const places = found.neighbours.map(({ index }) => placeOf(index)).filter((place) => place >= 0);
      drawing.select(placeOf(item), places);
      if (centre) drawing.centre(placeOf(item));
      showChosen(found);
    } catch (problem) {
      chosen.replaceChildren(h("p", { class: "note", role: "alert" }, problem.message));
    }
  }

  function showChosen({ item, neighbours }) {
    const rows = neighbours.map((each) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "plain entry", vars: { share: Math.max(each.cosine, 0) }, "data-neighbour": each.index, on: { click: () => choose(each.index) } },
          h("span", { class: "two-lines" }, nameOf(each)),
          h("span", { class: "score quiet" }, shown(each.cosine, 2)),
        ),
      ),
    );
    const count = item.count === null ? "" : ` · ${item.count}× in training`;
    chosen.replaceChildren(
      h("h2", {}, nameOf(item)),
      h("p", { class: "quiet" }, `id ${item.id}${count}${placeOf(item.index) < 0 ? " · not on the map" : ""}`),
      h("p", { class: "actions" }, h("button", { type: "button", on: { click: () => append(item) } }, "Append to the history")),
      h("h3", {}, "Nearest items, by cosine"),
      h("ol", { class: "neighbours" }, ...rows),
    );
    announce(`${nameOf(item)}, nearest: ${neighbours.length ? nameOf(neighbours[0]) : "none"}`);
  }

  chosen.append(h("h2", {}, "No item selected"), h("p", { class: "quiet" }, "Click a point, or find an item, to see its neighbours."));
  start().catch((problem) => {
    progress.hidden = true;
    status.textContent = problem.message;
  });
  return { select: (item) => choose(item, true), shown: () => drawing.draw() };
}
