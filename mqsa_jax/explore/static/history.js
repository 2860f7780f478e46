// The history, newest item first, with the attention that each branch pays to its items.

import { h, nameOf, percent } from "./dom.js";

const BRANCHES = { short: "Short branch", long: "Long branch" };

export function historyPanel(run, { remove, clear, holdOut, select }) {
  const list = h("ol", { class: "history", "aria-label": "History, newest item first" });
  const title = h("h2", {}, "History");
  const facts = h("p", { class: "quiet" });
  const traits = h("p", { class: "quiet traits", hidden: true });
  const legend = h(
    "p",
    { class: "legend quiet" },
    run.branches.length ? "Attention of the newest item:" : "This model has no attention.",
    ...run.branches.map((branch) => h("span", { class: `key ${branch}` }, BRANCHES[branch].toLowerCase())),
  );
  const held = h("input", { type: "checkbox", id: "hold-out", on: { change: () => holdOut(held.checked) } });
  const clearButton = h("button", { type: "button", class: "plain", on: { click: clear } }, "Clear");
  const target = h("div", { class: "target", hidden: true });
  const element = h(
    "section",
    { class: "panel history-panel", "aria-label": "History" },
    h("header", {}, title, facts, clearButton),
    h("label", { class: "check", for: held.id }, held, "Hold out the newest item"),
    traits,
    target,
    legend,
    list,
  );
  const rows = [];

  /** Shows the items; attention and links come with the answer. */
  function show(state) {
    const read = Math.min(state.history.length, run.defaults.max_len);
    const unread = state.history.length - read;
    title.textContent = state.user === null ? "History" : `User ${state.user}`;
    facts.textContent = `${state.history.length} items${unread ? `, the newest ${read} are read` : ""}`;
    traits.hidden = !run.traits || !state.history.length;
    traits.textContent = traitsOf(state);
    clearButton.disabled = !state.history.length;
    held.disabled = !held.checked && state.history.length < 2;
    target.hidden = !state.target;
    if (state.target) {
      target.replaceChildren(itemButton(state.target, state, "Held out: "));
    }
    const kept = list.contains(document.activeElement) ? [...list.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    rows.length = 0;
    const newest = state.history.slice(unread).reverse();
    list.replaceChildren(...newest.map((item, back) => row(item, back, state)));
    if (!newest.length) list.append(h("li", { class: "quiet empty" }, "Append an item, or pick a user."));
    const buttons = list.querySelectorAll("button");
    if (kept >= 0) buttons[Math.min(kept, buttons.length - 1)]?.focus();
  }

  function traitsOf({ user, traits: names }) {
    if (user === null) return "A built history has no traits: it is nobody's.";
    return names.length ? `Traits: ${names.join(", ")}` : "Nothing is known of this user's traits.";
  }

  function itemButton(item, state, before = "") {
    return h(
      "button",
      {
        type: "button",
        class: "plain name",
        title: `${nameOf(item)} (id ${item.id})`,
        "aria-pressed": String(state.selected === item.index),
        on: { click: () => select(item.index) },
      },
      h("span", { class: "two-lines" }, before, nameOf(item)),
    );
  }

  function row(item, back, state) {
    const bars = run.branches.map((branch) => h("span", { class: `bar ${branch}` }, h("i"), h("b", {}, "")));
    const link = h("span", { class: "link quiet" });
    const cells = { item, bars, link };
    rows.push(cells);
    cells.element = h(
      "li",
      {},
      h("span", { class: "rank quiet", "aria-hidden": "true" }, String(back + 1)),
      itemButton(item, state),
      h("span", { class: "bars" }, ...bars),
      link,
      h(
        "button",
        {
          type: "button",
          class: "plain remove",
          "aria-label": `Remove ${nameOf(item)}`,
          title: "Remove",
          on: { click: () => remove(state.history.length - 1 - back) },
        },
        "×",
      ),
    );
    return cells.element;
  }

  /** Draws attention, the window and the transitions into the selected item. */
  function showAnswer(values, answer) {
    const largest = Math.max(...Object.values(answer.attention).flat(), 1e-9);
    const links = new Map((answer.reasons?.transitions ?? []).map((link) => [link.item, link]));
    rows.forEach((cells, back) => {
      run.branches.forEach((branch, at) => {
        const weights = answer.attention[branch] ?? [];
        const weight = weights[weights.length - 1 - back] ?? 0;
        const bar = cells.bars[at];
        bar.style.setProperty("--share", weight / largest);
        bar.lastChild.textContent = percent(weight);
        bar.title = `${BRANCHES[branch]}: ${percent(weight)} of its attention`;
      });
      const inside = values.window !== undefined && back < values.window;
      cells.element.classList.toggle("in-window", inside);
      const link = links.get(cells.item.index);
      cells.link.textContent = link ? `→ ${percent(link.share)}` : "";
      cells.link.title = link ? `${percent(link.share)} of the transitions from this item lead to the selected one` : "";
    });
  }

  return {
    element,
    show,
    showAnswer,
    resetHoldOut() {
      held.checked = false;
    },
  };
}
