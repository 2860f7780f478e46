// Why an item is where it is: what each part adds to its score, and the transitions into it.

import { h, nameOf, percent, s, shown, small } from "./dom.js";

const ROW = 36; // Height of a link's row, as in views.css.
const MAX_LINKS = 8;

export function reasonsPanel(run, { showOnMap, append }) {
  const { term_weight: termWeight } = run.defaults;
  const title = h("h2", {}, "Why an item is listed");
  const actions = h("div", { class: "actions", hidden: true });
  const body = h("div", { class: "reasons-body" });
  const element = h("section", { class: "panel reasons", "aria-label": "Why an item is listed" }, h("header", {}, title, actions), body);

  function clear() {
    title.textContent = "Why an item is listed";
    actions.hidden = true;
    body.replaceChildren(h("p", { class: "quiet" }, "Select an item of a list or of the history."));
  }

  function show(answer, values) {
    const { reasons } = answer;
    if (!reasons) {
      clear();
      return;
    }
    const item = answer.items[reasons.item];
    const count = item.count === null ? "" : `, ${item.count}× in training`;
    title.replaceChildren(nameOf(item), h("span", { class: "quiet" }, ` id ${item.id}${count}`));
    const had = actions.contains(document.activeElement) ? [...actions.children].indexOf(document.activeElement) : -1;
    actions.replaceChildren(
      h("button", { type: "button", on: { click: () => showOnMap(item.index) } }, "Show on the map"),
      h("button", { type: "button", on: { click: () => append(item) } }, "Append to the history"),
    );
    if (had >= 0) actions.children[had].focus();
    actions.hidden = false;
    body.replaceChildren(scores(reasons, values), links(answer));
  }

  /** What each part adds to the score. */
  function scores({ parts }, values) {
    const lines = [];
    const add = (key, label, weight) => {
      if (parts[key]) lines.push({ key, label, weight, adds: weight * (parts[key].score ?? 0), ...parts[key] });
    };
    if (run.branches.length > 1) {
      add("short", "Short branch", values.alpha);
      add("long", "Long branch", 1 - values.alpha);
    } else if (parts.mixed) add("mixed", "Encoder", 1);
    if (termWeight !== null) add("term", "Transition term", 1);
    const largest = Math.max(...lines.map(({ adds }) => Math.abs(adds)), Math.abs(parts.model.score ?? 0), 1e-9);
    const rows = lines.map(({ key, label, score, weight, adds, rank }) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("span", { class: `key ${key}` }, label)),
        h("td", {}, key === "term" ? shown(score ?? 0, 2) : `${shown(weight, 2)} × ${shown(score, 2)}`),
        diverging(key, adds, largest),
        h("td", {}, ranked(rank)),
      ),
    );
    const model = parts.model;
    rows.push(
      h(
        "tr",
        { class: "sum" },
        h("th", { scope: "row" }, h("span", { class: "key model" }, run.columns[0].title)),
        h("td", {}, shown(model.score, 2)),
        diverging("model", model.score ?? 0, largest),
        h("td", {}, ranked(model.rank)),
      ),
    );
    if (parts.teacher) {
      rows.push(
        h(
          "tr",
          {},
          h("th", { scope: "row" }, h("span", { class: "key teacher" }, "Teacher")),
          h("td", {}, `p = ${small(parts.teacher.score)}`),
          h("td"),
          h("td", {}, ranked(parts.teacher.rank)),
        ),
      );
    }
    const head = ["Part", "Score", "Adds", "Rank"].map((text) => h("th", { scope: "col" }, text));
    return h("div", { class: "scrolls" }, h("table", { class: "adds" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)));
  }

  /** The transitions into the item, as links whose width is their share. */
  function links(answer) {
    const { reasons, items } = answer;
    const term = new Map(reasons.term.map(({ item, score }) => [item, score]));
    const found = new Map(reasons.transitions.map((link) => [link.item, link]));
    for (const from of term.keys()) if (!found.has(from)) found.set(from, { item: from, count: 0, share: 0 });
    const all = [...found.values()];
    const shownLinks = all.slice(0, MAX_LINKS);
    const caption = h("h3", {}, "Transitions in training, from the history into it");
    if (!shownLinks.length) {
      return h("div", { class: "links" }, caption, h("p", { class: "quiet" }, "None: it never followed an item of the history."));
    }
    const height = ROW * shownLinks.length;
    const widest = Math.max(...shownLinks.map(({ share }) => share), 1e-9);
    const curves = shownLinks.map((link, at) => {
      const y = ROW * (at + 0.5);
      return s("path", {
        class: link.count ? "counted" : "term-only",
        d: `M0 ${y} C50 ${y} 50 ${height / 2} 100 ${height / 2}`,
        "stroke-width": link.count ? 1.5 + 12 * (link.share / widest) : 1.5,
      });
    });
    const rows = shownLinks.map((link) =>
      h(
        "li",
        {},
        h("span", { class: "name", title: nameOf(items[link.item]) }, nameOf(items[link.item])),
        h(
          "span",
          { class: "quiet" },
          link.count ? `${shown(link.count, 1)}×, ${percent(link.share)}` : "by several steps",
          term.has(link.item) ? h("b", { class: "term-text" }, ` term +${shown(term.get(link.item), 2)}`) : null,
        ),
      ),
    );
    const drawing = s("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height, "aria-hidden": "true" }, ...curves);
    const more = all.length > MAX_LINKS ? h("p", { class: "quiet" }, `and ${all.length - MAX_LINKS} weaker ones`) : null;
    return h(
      "div",
      { class: "links" },
      caption,
      h(
        "div",
        { class: "link-rows" },
        h("ol", {}, ...rows),
        drawing,
        h("p", { class: "into" }, nameOf(items[reasons.item])),
      ),
      more,
    );
  }

  clear();
  return { element, show, clear };
}

function ranked(rank) {
  return rank === null ? "left out" : shown(rank, 1);
}

/** A bar from zero to the left or the right. */
function diverging(key, value, largest) {
  const size = `${(50 * Math.abs(value)) / largest}%`;
  const bar = h("i", { class: `fill ${key}`, vars: { from: value < 0 ? `calc(50% - ${size})` : "50%", size } });
  const text = (value < 0 ? "−" : "+") + shown(Math.abs(value), 2);
  return h("td", {}, h("div", { class: "diverging" }, h("span", { class: "track" }, bar), h("span", { class: "adds-value" }, text)));
}
