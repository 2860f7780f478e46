// The view of lists: a history, the lists after it by every part of the model, and reasons.

import { get, latest, post } from "./api.js";
import { combobox } from "./combobox.js";
import { announce, h, nameOf, shown } from "./dom.js";
import { historyPanel } from "./history.js";
import { listColumns } from "./columns.js";
import { reasonsPanel } from "./reasons.js";
import { settingsPanel } from "./settings.js";

/** Fills a section; returns what other views may ask of it. */
export function listsView(section, context) {
  const { run } = context;
  const state = { history: [], user: null, traits: [], target: null, selected: null };
  let base = { key: null, answer: null };
  const error = h("p", { class: "note", role: "alert", hidden: true });
  const settings = settingsPanel(run, () => ask());
  const history = historyPanel(run, {
    remove(index) {
      state.history.splice(index, 1);
      state.user = null;
      ask();
    },
    clear() {
      setHistory([], null);
    },
    holdOut(wanted) {
      if (wanted && state.history.length > 1) {
        state.target = state.history.pop();
        state.selected = state.target.index;
      } else if (!wanted && state.target) {
        state.history.push(state.target);
        state.target = null;
      }
      ask();
    },
    select,
  });
  const columns = listColumns(run, select);
  const reasons = reasonsPanel(run, context);
  const users = run.users ? userPicker(setUser) : null;
  const pickers = h("div", { class: "pickers" }, ...(users?.elements ?? []), itemPicker(append).element);
  section.append(
    error,
    pickers,
    h(
      "div",
      { class: "lists-layout" },
      history.element,
      h("div", { class: "stack" }, settings.element, columns.element, reasons.element),
    ),
  );

  function setHistory(items, user, traits = []) {
    Object.assign(state, { history: [...items], user, traits, target: null, selected: null });
    users?.show(user);
    history.resetHoldOut();
    ask();
  }

  function append(item) {
    if (state.target) {
      state.history.push(state.target);
      state.target = null;
      history.resetHoldOut();
    }
    state.history.push(item);
    state.user = null;
    ask();
  }

  async function setUser(user) {
    try {
      const { items, traits } = await get("/api/history", { user });
      setHistory(items, user, traits);
    } catch (problem) {
      fail(problem);
    }
  }

  function select(index) {
    state.selected = state.selected === index ? null : index;
    ask();
  }

  function fail(problem) {
    error.textContent = problem.message;
    error.hidden = false;
  }

  /** The answer by the run's own settings; null if these are the settings. */
  async function baseOf({ history: items, user, exclude_seen: policy }) {
    if (settings.areTheRuns()) return null;
    const key = JSON.stringify([items, user, policy]);
    if (base.key !== key) base = { key, answer: await post("/api/lists", { history: items, user, exclude_seen: policy }) };
    return base.answer;
  }

  const ask = latest(async () => {
    if (!state.history.length) {
      history.show(state);
      columns.clear();
      reasons.clear();
      return;
    }
    const values = settings.values();
    const question = { history: state.history.map((item) => item.index), user: state.user, item: state.selected, ...values };
    try {
      const answer = await post("/api/lists", question);
      const ownSettings = await baseOf(question);
      error.hidden = true;
      // All at once, so that nothing is seen without its numbers.
      history.show(state);
      history.showAnswer(values, answer);
      columns.show(answer, state, ownSettings);
      reasons.show(answer, values);
      const [first] = answer.lists.model;
      if (first) announce(`First of the list: ${nameOf(answer.items[first.item])}, score ${shown(first.score)}`);
    } catch (problem) {
      history.show(state);
      fail(problem);
    }
  });

  ask();
  if (users) get("/api/users").then(([first]) => !state.history.length && setUser(first), fail);
  return { append };
}

function userPicker(setUser) {
  const picker = combobox({
    label: "User",
    placeholder: "Id of a user",
    search: (text) => get("/api/users", { text }),
    describe: (user) => [user],
    choose: setUser,
    keepsText: true,
  });
  const random = h(
    "button",
    {
      type: "button",
      on: {
        async click() {
          setUser(await get("/api/users/random"));
        },
      },
    },
    "Random user",
  );
  return { elements: [picker.element, random], show: (user) => (picker.input.value = user ?? "") };
}

function itemPicker(append) {
  return combobox({
    label: "Append an item to the history",
    placeholder: "Title or id of an item",
    search: (text) => get("/api/items", { text }),
    describe: (item) => [nameOf(item), item.title ? item.id : item.count === null ? "" : `${item.count}×`],
    choose: append,
  });
}
