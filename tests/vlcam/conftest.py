"""A browser for the pages of explanations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # which is slow to import, and few tests need
    from selenium.webdriver import Chrome

    from tests.tools.browser import Browser


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests; without one they are skipped, or fail where it is required."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    browser = browser or shutil.which("google-chrome")
    if driver is None or browser is None:
        missing = "chromedriver" if driver is None else "chromium"
        if os.environ.get("VLCAM_REQUIRE_BROWSER"):
            pytest.fail(f"no {missing} found, and VLCAM_REQUIRE_BROWSER is set")
        pytest.skip(f"no {missing} found: the pages are not tested")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def browser(chrome: Chrome, tmp_path: Path) -> Iterator[Browser]:
    """Fails a test whose page complained or asked for anything but itself."""
    from tests.tools.browser import Browser

    watching = Browser(chrome, tmp_path)
    chrome.get("about:blank")
    chrome.get_log("browser"), chrome.get_log("performance")
    yield watching
    assert not watching.problems()
    assert not watching.requests()
