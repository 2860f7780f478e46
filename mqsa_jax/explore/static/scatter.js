// Points on a canvas: drawn batch by batch of a colour, so that tens of thousands move smoothly.

import { h } from "./dom.js";
import { follow } from "./moves.js";

const [LEAST_ZOOM, MOST_ZOOM] = [0.7, 60];
const HIT = 12; // Pixels within which a pointer finds a point.
const REACH = 60; // The same around the middle, where the keyboard looks for one.
const CELLS = 64; // Of the grid, in each direction, by which the nearest point is found.

/**
 * @param {(place: number) => void} clicked takes the place of the point in the arrays
 * @param {(place: number, at: number[], byKeys: boolean) => void} pointed takes the place of the point that a pointer is
 *   at, or that stands next to the middle while the keyboard moves the map, and its pixel; -1 if there is none
 */
export function scatter(clicked, pointed) {
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the items: arrow keys move it, plus and minus zoom, Enter selects the item in the middle; find an item by the field beside it" });
  const pen = canvas.getContext("2d");
  const camera = { x: 0, y: 0, zoom: 0.95 };
  let positions = new Float32Array();
  let colours = null;
  let spotlight = null;
  let [selected, neighbours] = [-1, []];
  let aim = null; // Pixel of a pointer, "middle" for the keyboard, or null.
  let named = -1;
  let batches = [];
  let grid = null;
  let waiting = false;

  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const unit = () => Math.min(canvas.clientWidth, canvas.clientHeight) / 2;
  const scale = () => camera.zoom * unit();
  const toScreen = (place) => {
    const { width, height } = size();
    return [width / 2 + (positions[2 * place] - camera.x) * scale(), height / 2 - (positions[2 * place + 1] - camera.y) * scale()];
  };

  /** Draws at the next frame, however often it is asked for. */
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paint();
    });
  }

  function paint() {
    const { width, height } = size();
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!colours) return;
    look();
    const palette = colours.palette();
    const radius = Math.min(1.3 * Math.max(camera.zoom, 0.7) ** 0.45 * Math.sqrt(3000 / Math.max(batches.total, 300)) + 0.7, 7);
    batches.forEach((places, group) => points(places, palette[group], radius, spotlight ? 0.13 : 0.85));
    if (spotlight) points(spotlight, colourOf("--long"), radius * 1.5, 1);
    marks();
  }

  function points(places, colour, radius, alpha) {
    const { width, height } = size();
    pen.fillStyle = colour;
    pen.globalAlpha = alpha;
    pen.beginPath();
    for (const place of places) {
      const [x, y] = toScreen(place);
      if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
      // Small squares are many times faster than circles, and look alike.
      if (radius < 2.2) pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else {
        pen.moveTo(x + radius, y);
        pen.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    pen.fill();
    pen.globalAlpha = 1;
  }

  const colourOf = (name) => getComputedStyle(canvas).getPropertyValue(name).trim();

  function marks() {
    pen.strokeStyle = colourOf("--text");
    if (named >= 0) ring(...toScreen(named), 7, 2);
    if (selected < 0) return;
    const [x, y] = toScreen(selected);
    pen.lineWidth = 1;
    for (const place of neighbours) {
      const [x2, y2] = toScreen(place);
      pen.globalAlpha = 0.55;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x2, y2);
      pen.stroke();
      pen.globalAlpha = 1;
      ring(x2, y2, 5, 1.5);
    }
    ring(x, y, 9, 3);
  }

  function ring(x, y, radius, width) {
    pen.lineWidth = width;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.stroke();
  }

  function regroup() {
    if (!colours) return;
    batches = colours.palette().map(() => []);
    colours.group.forEach((group, place) => batches[group].push(place));
    batches.total = colours.group.length;
  }

  function reindex() {
    grid = Array.from({ length: CELLS * CELLS }, () => []);
    for (let place = 0; place < positions.length / 2; place++) grid[cell(positions[2 * place]) * CELLS + cell(positions[2 * place + 1])].push(place);
  }

  const cell = (value) => Math.min(Math.max(Math.floor(((value + 1) / 2) * CELLS), 0), CELLS - 1);

  /** The nearest point to a position on the screen; -1 if none is within `pixels`. */
  function nearest(x, y, pixels = HIT) {
    const { width, height } = size();
    const reach = pixels / scale();
    const at = [camera.x + (x - width / 2) / scale(), camera.y - (y - height / 2) / scale()];
    let [found, least] = [-1, reach * reach];
    for (let column = cell(at[0] - reach); column <= cell(at[0] + reach); column++) {
      for (let row = cell(at[1] - reach); row <= cell(at[1] + reach); row++) {
        for (const place of grid?.[column * CELLS + row] ?? []) {
          const distance = (positions[2 * place] - at[0]) ** 2 + (positions[2 * place + 1] - at[1]) ** 2;
          if (distance < least) [found, least] = [place, distance];
        }
      }
    }
    return found;
  }

  /** Finds the point that is aimed at; returns whether it is another one than before. */
  function look() {
    const { width, height } = size();
    const before = named;
    named = -1;
    if (aim !== null) named = aim === "middle" ? nearest(width / 2, height / 2, REACH) : nearest(...aim);
    pointed(named, named < 0 ? null : toScreen(named), aim === "middle");
    return named !== before;
  }

  function setAim(next) {
    aim = next;
    if (look()) draw();
  }

  /** Zooms so that what is at a position on the screen stays there. */
  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const { width, height } = size();
    const next = Math.min(Math.max(camera.zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    const change = 1 / scale() - 1 / (next * unit());
    camera.x += (x - width / 2) * change;
    camera.y -= (y - height / 2) * change;
    camera.zoom = next;
    draw();
  }

  function pan(dx, dy) {
    camera.x -= dx / scale();
    camera.y += dy / scale();
    draw();
  }

  function reset() {
    Object.assign(camera, { x: 0, y: 0, zoom: 0.95 });
    draw();
  }

  follow(canvas, {
    pan,
    zoom,
    reset,
    aim: setAim,
    click: (x, y) => nearest(x, y) >= 0 && clicked(nearest(x, y)),
    enter: () => named >= 0 && clicked(named),
  });
  new ResizeObserver(draw).observe(canvas);

  return {
    element: canvas,
    draw,
    zoom,
    reset,
    setCount(count) {
      canvas.dataset.points = count;
    },
    setPositions(next) {
      positions = next;
      reindex();
      draw();
    },
    setColours(next) {
      colours = next;
      spotlight = null;
      regroup();
      draw();
    },
    setSpotlight(places) {
      spotlight = places && [...places].filter((place) => place >= 0);
      draw();
    },
    select(place, near) {
      [selected, neighbours] = [place, near];
      draw();
    },
    centre(place) {
      if (place < 0 || place * 2 >= positions.length) return;
      [camera.x, camera.y] = [positions[2 * place], positions[2 * place + 1]];
      camera.zoom = Math.max(camera.zoom, 4);
      draw();
    },
  };
}
