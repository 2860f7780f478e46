"""Map, training and the page as a whole in a real browser: wide and narrow, light and dark."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.explore.browser import Keys, asked, opened, title

TEXTS = ("text", "quiet", "accent", "short", "long", "term", "teacher", "warn")
GROUNDS = ("ground", "panel", "raised")


def test_a_point_of_the_map_shows_its_neighbours(page, url, run):
    page.view("map")
    page.until("return document.querySelector('.map-status progress').hidden")
    ready = page.until("return document.querySelector('canvas').dataset.points")
    assert int(ready) == 30
    painted = """const c = document.querySelector('canvas');
      const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"""
    page.until(painted)
    point_at(page, url, 4, "pointerdown", "pointerup")
    page.until("return document.querySelector('.chosen h3')")
    item = run.item_ids[4]
    assert page.one(".chosen h2").text == title(item)
    expected = run.similar(int(item), k=10)
    assert page.texts(".neighbours .two-lines") == [title(other) for other, _ in expected]
    page.all(".neighbours button")[0].send_keys(Keys.ENTER)
    name = title(expected[0][0])
    page.until(f"return document.querySelector('.chosen h2').textContent === {name!r}")
    page.one(".chosen .actions button").click()
    page.until(f"return document.querySelector('.history .two-lines')?.textContent === {name!r}")


def position_of(url, place):
    """Position of a point on the map, between -1 and 1."""
    with urllib.request.urlopen(url + "api/map/positions") as answer:
        content = answer.read()
    return np.frombuffer(content, "<f4").reshape(-1, 2)[place].tolist()


def point_at(page, url, place, *kinds):
    """Has a mouse do something on a point where the whole map shows it."""
    page.run(
        """const [[x, y], kinds] = arguments; const c = document.querySelector('canvas');
        const box = c.getBoundingClientRect();
        const unit = 0.95 * Math.min(box.width, box.height) / 2;
        const at = { clientX: box.x + box.width / 2 + x * unit, clientY: box.y + box.height / 2 - y * unit,
          pointerId: 1, bubbles: true };
        for (const kind of kinds) c.dispatchEvent(new PointerEvent(kind, at));""",  # noqa: E501
        position_of(url, place),
        kinds,
    )


def label_is(page, text):
    page.until(
        "const e = document.querySelector('.point-label'); "
        "return !e.hidden && e.textContent === arguments[0]",
        text,
    )


@pytest.mark.parametrize("width", [375, 1440])
def test_a_pointer_at_a_point_shows_its_title(page, url, run, width):
    opened(page, url, width=width)
    page.view("map")
    page.until("return document.querySelector('.map-status progress').hidden")
    page.until("return document.querySelector('canvas').width > 300")
    assert not page.one(".point-label").is_displayed()
    for place in (4, 20):
        point_at(page, url, place, "pointermove")
        label_is(page, title(run.item_ids[place]))
        box = "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.right, b.width]"  # noqa: E501
        left, right, wide = page.run(box, ".point-label")
        canvas = page.run(box, "canvas")
        assert canvas[0] <= left and right <= canvas[1] and wide > 60
    point_at(page, url, 4, "pointerdown")  # a drag begins
    page.until("return document.querySelector('.point-label').hidden")
    point_at(page, url, 4, "pointerup", "pointermove")
    label_is(page, title(run.item_ids[4]))
    page.run("document.querySelector('canvas').dispatchEvent(new PointerEvent('pointerleave'))")
    page.until("return document.querySelector('.point-label').hidden")


def test_the_keyboard_finds_the_item_in_the_middle_of_the_map(page):
    page.view("map")
    page.until("return document.querySelector('.map-status progress').hidden")
    # The map goes to an item that is found by its id, which then stands in the middle.
    field = page.one("#view-map input[placeholder='Title or id of an item']")
    field.send_keys("7", Keys.ENTER)
    page.until("return document.querySelector('.chosen h3')")
    page.one("canvas").send_keys("+")
    label_is(page, title(7))
    page.until("return document.querySelector('#live').textContent === arguments[0]", title(7))
    page.press(*[Keys.ARROW_RIGHT] * 40)  # far from all points
    page.until("return document.querySelector('.point-label').hidden")
    page.press(*[Keys.ARROW_LEFT] * 40)
    label_is(page, title(7))
    page.one(".neighbours button").click()
    page.until("return document.querySelector('.chosen h2').textContent !== arguments[0]", title(7))
    page.one("canvas").send_keys("0")
    page.press("+", "-")
    page.until("return !document.querySelector('.point-label').hidden")
    named = page.texts(".point-label")
    page.press(Keys.ENTER)
    page.until_texts(".chosen h2", named)
    page.one("#theme").send_keys(Keys.NULL)
    page.until("return document.querySelector('.point-label').hidden")


def test_the_map_is_coloured_zoomed_and_lit_up_by_the_keyboard(page):
    page.view("map")
    page.until("return document.querySelector('.map-status progress').hidden")
    page.one(".values .name")
    values = page.texts(".values .name")
    assert values == ["toy", "colour 1", "colour 2", "colour 0"]
    picture = "return document.querySelector('canvas').toDataURL()"
    seen = {page.run(picture)}

    def changed():
        page.until(f"return !arguments[0].includes(({picture.replace('return ', '')}))", [*seen])
        seen.add(page.run(picture))

    page.one(".values button").send_keys(Keys.ENTER)
    changed()
    assert page.one(".values button").get_attribute("aria-pressed") == "true"
    page.one("canvas").send_keys("+", Keys.ARROW_LEFT)
    changed()
    page.one("#attribute").send_keys("popularity")
    changed()
    assert len(page.texts(".scale-ends span")) == 3 and not page.all(".values")


def test_training_shows_the_figures_of_the_run(page, run):
    page.view("training")
    page.one(".tiles")
    test = json.loads((run.folder / "test_metrics.json").read_text())
    shown = dict(zip(page.texts(".tiles dt"), page.texts(".tiles dd"), strict=True))
    assert shown["NDCG@20"] == f"{test['NDCG@20']:.4f}"
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    chart = page.one("svg.chart")
    chart.send_keys(Keys.ARROW_LEFT * 3)
    first = lines[0]["valid_NDCG@20"]
    assert page.texts(".readout")[0] == f"Epoch 1: NDCG@20 {first:.4f}"
    page.one("#metric").send_keys("HR@5")
    page.until(
        "return document.querySelector('svg.chart').getAttribute('aria-label').includes('HR@5')"
    )
    bars = page.texts('[aria-label^="Occurrences of the test"] .chart rect title')
    users = [int(bar.split(", ")[1].removesuffix(" users")) for bar in bars]
    assert len(users) == 5 and sum(users) == 60


def test_the_theme_is_the_systems_until_one_is_chosen(page, url):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    opened(page, url, dark=True)
    dark = page.run(ground)
    assert brightness(light) > 0.8 and brightness(dark) < 0.2
    page.one("#theme").click()
    assert page.run(ground) == light
    opened(page, url, dark=True)
    assert page.run(ground) == light  # The choice is kept.
    page.run("localStorage.clear()")


def brightness(colour):
    """Relative luminance, by WCAG 2, of `rgb(r, g, b)` or #rrggbb."""
    if colour.startswith("#"):
        channels = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    else:
        channels = [float(part) for part in colour.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in np.array(channels) / 255
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_the_contrast_that_wcag_asks_for(page, url, dark):
    opened(page, url, dark=dark)
    value = (
        "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
    )
    colour = {
        name: brightness(page.run(value, f"--{name}")) for name in (*TEXTS, *GROUNDS, "on-accent")
    }

    def contrast(one, other):
        high, low = sorted((colour[one], colour[other]), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert contrast("on-accent", "accent") >= 4.5


@pytest.mark.parametrize("width", [375, 768, 1440])
def test_views_fit_their_width_and_have_their_structure(page, url, width):
    opened(page, url, width=width)
    page.all(".column.model .entry")[0].send_keys(Keys.ENTER)
    page.until("return document.querySelector('.reasons .adds')")
    box = "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]"  # noqa: E501
    history, columns = page.run(box, ".history-panel"), page.run(box, ".columns")
    if width == 1440:
        assert history[2] < columns[0]  # side by side
        tops = page.run(
            "return [...document.querySelectorAll('.column ol')].map((e) => e.offsetTop)"
        )
        assert len(set(tops)) == 1
    if width == 375:
        assert history[3] < columns[1] and history[0] == columns[0]  # one below the other
    for view in ("lists", "map", "training"):
        page.view(view)
        if view == "training":
            page.one("svg.chart")
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.run(wide) == 0, view


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere(page, url):
    for view, fewest, ready in (
        ("lists", 60, ".entry"),
        ("map", 12, ".values button"),
        ("training", 5, "svg.chart"),
    ):
        page.view(view)
        page.one(ready)
        shown = [
            e for e in page.all("button, input, select, a, canvas, summary") if e.is_displayed()
        ]
        assert len(shown) > fewest
        for control in shown:
            assert control.accessible_name, control.get_attribute("outerHTML")
    loaded = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(loaded) > 10 and all(name.startswith(url) for name in loaded)


def test_refused_questions_are_told(page, url):
    for path, question, status in (
        ("api/lists", {"history": []}, 422),
        ("api/lists", {"history": [3], "alpha": 2}, 422),
        ("api/lists", {"history": [30]}, 404),
        ("api/lists", {"history": [-1]}, 404),
        ("api/neighbours?item=30", None, 404),
        ("api/history?user=nobody", None, 404),
        ("api/map/colours?attribute=size", None, 404),
        ("api/map/members?attribute=attribute&value=99", None, 404),
        ("static/../app.py", None, 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            asked(url, path, question)
        caught.value.close()
        assert caught.value.code == status, path
    # A page of another site that has its own name lead here is not answered.
    request = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert caught.value.code == 400
