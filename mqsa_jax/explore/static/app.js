// The page: its views, one at a time, and its theme.

import { get } from "./api.js";
import { h } from "./dom.js";
import { listsView } from "./lists.js";
import { mapView } from "./map.js";
import { trainingView } from "./training.js";

const THEME = "mqsa-jax-explore-theme";
const VIEWS = { lists: listsView, map: mapView, training: trainingView };

/** Light or dark: as chosen, else as the system has it. */
function startTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(THEME);
  function apply() {
    const dark = (chosen() ?? (system.matches ? "dark" : "light")) === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${dark ? "light" : "dark"} theme`);
    document.dispatchEvent(new Event("themechange"));
  }
  button.addEventListener("click", () => {
    localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

function describe(run) {
  const facts = [
    run.name,
    `epoch ${run.epoch}`,
    `${run.items.toLocaleString("en")} items`,
    run.users === null ? null : `${run.users.toLocaleString("en")} users`,
  ];
  document.title = `${run.model} on ${run.dataset} – mqsa-jax explore`;
  document.getElementById("run-title").textContent = `${run.model} on ${run.dataset}`;
  document.getElementById("run-facts").textContent = facts.filter(Boolean).join(" · ");
}

function tell(...lines) {
  const notes = document.getElementById("notes");
  notes.replaceChildren(...lines.map((line) => h("p", { class: "note" }, line)));
  notes.hidden = lines.length === 0;
}

/** Shows the view that the address names; makes it when it is first shown. */
function startViews(run) {
  const views = {};
  let shownView = null;
  const context = {
    run,
    /** Shows an item on the map. */
    showOnMap(item) {
      location.hash = "#map";
      show();
      views.map.select(item);
    },
    /** Appends an item to the history. */
    append(item) {
      location.hash = "#lists";
      show();
      views.lists.append(item);
    },
  };
  function show() {
    const wanted = location.hash.slice(1);
    const name = wanted in VIEWS ? wanted : "lists";
    for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== `view-${name}`;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.view === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    views[name] ??= VIEWS[name](document.getElementById(`view-${name}`), context);
    if (name !== shownView) scrollTo(0, 0);
    shownView = name;
    views[name].shown?.();
  }
  addEventListener("hashchange", show);
  show();
}

startTheme();
try {
  const run = await get("/api/run");
  describe(run);
  tell(...run.notes);
  startViews(run);
} catch (error) {
  tell(error.message);
  document.getElementById("run-facts").textContent = "The run could not be loaded";
}
