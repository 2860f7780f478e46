"""A headless Chromium, and the page of a run in a process of its own, as a user starts it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

if "MQSA_REQUIRE_CHROMIUM" not in os.environ:
    for module in ("selenium", "fastapi", "uvicorn", "openTSNE"):
        pytest.importorskip(module)

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).parents[2]
WAIT = 120
"""Seconds after which what should have come has not; a busy machine takes long."""
TEXTS = "[...document.querySelectorAll(arguments[0])].map((element) => element.textContent)"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

if "MQSA_REQUIRE_CHROMIUM" not in os.environ and not (CHROMIUM and shutil.which("chromedriver")):
    pytest.skip("no Chromium with its driver", allow_module_level=True)


@contextlib.contextmanager
def served(run_dir: Path, *flags: str) -> Iterator[str]:
    """The address of the page of a run; Ctrl-C ends it with exit code 0."""
    command = [sys.executable, "-m", "mqsa_jax", "explore", "--run-dir", str(run_dir), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert " at http://127.0.0.1:" in line, line
            yield line.split(" at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT) == 0


def asked(url: str, path: str, question: dict | None = None, **query: str | int):
    """The JSON that the server answers."""
    data = None if question is None else json.dumps(question).encode()
    headers = {"Content-Type": "application/json"}
    full = f"{url}{path}?{urlencode(query)}" if query else url + path
    with urllib.request.urlopen(urllib.request.Request(full, data, headers)) as answer:
        return json.load(answer)


class Browser:
    """A browser that waits for what it looks for."""

    def __init__(self):
        options = Options()
        options.binary_location = CHROMIUM
        # The sandbox needs rights that containers do not give.
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, url: str, width: int = 1440, dark: bool = False) -> None:
        """Opens a page in a window of that width, by a system that prefers light or dark."""
        command = self.driver.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get(url)

    def run(self, script: str, *arguments):
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments):
        """What a script returns as soon as that is true."""
        end = time.monotonic() + WAIT
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return value

    def all(self, selector: str) -> list:
        """The elements that a selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        """The first element that a selector finds, as soon as there is one."""
        self.until("return document.querySelector(arguments[0])", selector)
        return self.all(selector)[0]

    def texts(self, selector: str) -> list[str]:
        """The text of all that a selector finds."""
        return self.run(f"return {TEXTS}", selector)

    def until_texts(self, selector: str, expected: list[str]) -> None:
        """Waits until the texts of all that a selector finds are these."""
        self.until(
            f"return JSON.stringify({TEXTS}) === JSON.stringify(arguments[1])", selector, expected
        )

    def press(self, *keys: str) -> None:
        """Presses keys one after the other."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def view(self, name: str) -> None:
        """Goes to a view as a person does."""
        self.one(f'nav a[data-view="{name}"]').click()
        self.until("return !document.querySelector(arguments[0]).hidden", f"#view-{name}")

    def slide(self, name: str, value: float) -> None:
        """Moves a slider by its keys until it stands at a value."""
        slider = self.one(f"#setting-{name}")
        slider.send_keys(Keys.HOME)
        step = float(slider.get_attribute("step"))
        steps = round((value - float(slider.get_attribute("min"))) / step)
        slider.send_keys(Keys.ARROW_RIGHT * steps)
        assert float(slider.get_attribute("value")) == value


def title(item: int) -> str:
    """The title of an item in the file of titles; what looks like HTML is shown as it is."""
    return f"Toy <b>{item}</b> & more"


def opened(browser: Browser, url: str, **how) -> Browser:
    """The page with the first user's lists."""
    browser.open(url, **how)
    browser.until("return document.querySelector('.column.model .entry')")
    return browser


__all__ = ["Browser", "Keys", "asked", "opened", "served", "title"]
