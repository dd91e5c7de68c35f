"""A real browser, and what a test wants to know of the page in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from vlcam.explanation.explanation import Explanation

DESK, PHONE = (1280, 800), (390, 844)


class Browser:
    """The browser, and what a test wants to know of the page in it."""

    def __init__(self, chrome: Chrome, folder: Path) -> None:
        self.chrome = chrome
        self.folder = folder
        self.look(DESK)

    def look(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        mobile = {"mobile": size == PHONE}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | mobile)

    def open(self, html: str | Explanation, name: str = "page.html") -> None:
        file = self.folder / name
        file.write_text(html if isinstance(html, str) else html.html(), "utf-8")
        self.chrome.get(file.as_uri())
        self.move_away()

    def js(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(f"return {script}", *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        (element,) = self.all(selector)
        return element

    def word(self, number: int) -> WebElement:
        return self.all(".word")[number]

    def hover(self, number: int) -> None:
        ActionChains(self.chrome, 0).move_to_element(self.word(number)).perform()

    def move_away(self) -> None:
        actions = ActionBuilder(self.chrome, duration=0)
        actions.pointer_action.move_to_location(2, 2)
        actions.perform()

    def tap(self, number: int) -> None:
        finger = PointerInput(POINTER_TOUCH, "finger")
        actions = ActionBuilder(self.chrome, mouse=finger, duration=0)
        self.chrome.execute_script(
            "arguments[0].scrollIntoView({block: 'nearest'})", self.word(number)
        )
        actions.pointer_action.move_to(self.word(number)).pointer_down().pointer_up()
        actions.perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.chrome, 0).send_keys(*keys).perform()

    def seen(self, selector: str = ".map") -> list[int]:
        """The words whose maps (or peaks) are visible."""
        return self.js(
            "[...document.querySelectorAll(arguments[0])]"
            ".filter(e => getComputedStyle(e).display !== 'none' && e.getClientRects().length)"
            ".map(e => Number(e.dataset.word))",
            selector,
        )

    def pressed(self) -> list[int]:
        words = self.all(".word")
        return [i for i, w in enumerate(words) if w.get_attribute("aria-pressed") == "true"]

    def status(self) -> str:
        return self.one(".status").text

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element on the screen."""
        script = "(r => [r.left, r.top, r.width, r.height])(arguments[0].getBoundingClientRect())"
        return tuple(self.js(script, self.one(selector)))

    def picture(self) -> np.ndarray:
        """What is seen where the photo is, (h, w, 3)."""
        left, top, width, height = (round(v) for v in self.box(".photo"))
        shot = Image.open(io.BytesIO(self.chrome.get_screenshot_as_png())).convert("RGB")
        return np.asarray(shot.crop((left, top, left + width, top + height))).astype(int)

    def problems(self) -> list[str]:
        """What the console has complained of since the last call."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, pages themselves and data in them left out.

        Left out, too: what the page's policy stopped, as the console complains of that.
        """
        messages = [json.loads(e["message"])["message"] for e in self.chrome.get_log("performance")]
        found = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        failed = [m["params"] for m in messages if m["method"] == "Network.loadingFailed"]
        stopped = {p["requestId"] for p in failed if p.get("blockedReason") == "csp"}
        pages = self.folder.as_uri()
        assert any(p["type"] == "Document" for p in found), "requests are not seen"
        return [
            p["request"]["url"]
            for p in found
            if not (p["request"]["url"].startswith(pages) and p["type"] == "Document")
            and not p["request"]["url"].startswith(("data:", "about:srcdoc"))
            and p["requestId"] not in stopped
        ]
