"""The view of lists in a real browser: clicks, keys and sliders."""

import pytest

from tests.explore.browser import Keys, asked, title


def listed(page, key):
    return page.texts(f".column.{key} .entry .two-lines")


def history_of(url, user):
    return [item["index"] for item in asked(url, "api/history", user=user)["items"]]


def pick(page, user):
    field = page.one("input[placeholder='Id of a user']")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, user, Keys.ENTER)
    page.until_texts(".history-panel h2", [f"User {user}"])


def test_lists_are_those_of_the_run_and_titles_are_text(page, url, run):
    columns = page.texts(".column h3")
    assert columns == [
        "MQSA-TED+",
        "Both branches",
        "Short branch",
        "Long branch",
        "Transition term",
        "Teacher",
    ]
    history = history_of(url, "1")
    (expected,) = run.recommend([run.item_ids[history]], k=10)
    assert listed(page, "model") == [title(item) for item, _ in expected]
    newest_first = [title(run.item_ids[item]) for item in history[::-1]]
    assert page.texts(".history .two-lines") == newest_first[: run.recommender.max_len]
    assert page.one("#run-title").text == "MQSA-TED+ on data.txt"
    assert "1 items are not in the run's data" in page.one("#notes").text


def test_a_moved_alpha_changes_the_lists_and_can_be_taken_back(page):
    before = listed(page, "model"), listed(page, "mixed")
    assert listed(page, "mixed") != listed(page, "short") and not page.all(".rank b")
    panels = "return [...document.querySelectorAll('.panel')].map((e) => e.offsetTop)"
    places = page.run(panels)
    page.slide("alpha", 1.0)
    page.until("return document.querySelector('.column.mixed .rank b')")
    same = "const f = (k) => [...document.querySelectorAll(`.column.${k} .two-lines`)].map((e) => e.textContent).join(); return f('mixed') === f('short')"  # noqa: E501
    page.until(same)
    assert page.run(panels) == places  # Nothing jumps.
    assert page.one('output[for="setting-alpha"]').text == "1.00"
    page.one(".settings button").click()
    page.until("return !document.querySelector('.rank b')")
    assert (listed(page, "model"), listed(page, "mixed")) == before


def test_window_and_term_act_on_their_lists(page):
    page.slide("window", 5.0)
    page.until("return document.querySelectorAll('.history .in-window').length === 5")
    page.slide("term_factor", 0.0)
    page.until("return !document.querySelector('.column.term .entry')")
    assert listed(page, "model") == listed(page, "mixed")
    assert page.texts(".column.term .blank")[0] == "Nothing to list"


def test_an_item_is_found_and_appended_by_the_keyboard(page):
    before = page.texts(".history .two-lines")
    field = page.one("input[placeholder='Title or id of an item']")
    field.send_keys("toy")
    page.until("return document.querySelectorAll('li[role=option]').length > 2")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ESCAPE)
    assert field.get_attribute("aria-expanded") == "false"
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "<b>13</b>", Keys.ENTER)
    page.until("return document.querySelector('.history .two-lines').textContent.includes('13')")
    assert page.texts(".history .two-lines")[:2] == [title(13), before[0]]
    assert page.one(".history-panel h2").text == "History"  # No longer that of the user.
    page.all(".history .remove")[0].click()
    page.until_texts(".history .two-lines", before)
    page.one(".history-panel header button").click()
    page.until("return document.querySelector('.history .empty')")
    assert listed(page, "model") == []


def test_users_are_picked_by_id(page, url):
    pick(page, "17")
    assert len(page.all(".history .name")) == min(len(history_of(url, "17")), 8)


def test_reasons_add_up_and_an_item_is_marked_in_every_list(page, run):
    page.all(".column.model .entry")[0].send_keys(Keys.ENTER)
    page.until("return document.querySelector('.reasons .adds')")
    best = listed(page, "model")[0]
    assert page.one(".reasons h2").text.startswith(best)
    pressed = page.texts('.column [aria-pressed="true"] .two-lines')
    assert pressed and set(pressed) == {best}
    adds = [float(text.replace("−", "-")) for text in page.texts(".adds tbody .adds-value")]
    assert sum(adds[:-1]) == pytest.approx(adds[-1], abs=0.016)
    shares = page.texts(".history .bar.short b")
    assert sum(float(text.removesuffix(" %")) for text in shares) == pytest.approx(100, abs=4)
    # Arrow keys go to the next list and down it.
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    focused = "const e = document.activeElement; return [e.dataset.column, e.textContent]"
    column, text = page.run(focused)
    assert column == "mixed" and listed(page, "mixed")[1] in text


def test_a_held_out_item_is_ranked(page, url, run):
    # Of a user whose newest item is new, so that it is not left out.
    histories = {str(user): history_of(url, str(user)) for user in range(1, 20)}
    user = next(user for user, items in histories.items() if items[-1] not in items[:-1])
    *before, newest = histories[user]
    pick(page, user)
    page.one("#hold-out").click()
    page.until("return document.querySelector('.reasons h2').textContent.includes('Toy')")
    assert title(run.item_ids[newest]) in page.one(".target").text
    question = {"history": before, "item": newest}
    rank = asked(url, "api/lists", question)["reasons"]["parts"]["model"]["rank"]
    assert page.texts(".adds .sum td")[-1] == f"{rank:g}"
    page.one("#hold-out").click()
    page.until("return document.querySelector('.target').hidden")
