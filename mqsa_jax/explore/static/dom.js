// Makes elements. Text always goes in as text: titles of items are never taken for HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children. `on` holds listeners, `vars` values of CSS variables. */
export function h(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, { on = {}, vars = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  for (const [name, value] of Object.entries(vars)) element.style.setProperty(`--${name}`, value);
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** What a person reads of an item: its title, or its id where it has none. */
export function nameOf(item) {
  return item.title || `Item ${item.id}`;
}

/** Tells readers of the screen what changed. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** A number with few digits. */
export function shown(value, digits = 3) {
  if (value == null) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(size >= 100 ? 1 : digits);
}

/** A probability, however small. */
export function small(value) {
  return value === 0 || value >= 0.001 ? value.toFixed(3) : value.toExponential(0).replace("e-", "e−");
}

export function percent(share) {
  const value = 100 * share;
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}
