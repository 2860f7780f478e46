// The lists side by side. An item that is selected, or pointed at, is marked in all of them.

import { h, nameOf, shown, small } from "./dom.js";

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

  /** Shows lists; `base` are those by the run's own settings, if these are others. */
  function show(answer, state, base) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && { item: focused.dataset.item, key: focused.dataset.column };
    for (const { key, list } of columns) {
      const entries = answer.lists[key] ?? [];
      const scores = entries.map(({ score }) => score);
      const [high, low] = [Math.max(...scores), Math.min(...scores, 0)];
      const before = base?.lists[key].map(({ item }) => item);
      const rows = entries.map((entry, at) => row(key, entry, at, answer.items[entry.item], (entry.score - low) / (high - low || 1), state, before));
      while (rows.length < k) rows.push(h("li", { class: "blank", "aria-hidden": "true" }, rows.length ? "" : "Nothing to list"));
      list.replaceChildren(...rows);
    }
    if (kept) element.querySelector(`[data-item="${kept.item}"][data-column="${kept.key}"]`)?.focus();
  }

  function row(key, { item, score }, at, described, share, state, before) {
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
          vars: { share },
          on: { click: () => select(item) },
        },
        h("span", { class: "rank quiet" }, String(at + 1), change(before, item, at)),
        h("span", { class: "two-lines" }, nameOf(described)),
        h("span", { class: "score quiet" }, key === "teacher" ? small(score) : shown(score, 2)),
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

/** How far an item rose or fell from its place by the run's own settings. */
function change(before, item, at) {
  if (!before) return null;
  const was = before.indexOf(item);
  if (was < 0) return h("b", { class: "up", title: "not listed by the run's own settings" }, "new");
  if (was === at) return null;
  const [mark, way] = was > at ? ["▲", "up"] : ["▼", "down"];
  return h("b", { class: way, title: `rank ${was + 1} by the run's own settings` }, `${mark}${Math.abs(was - at)}`);
}
