// The lists side by side. An item that is selected, or pointed at, is marked in all of them.

import { h, nameOf, shown } from "./dom.js";

export function listColumns(run, select) {
  const { k } = run.defaults;
  const columns = run.columns.map(({ key, title, note }) => {
    const list = h("ol", { "aria-label": title });
    const element = h(
      "section",
      { class: `column ${key}`, "aria-label": title },
      h("header", {}, h("h3", { class: `key ${key}` }, title), h("p", { class: "quiet" }, note)),
      list,
    );
    return { key, list, element };
  });
  const element = h(
    "div",
    { class: "panel columns", vars: { columns: columns.length } },
    ...columns.map((column) => column.element),
  );
  element.addEventListener("pointerover", (event) => mark(event.target.closest("[data-item]")?.dataset.item));
  element.addEventListener("pointerleave", () => mark(undefined));
  element.addEventListener("focusin", (event) => mark(event.target.dataset.item));
  element.addEventListener("focusout", () => mark(undefined));
  element.addEventListener("keydown", move);

  function mark(item) {
    for (const entry of element.querySelectorAll("[data-item]")) {
      entry.classList.toggle("pointed", entry.dataset.item === item);
    }
  }

  /** Arrow keys go up and down a list, and to the same rank of the next one. */
  function move(event) {
    const entry = event.target.closest("[data-item]");
    const [across, down] = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key] ?? [];
    if (!entry || across === undefined) return;
    const column = columns.findIndex(({ list }) => list.contains(entry));
    const rank = [...columns[column].list.children].indexOf(entry.parentElement);
    const entries = columns[column + across]?.list.querySelectorAll("[data-item]") ?? [];
    entries[Math.min(rank + down, entries.length - 1)]?.focus();
    event.preventDefault();
  }

  function show(answer, state) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const before = focused && { item: focused.dataset.item, key: focused.dataset.column };
    for (const { key, list } of columns) {
      const entries = answer.lists[key] ?? [];
      const scores = entries.map(({ score }) => score);
      const [high, low] = [Math.max(...scores), Math.min(...scores, 0)];
      const rows = entries.map((entry, at) => row(key, entry, at, answer.items[entry.item], high, low, state));
      while (rows.length < k) rows.push(h("li", { class: "blank", "aria-hidden": "true" }, rows.length ? "" : "Nothing to list"));
      list.replaceChildren(...rows);
    }
    if (before) element.querySelector(`[data-item="${before.item}"][data-column="${before.key}"]`)?.focus();
  }

  function row(key, { item, score }, at, described, high, low, state) {
    const isTarget = state.target?.index === item;
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: `plain entry${isTarget ? " is-target" : ""}`,
          "data-item": item,
          "data-column": key,
          "aria-pressed": String(state.selected === item),
          title: `${nameOf(described)} (id ${described.id}): ${shown(score, 4)}${isTarget ? ", held out" : ""}`,
          vars: { share: high > low ? (score - low) / (high - low) : 1 },
          on: { click: () => select(item) },
        },
        h("span", { class: "rank quiet" }, String(at + 1)),
        h("span", { class: "name" }, nameOf(described)),
        h("span", { class: "score quiet" }, shown(score, score < 1 && key === "teacher" ? 3 : 2)),
      ),
    );
  }

  function clear() {
    for (const { list } of columns) {
      list.replaceChildren(...Array.from({ length: k }, () => h("li", { class: "blank", "aria-hidden": "true" })));
    }
  }

  clear();
  return { element, show, clear };
}
