// A text field with a list of what was found, by the keyboard or the mouse (ARIA's combobox).

import { announce, h } from "./dom.js";

let count = 0;

/**
 * @param {object} options
 * @param {string} options.label visible label
 * @param {string} options.placeholder
 * @param {(text: string) => Promise<Array>} options.search
 * @param {(found: any) => Array<string>} options.describe text, and quiet text at its right
 * @param {(found: any) => void} options.choose
 * @param {boolean} options.keepsText whether the field shows what was chosen
 */
export function combobox({ label, placeholder, search, describe, choose, keepsText = false }) {
  const id = `combobox-${++count}`;
  const list = h("ul", { id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true });
  const input = h("input", {
    id,
    type: "text",
    role: "combobox",
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": list.id,
  });
  let found = [];
  let active = -1;
  let asked = 0;
  let waits = false;
  let takesFirst = false;

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
    asked++;
    waits = takesFirst = false;
  }

  function activate(index) {
    active = index;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === index)));
    const option = list.children[index];
    if (option) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    }
  }

  function take(index) {
    const chosen = found[index];
    if (chosen === undefined) return;
    input.value = keepsText ? describe(chosen)[0] : "";
    close();
    choose(chosen);
  }

  function render() {
    const options = found.map((each, index) => {
      const [text, more] = describe(each);
      return h(
        "li",
        {
          id: `${id}-${index}`,
          role: "option",
          "aria-selected": "false",
          // Before the field loses the focus, which would close the list.
          on: { pointerdown: (event) => event.preventDefault(), click: () => take(index) },
        },
        h("span", {}, text),
        more ? h("span", { class: "quiet" }, more) : null,
      );
    });
    const none = h("li", { class: "none quiet", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "Nothing found");
    list.replaceChildren(...(options.length ? options : [none]));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    announce(options.length ? `${options.length} found` : "Nothing found");
    if (options.length) activate(0);
  }

  async function ask() {
    const number = ++asked;
    waits = true;
    try {
      const answer = await search(input.value);
      if (number !== asked || document.activeElement !== input) return;
      found = answer;
      waits = false;
      // Enter came before the answer to what was typed.
      if (takesFirst && found.length) take(0);
      else render();
      takesFirst = false;
    } catch (error) {
      announce(error.message);
    }
  }

  input.addEventListener("input", ask);
  input.addEventListener("focus", () => {
    input.select();
    ask();
  });
  input.addEventListener("click", () => list.hidden && ask());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden && found.length > 0;
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" && !open) ask();
    else if (event.key === "ArrowDown") activate((active + 1) % found.length);
    else if (event.key === "ArrowUp" && open) activate((active - 1 + found.length) % found.length);
    else if (event.key === "Enter" && waits) takesFirst = true;
    else if (event.key === "Enter" && open) take(active);
    else return;
    event.preventDefault();
  });

  const element = h("div", { class: "field" }, h("label", { for: id }, label), h("div", { class: "combobox" }, input, list));
  return { element, input };
}
