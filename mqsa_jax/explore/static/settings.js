// The sliders: alpha, the window and the weight of the term, as far as the model has them.

import { h, shown } from "./dom.js";

const POLICIES = { history: "all of the history", window: "what the model reads", none: "nothing" };

/** @returns the panel, and a function that gives the values as the server takes them. */
export function settingsPanel(run, changed) {
  const { defaults } = run;
  const sliders = [];

  function slider({ name, label, min, max, step, value, text, hint }) {
    const id = `setting-${name}`;
    const output = h("output", { for: id }, text(value));
    const input = h("input", { id, type: "range", min, max, step, value, "aria-describedby": `${id}-hint` });
    const own = h("p", { class: "quiet", id: `${id}-hint` }, hint);
    function refresh() {
      output.textContent = text(input.valueAsNumber);
      input.setAttribute("aria-valuetext", text(input.valueAsNumber));
    }
    input.addEventListener("input", () => {
      refreshAll();
      changed();
    });
    sliders.push({ name, input, value, refresh });
    return h("div", { class: "slider" }, h("label", { for: id }, h("span", {}, label), output), input, own);
  }

  const reset = h("button", { type: "button", disabled: true, on: { click: resetAll } }, "As the run");
  const policy = h(
    "select",
    { id: "setting-policy" },
    ...Object.entries(POLICIES).map(([value, text]) => h("option", { value }, text)),
  );
  policy.value = defaults.exclude_seen;
  policy.addEventListener("change", () => {
    refreshAll();
    changed();
  });

  /** Whether all sliders stand where the run has them. */
  function areTheRuns() {
    return sliders.every(({ input, value }) => input.valueAsNumber === value);
  }

  function refreshAll() {
    for (const each of sliders) each.refresh();
    reset.disabled = areTheRuns() && policy.value === defaults.exclude_seen;
  }

  function resetAll() {
    for (const { input, value } of sliders) input.value = value;
    policy.value = defaults.exclude_seen;
    refreshAll();
    changed();
  }

  const rows = [];
  if (defaults.alpha !== null) {
    rows.push(slider({
      name: "alpha", label: "α, short branch", min: 0, max: 1, step: 0.01, value: defaults.alpha,
      text: (value) => value.toFixed(2), hint: `the run’s: ${defaults.alpha.toFixed(2)}`,
    }));
  }
  if (defaults.window !== null) {
    rows.push(slider({
      name: "window", label: "L, window", min: 1, max: defaults.max_len, step: 1, value: defaults.window,
      text: (value) => (value >= defaults.max_len ? `all ${value} items` : value === 1 ? "1 item" : `${value} items`),
      hint: `the run’s: ${defaults.window}`,
    }));
  }
  if (defaults.term_weight !== null) {
    rows.push(slider({
      name: "term_factor", label: "Term’s weight", min: 0, max: defaults.max_factor, step: 0.05, value: 1,
      text: (value) => shown(value * defaults.term_weight, 1), hint: `the run’s: ${shown(defaults.term_weight, 1)}`,
    }));
  }
  const leftOut = h(
    "div",
    { class: "slider" },
    h("label", { for: "setting-policy" }, "Left out"),
    policy,
  );
  const element = h("form", { class: "panel settings", "aria-label": "Settings" }, ...rows, leftOut, reset);
  element.addEventListener("submit", (event) => event.preventDefault());
  refreshAll();
  return {
    element,
    values() {
      const chosen = Object.fromEntries(sliders.map(({ name, input }) => [name, input.valueAsNumber]));
      return { ...chosen, exclude_seen: policy.value };
    },
    areTheRuns,
  };
}
