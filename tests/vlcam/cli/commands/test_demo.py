"""``vlcam demo``."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from tests.tools.browser import DESK, PHONE, Browser
from tests.tools.command_line import FILES, PHOTOS, below, called, read
from vlcam.cli.commands.demo import EXHIBITS


def test_the_demo(browser: Browser, tmp_path: Path) -> None:
    """The bundled models on the bundled photos. One test: no two processes then make the pages."""
    out = tmp_path / "new" / "demo"
    printed, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complained):
        assert called("demo", "--out", out) == 0
    assert complained.getvalue() == ""
    assert printed.getvalue().endswith(f"\nOpen {out / 'index.html'} in a browser.\n")
    check_files(out)
    browser.folder = out
    check_index(browser)
    folders = sorted(path.parent for path in out.glob("**/page.html"))
    pages = browser.js("[...document.links].map(link => link.href)")
    assert sorted(pages) == [(folder / "page.html").as_uri() for folder in folders]
    assert len(folders) >= 4
    for folder in folders:
        check_page(browser, folder)


def check_files(out: Path) -> None:
    photos = [Path(name).stem for one in EXHIBITS for name in one.asked]
    assert photos[5:] == [photo.stem for photo in PHOTOS] and "astronaut" in photos
    assert sorted(path.name for path in out.iterdir()) == sorted(["index.html", "answers", *photos])
    assert sorted(path.name for path in (out / "answers").iterdir()) == sorted(photos)
    names = [name for photo in photos for name in (photo, f"answers/{photo}")]
    assert all(below(out / name) == FILES for name in names)
    index = (out / "index.html").read_text("utf-8")
    assert re.findall(r'href="([^"]*/[^"]*)"', index) == [f"{name}/page.html" for name in names]
    explained = [read(out / name) for name in names]
    assert all((one.get("caption") or one["question"]) in index for one in explained)
    hydrant = read(out / "answers" / "hydrant-bicycle")
    assert [answer["text"] for answer in hydrant["answers"]] == ["green and red", "green", "red"]


def check_index(browser: Browser) -> None:
    """It says what is real and what may be wrong, on screens of both sizes."""
    browser.chrome.get((browser.folder / "index.html").as_uri())
    assert [one.text for one in browser.all("h2")] == ["Real photos", "Rendered scenes"]
    (intro, real, rendered) = (one.text for one in browser.all("header p, section > p"))
    assert "Some captions and answers are wrong, and that is why one looks" in intro
    assert "scikit-image" in real and "drawn by a program" in rendered
    for screen in (DESK, PHONE):
        browser.look(screen)
        lefts = [one.rect["x"] for one in browser.all("h1, h2, header p, section > p")]
        assert {*lefts, *(one.rect["x"] for one in browser.all("ul"))} == {lefts[0]}
        assert browser.js("document.documentElement.scrollWidth") <= screen[0]
    browser.look(DESK)


def check_page(browser: Browser, folder: Path) -> None:
    told = json.loads((folder / "explanation.json").read_text("utf-8"))
    words: Sequence[dict[str, Any]] = told["answers" if "question" in told else "words"]
    browser.chrome.get((folder / "page.html").as_uri())
    assert len(browser.all(".word")) == len(words)
    unit = "an answer" if "question" in told else "a word"
    assert browser.status().startswith(f"Point at {unit}, ")
    for number, word in enumerate(words):
        browser.hover(number)
        assert browser.seen() == ([] if word["degenerate"] else [number])
        assert browser.status().startswith(f"{word['text']} · ")
