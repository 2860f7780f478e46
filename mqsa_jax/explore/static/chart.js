// Charts in SVG: lines by epoch, and bars by group.

import { h, percent, s, shown } from "./dom.js";

const HEIGHT = 260;
/** Narrow pages, in which a wide chart would be shrunk until nobody can read it. */
export const NARROW = matchMedia("(max-width: 40rem)");
const width = () => (NARROW.matches ? 340 : 560);
const SIDE = { left: 52, right: 14, top: 12, bottom: 52 };

/** Round numbers that cover a range. */
export function ticks(low, high, wanted = 5) {
  const rough = (high - low || Math.abs(high) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

const across = (x, low, high) => SIDE.left + ((x - low) / (high - low || 1)) * (width() - SIDE.left - SIDE.right);
const up = (y, low, high) => HEIGHT - SIDE.bottom - ((y - low) / (high - low || 1)) * (HEIGHT - SIDE.top - SIDE.bottom);

function text(x, y, content, anchor = "middle", more = {}) {
  return s("text", { x, y, "text-anchor": anchor, ...more }, content);
}

function frame(label, low, high, [xlabel, below], children) {
  const lines = ticks(low, high).map((value) => {
    const y = up(value, low, high);
    return [
      s("line", { class: "grid", x1: SIDE.left, x2: width() - SIDE.right, y1: y, y2: y }),
      text(SIDE.left - 8, y + 4, String(value), "end"),
    ];
  });
  return s(
    "svg",
    { class: "chart", viewBox: `0 0 ${width()} ${HEIGHT}`, role: "img", "aria-label": label },
    ...lines.flat(),
    ...children,
    text((width() + SIDE.left) / 2, HEIGHT - SIDE.bottom + below, xlabel),
  );
}

/**
 * Lines by epoch; a pointer, or the arrow keys, read off the values.
 * @param {Array<{label: string, key: string, values: Array<number>}>} lines
 */
export function lineChart(label, epochs, lines, best) {
  const all = lines.flatMap(({ values }) => values).filter((value) => value !== undefined);
  let [low, high] = [Math.min(...all), Math.max(...all)];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  low = low >= 0 ? Math.max(low - room, 0) : low - room;
  high += room;
  const [first, last] = [epochs[0], epochs.at(-1)];
  const x = (epoch) => (first === last ? (width() + SIDE.left) / 2 : across(epoch, first, last));
  const numbers = first === last ? [first] : ticks(first, last, 8).filter((each) => Number.isInteger(each) && each >= first);
  const children = numbers.map((epoch) => text(x(epoch), HEIGHT - SIDE.bottom + 18, String(epoch)));
  if (epochs.includes(best)) {
    children.push(
      s("line", { class: "best", x1: x(best), x2: x(best), y1: SIDE.top, y2: HEIGHT - SIDE.bottom }),
      text(x(best) + (x(best) > width() - 90 ? -6 : 6), SIDE.top + 10, "best", x(best) > width() - 90 ? "end" : "start"),
    );
  }
  for (const { key, values } of lines) {
    const points = epochs.map((epoch, at) => [x(epoch), up(values[at], low, high)]);
    children.push(s("polyline", { class: `line ${key}`, points: points.map((point) => point.join()).join(" ") }));
    if (points.length < 40) children.push(...points.map(([cx, cy]) => s("circle", { class: `dot ${key}`, cx, cy, r: 3 })));
  }
  const cursor = s("line", { class: "cursor", y1: SIDE.top, y2: HEIGHT - SIDE.bottom, visibility: "hidden" });
  const svg = frame(label, low, high, ["Epoch", 36], [...children, cursor]);
  svg.setAttribute("tabindex", "0");
  const readout = h("p", { class: "quiet readout", role: "status" });
  let at = Math.max(epochs.indexOf(best), 0);

  function read(index) {
    at = Math.min(Math.max(index, 0), epochs.length - 1);
    cursor.setAttribute("x1", x(epochs[at]));
    cursor.setAttribute("x2", x(epochs[at]));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = `Epoch ${epochs[at]}: ${lines.map((line) => `${line.label} ${shown(line.values[at], 4)}`).join(", ")}`;
  }
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width) * width();
    const nearest = epochs.reduce((kept, epoch, index) => (Math.abs(x(epoch) - wanted) < Math.abs(x(epochs[kept]) - wanted) ? index : kept), 0);
    read(nearest);
  });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    read(at + by);
    event.preventDefault();
  });
  read(at);
  return h("div", {}, svg, readout);
}

/** Bars by group, with the number of users below each name. */
export function barChart({ title, groups, users, ndcg }) {
  const high = Math.max(...ndcg.map((value) => value ?? 0), 1e-6) * 1.12;
  const step = (width() - SIDE.left - SIDE.right) / groups.length;
  const total = users.reduce((sum, each) => sum + each, 0);
  const bars = groups.flatMap((group, at) => {
    const middle = SIDE.left + step * (at + 0.5);
    const top = up(ndcg[at] ?? 0, 0, high);
    const share = percent(users[at] / total);
    return [
      s(
        "rect",
        { class: "group", x: middle - step * 0.31, width: step * 0.62, y: top, height: HEIGHT - SIDE.bottom - top, rx: 2 },
        s("title", {}, `${group}: NDCG@20 ${shown(ndcg[at], 4)}, ${users[at]} users`),
      ),
      text(middle, top - 6, ndcg[at] === null ? "–" : ndcg[at].toFixed(3), "middle", { class: "value" }),
      text(middle, HEIGHT - SIDE.bottom + 14, group, "middle", { class: "value" }),
      text(middle, HEIGHT - SIDE.bottom + 28, share),
    ];
  });
  return frame(`Test NDCG@20 by ${title}`, 0, high, ["Group, and its share of the users", 48], bars);
}
