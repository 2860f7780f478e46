// The view of training: test figures, curves by epoch, and where the run is good.

import { get } from "./api.js";
import { barChart, lineChart, NARROW } from "./chart.js";
import { h, shown } from "./dom.js";

const LOSSES = { loss: ["all", "model"], loss_rec: ["ranking", "short"], loss_kd: ["distillation", "long"] };
const METRICS = "valid_";

export function trainingView(section) {
  const waiting = h("p", { class: "quiet" }, "Reading the run …");
  section.append(waiting);
  get("/api/training").then(
    (record) => {
      const draw = () => section.replaceChildren(...content(record));
      NARROW.addEventListener("change", draw);
      draw();
    },
    (error) => waiting.replaceWith(h("p", { class: "note", role: "alert" }, error.message)),
  );
  return {};
}

function content({ epochs, best, test, breakdown, missing }) {
  const parts = [];
  if (test) {
    const tiles = Object.entries(test).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value.toFixed(4))));
    parts.push(h("section", { class: "panel", "aria-label": "Test" }, h("header", {}, h("h2", {}, "Test"), h("p", { class: "quiet" }, `epoch ${best}, full ranking`)), h("dl", { class: "tiles" }, ...tiles)));
  }
  if (epochs.length) parts.push(curves(epochs, best));
  if (missing) parts.push(h("p", { class: "note" }, `No breakdown: ${missing}`));
  if (breakdown.length) {
    const charts = breakdown.map((entry) =>
      h("section", { class: "panel", "aria-label": entry.title }, h("header", {}, h("h2", {}, "Test NDCG@20"), h("p", { class: "quiet" }, `by ${entry.title.toLowerCase()}`)), barChart(entry)),
    );
    parts.push(h("div", { class: "two" }, ...charts));
  }
  if (epochs.length) parts.push(table(epochs, best));
  return [h("div", { class: "stack" }, ...parts)];
}

function curves(epochs, best) {
  const numbers = epochs.map(({ epoch }) => epoch);
  const lines = Object.entries(LOSSES)
    .filter(([name]) => name in epochs[0])
    .map(([name, [label, key]]) => ({ label, key, values: epochs.map((line) => line[name]) }));
  const metrics = Object.keys(epochs[0]).filter((name) => name.startsWith(METRICS));
  const select = h("select", { id: "metric" }, ...metrics.map((name) => h("option", { value: name }, name.slice(METRICS.length))));
  select.value = metrics.find((name) => name === "valid_NDCG@20") ?? metrics[0];
  const holder = h("div");
  function draw() {
    const label = select.value.slice(METRICS.length);
    holder.replaceChildren(lineChart(`Validation ${label} by epoch`, numbers, [{ label, key: "short", values: epochs.map((line) => line[select.value]) }], best));
  }
  select.addEventListener("change", draw);
  draw();
  const keys = lines.map(({ label, key }) => h("span", { class: `key ${key}` }, label));
  return h(
    "div",
    { class: "two" },
    h("section", { class: "panel", "aria-label": "Validation" }, h("header", {}, h("h2", {}, "Validation"), h("label", { for: "metric", class: "visually-hidden" }, "Metric"), h("div", { class: "short-select" }, select)), holder),
    h("section", { class: "panel", "aria-label": "Training loss" }, h("header", {}, h("h2", {}, "Training loss"), h("p", { class: "legend quiet" }, ...keys)), lineChart("Training loss by epoch", numbers, lines, best)),
  );
}

/** The numbers of the curves, for whom a picture does not help. */
function table(epochs, best) {
  const names = Object.keys(epochs[0]).filter((name) => name in LOSSES || name.startsWith(METRICS) || name === "seconds");
  const head = ["epoch", ...names].map((name) => h("th", { scope: "col" }, name.replace(METRICS, "")));
  const rows = epochs.map((line) =>
    h("tr", { class: line.epoch === best ? "sum" : null }, h("th", { scope: "row" }, line.epoch), ...names.map((name) => h("td", {}, shown(line[name], 4)))),
  );
  return h(
    "details",
    { class: "panel" },
    h("summary", {}, "All epochs in a table"),
    h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": "Epochs" }, h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows))),
  );
}
