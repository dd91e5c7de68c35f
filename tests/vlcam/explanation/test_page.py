"""Pages in a real browser, opened from disk: what is seen, and that nothing is run or fetched."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.samples import by_hand
from tests.tools.browser import DESK, PHONE, Browser
from vlcam.explanation.explanation import Explanation
from vlcam.explanation.page import Section, index, notebook, page, sentence
from vlcam.geometry.grid import Grid, Placement


def test_the_watch_sees_complaints_and_requests(browser: Browser) -> None:
    """Or the absence of both would prove nothing."""
    browser.open('<img src="https://127.0.0.1:9/x.png"><script>nothing()</script>')
    assert any("nothing is not defined" in problem for problem in browser.problems())
    assert browser.requests() == ["https://127.0.0.1:9/x.png"]
    browser.open("<p>quiet", "quiet.html")


def test_hovering_shows_exactly_that_words_map(browser: Browser) -> None:
    browser.open(by_hand.explanation(["a", "red", "dog"]))
    assert browser.seen() == browser.seen(".peak") == []
    hint = browser.status()
    assert hint.startswith("Point at a word, tap it")
    for number, word in enumerate(["a", "red", "dog"]):
        browser.hover(number)
        assert browser.seen() == browser.seen(".peak") == [number]
        assert browser.status().startswith(f"{word} · probability ")
    browser.move_away()
    assert browser.seen() == browser.seen(".peak") == [] and browser.status() == hint


def test_every_word_has_its_own_map_and_numbers(browser: Browser) -> None:
    found = by_hand.explanation(["a", "red", "dog", "runs"], grey=True)
    browser.open(found)
    texts = [word.text.split("\n") for word in browser.all(".word")]
    assert texts == [["a", "98 %"], ["red", "50 %"], ["dog", "9 %"], ["runs", "<0.1 %"]]
    bars = [float(bar.get_attribute("width")) for bar in browser.all(".word .fill")]
    assert bars == pytest.approx([100 * word.probability for word in found.words], abs=0.01)
    for number, word in enumerate(found.words):
        browser.hover(number)
        assert browser.status().endswith(f"peak at x {word.peak[0]}, y {word.peak[1]}")


def test_a_click_pins_and_hovering_still_looks_at_others(browser: Browser) -> None:
    browser.open(by_hand.explanation())
    browser.word(1).click()
    assert browser.pressed() == [1]
    browser.move_away()
    assert browser.seen() == [1]
    browser.hover(2)
    assert browser.seen() == [2] and browser.pressed() == [1]
    browser.move_away()
    assert browser.seen() == [1]
    browser.word(2).click()
    browser.move_away()
    assert browser.seen() == [2] and browser.pressed() == [2]
    browser.word(2).click()  # again: lets go of it, at once
    assert browser.seen() == browser.pressed() == []


@pytest.mark.parametrize("way", ["escape", "button"])
def test_escape_and_the_button_show_the_photo_only(browser: Browser, way: str) -> None:
    browser.open(by_hand.explanation(grey=True))
    bare = browser.picture()
    browser.word(1).click()
    browser.move_away()
    assert browser.one(".plain").get_attribute("aria-pressed") == "false"
    assert np.abs(browser.picture() - bare).max() > 50
    browser.press(Keys.ESCAPE) if way == "escape" else browser.one(".plain").click()
    assert browser.seen() == browser.pressed() == browser.seen(".peak") == []
    assert browser.one(".plain").get_attribute("aria-pressed") == "true"
    assert np.array_equal(browser.picture(), bare)


def test_a_tap_pins(browser: Browser) -> None:
    browser.look(PHONE)
    browser.open(by_hand.explanation())
    browser.tap(1)
    assert browser.seen() == browser.pressed() == [1]
    browser.tap(2)
    assert browser.seen() == browser.pressed() == [2]
    browser.tap(2)
    assert browser.seen() == browser.pressed() == []


def test_arrow_keys_walk(browser: Browser) -> None:
    browser.open(by_hand.explanation(["a", "red", "dog"]))
    for key, number in (
        (Keys.ARROW_RIGHT, 0),
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_RIGHT, 2),
        (Keys.ARROW_RIGHT, 0),
        (Keys.ARROW_LEFT, 2),
        (Keys.ARROW_LEFT, 1),
    ):
        browser.press(key)
        assert browser.seen() == [number] and browser.pressed() == []
    browser.press(Keys.ENTER)
    assert browser.seen() == browser.pressed() == [1]
    browser.press(Keys.ARROW_LEFT)
    assert browser.seen() == [0] and browser.pressed() == [1]
    browser.press(Keys.ESCAPE)
    assert browser.seen() == browser.pressed() == []
    browser.press(Keys.ARROW_LEFT)
    assert browser.seen() == [2]


def test_walking_goes_on_from_the_word_that_was_clicked(browser: Browser) -> None:
    browser.open(by_hand.explanation())
    browser.word(1).click()
    browser.move_away()
    browser.press(Keys.ARROW_RIGHT)
    assert browser.seen() == [2] and browser.pressed() == [1]


def test_the_tab_key_walks_too(browser: Browser) -> None:
    browser.open(by_hand.explanation())
    browser.press(Keys.TAB)
    assert browser.seen() == [0]
    browser.press(Keys.TAB)
    browser.press(Keys.SPACE)
    assert browser.seen() == browser.pressed() == [1]
    browser.press(Keys.TAB, Keys.TAB)
    assert browser.js("document.activeElement.type") == "range" and browser.seen() == [1]


def test_the_mouse_passing_by_does_not_hide_what_the_keyboard_shows(browser: Browser) -> None:
    browser.open(by_hand.explanation())
    browser.press(Keys.ARROW_RIGHT)
    browser.hover(2)
    assert browser.seen() == [2]
    browser.move_away()
    assert browser.seen() == [0]


def test_arrow_keys_follow_the_direction_of_reading(browser: Browser) -> None:
    browser.open(by_hand.explanation(["כלב", "אדום", "רץ"]))
    lefts = [word.location["x"] for word in browser.all(".word")]
    assert lefts == sorted(lefts, reverse=True)
    browser.press(Keys.ARROW_LEFT)
    browser.press(Keys.ARROW_LEFT)
    assert browser.seen() == [1]
    browser.press(Keys.ARROW_RIGHT)
    assert browser.seen() == [0]
    # "98 %" would read "% 98", and "<0.1 %" would read ">0.1 %", if they went the caption's way.
    assert browser.js("getComputedStyle(document.querySelector('.percent')).direction") == "ltr"


def test_the_slider_changes_the_maps_opacity(browser: Browser) -> None:
    browser.open(by_hand.explanation(grey=True))
    bare = browser.picture()
    browser.one(".mark").click()
    browser.word(0).click()
    browser.move_away()
    slider = browser.one(".opacity input")
    changes = {}
    for key, percent in ((Keys.HOME, 0), (Keys.END, 100), (Keys.ARROW_LEFT, 99)):
        slider.send_keys(key)
        assert browser.one(".opacity output").text == f"{percent} %"
        shown = browser.js("getComputedStyle(document.querySelector('.maps')).opacity")
        assert float(shown) == percent / 100
        changes[percent] = np.abs(browser.picture() - bare).mean()
        assert browser.seen() == [0]  # the arrow key moved the slider, it did not walk on
    assert changes[0] == 0 and changes[100] > changes[99] > 40
    browser.js("(arguments[0].value = 50, arguments[0].dispatchEvent(new Event('input')))", slider)
    assert np.abs(browser.picture() - bare).mean() == pytest.approx(changes[100] / 2, rel=0.05)


def brightest(picture: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """The photo pixel (x, y) at the centre of the brightest spot of a picture of it."""
    light = picture.sum(2)
    rows, columns = np.nonzero(light >= light.max() - 1)
    assert np.ptp(rows) < len(light) / 8 and np.ptp(columns) < len(light[0]) / 8, "no one spot"
    y, x = (rows.mean() + 0.5) / len(light), (columns.mean() + 0.5) / len(light[0])
    return x * size[1] - 0.5, y * size[0] - 0.5


PHOTOS: dict[str, tuple[tuple[int, int], Placement | None]] = {
    "small": ((90, 120), None),
    "large": ((1800, 2400), None),
    "tall": ((160, 90), None),
    "wide": ((60, 240), None),
    "cropped": ((60, 240), Placement.resized((60, 240), (60, 240), (60, 80), corner=(0, 80))),
}


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_the_strongest_place_on_screen_is_the_peak(
    browser: Browser, name: str, screen: tuple[int, int]
) -> None:
    size, placement = PHOTOS[name]
    found = by_hand.explanation(["a", "dog"], size=size, placement=placement, grey=True)
    browser.look(screen)
    browser.open(found)
    browser.one(".mark").click()
    browser.one(".opacity input").send_keys(Keys.END)
    for number, word in enumerate(found.to_json()["words"]):
        browser.hover(number)
        x, y = brightest(browser.picture(), size)
        assert abs(x - word["peak"][0]) < 0.012 * size[1] + 1, (x, y, word)
        assert abs(y - word["peak"][1]) < 0.012 * size[0] + 1, (x, y, word)


def test_a_map_made_at_the_pixels_is_where_it_should_be(browser: Browser) -> None:
    maps = torch.zeros(1, 60, 80)
    maps[0, 40:44, 10:14] = 1.0
    found = by_hand.explanation(["dog"], grey=True)
    found = replace(found, maps=maps, grid=Grid.pixels((60, 80)))
    browser.open(found)
    browser.one(".mark").click()
    browser.one(".opacity input").send_keys(Keys.END)
    browser.hover(0)
    x, y = brightest(browser.picture(), (90, 120))
    assert abs(x - (11.5 * 1.5 + 0.25)) < 1.5 and abs(y - (41.5 * 1.5 + 0.25)) < 1.5
    assert "99.5th percentile" in browser.one(".note").text


def test_signed_maps_are_red_for_and_blue_against(browser: Browser) -> None:
    found = by_hand.explanation(["dog"], signed=True, grey=True, method="grad-cam-no-relu")
    browser.open(found)
    browser.one(".mark").click()
    browser.hover(0)
    picture, raw = browser.picture(), found.photo_map(0)
    for place, channel, other in ((raw.argmax(), 0, 2), (raw.argmin(), 2, 0)):
        y, x = np.unravel_index(place, raw.shape)
        row, column = (y + 0.5) / 90 * len(picture), (x + 0.5) / 120 * len(picture[0])
        pixel = picture[int(row), int(column)]
        assert pixel[channel] - pixel[other] > 60
    ends = [end.text for end in browser.all(".legend span")]
    assert ends == ["against", "for"]


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_the_mark_lies_at_the_peak(browser: Browser, name: str, screen: tuple[int, int]) -> None:
    size, placement = PHOTOS[name]
    found = by_hand.explanation(["a", "red", "dog"], size=size, placement=placement)
    browser.look(screen)
    browser.open(found)
    for number, word in enumerate(found.to_json()["words"]):
        browser.hover(number)
        left, top, width, height = browser.box(".photo")
        assert width / height == pytest.approx(size[1] / size[0], rel=0.02)
        for kind in ("first", "last"):
            x, y, w, h = browser.box(f".peak:not([hidden]) circle:{kind}-child")
            assert w == pytest.approx(h, rel=0.01)
            assert x + w / 2 == pytest.approx(
                left + (word["peak"][0] + 0.5) / size[1] * width, abs=1
            )
            assert y + h / 2 == pytest.approx(
                top + (word["peak"][1] + 0.5) / size[0] * height, abs=1
            )
    browser.one(".mark").click()
    browser.hover(1)
    assert browser.seen() == [1] and browser.seen(".peak") == []


def test_a_mark_at_the_border_is_seen_whole(browser: Browser) -> None:
    found = by_hand.explanation(["dog"])
    corner = replace(found, words=(replace(found.words[0], peak=(0, 0)),))
    browser.open(corner)
    browser.hover(0)
    x, y, w, _ = browser.box(".peak:not([hidden]) circle:last-child")
    shot = Image.open(io.BytesIO(browser.chrome.get_screenshot_as_png())).convert("L")
    assert shot.getpixel((round(x + w / 2 - w / 2 * 0.7), round(y + w / 2 - w / 2 * 0.7))) > 250
    left, top, *_ = browser.box(".photo")
    assert x < left and y < top


def test_a_word_without_a_map_says_so(browser: Browser) -> None:
    browser.open(by_hand.explanation(["a", "red", "dog"], flat=[1], grey=True))
    bare = browser.picture()
    assert browser.word(1).text.split("\n") == ["red", "50 % · no map"]
    browser.hover(1)
    assert browser.seen() == browser.seen(".peak") == []
    assert "no map: no cell of layer4 speaks for it" in browser.status()
    assert "--method layercam" in browser.status() and "peak at" not in browser.status()
    assert "No map of “red”: no cell of layer4" in browser.one(".note").text
    assert np.array_equal(browser.picture(), bare)
    browser.word(0).click()
    browser.word(1).click()
    assert browser.seen() == [] and browser.pressed() == [1]
    browser.hover(2)
    assert browser.seen() == [2]


def test_unknown_words_are_greyed_in_their_place(browser: Browser) -> None:
    browser.open(
        by_hand.explanation(
            ["a", "near", "a"], unknown=["Axolotl", "quokka"], caption="a Axolotl near a quokka"
        )
    )
    texts = [element.text.split("\n")[0] for element in browser.all(".caption > *")]
    assert texts == ["a", "Axolotl", "near", "a", "quokka"]
    colours = {
        kind: browser.js(f"getComputedStyle(document.querySelector('{kind} .text')).color")
        for kind in (".word", ".unknown")
    }
    grey, ink = ([int(v) for v in colours[k][4:-1].split(",")] for k in (".unknown", ".word"))
    assert np.mean(ink) < 50 < 90 < np.mean(grey) < 160
    unknown = browser.all(".unknown")
    assert [element.text.split("\n")[1] for element in unknown] == ["unknown", "unknown"]
    assert all("vocabulary" in element.get_attribute("title") for element in unknown)
    assert "Greyed words are not in the model's vocabulary." in browser.one(".note").text
    ActionChains(browser.chrome, 0).move_to_element(unknown[0]).click().perform()
    assert browser.seen() == browser.pressed() == []
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.seen() == [1]


HOSTILE = [
    "<script>document.title='ran'</script>",
    "</script><script>document.title='ran'</script>",
    '"><img src=x onerror="document.title=1">',
    "' onmouseover='document.title=1",
    "a&b",
    "&lt;b&gt;",
    "$photo",
    "${x}",
    "</style></title>",
    "🐕",
    "כלב",
    "دراجة",
    "-->",
]


def test_words_are_text_and_nothing_else(browser: Browser) -> None:
    found = by_hand.explanation(
        HOSTILE,
        flat=[4],
        unknown=["<script>document.title='ran'</script>x"],
        caption=" ".join([*HOSTILE, "<script>document.title='ran'</script>x"]),
        photo="photos/\"><img src=x onerror='document.title=1'>.jpg",
        model="<img src=x onerror=alert(1)>",
    )
    browser.open(found)
    texts = browser.js("[...document.querySelectorAll('.word .text')].map(e => e.textContent)")
    assert texts == HOSTILE
    assert browser.one(".unknown .text").get_attribute("textContent") == found.unknown[0]
    assert browser.chrome.title == f"{found.caption} - vlcam"
    for number, text in enumerate(HOSTILE):
        browser.hover(number)
        assert browser.one(".status strong").get_attribute("textContent") == text
        assert browser.seen() == ([] if number == 4 else [number])
    assert len(browser.all("script")) == len(browser.all("style")) == len(browser.all("img")) == 1
    assert not browser.all("[onerror], [onmouseover], b")
    assert browser.all("dd")[0].text == "\"><img src=x onerror='document.title=1'>.jpg"
    assert browser.all("dd")[1].text == "<img src=x onerror=alert(1)>"
    assert browser.chrome.title == f"{found.caption} - vlcam"


def test_a_name_that_is_not_unicode_is_shown_as_far_as_it_goes(browser: Browser) -> None:
    browser.open(by_hand.explanation(["caf\udce9", "dog"], photo="photos/caf\udce9.jpg"))
    assert browser.all("dd")[0].text == "caf?.jpg"
    browser.hover(1)
    assert browser.seen() == [1]


def test_the_policy_lets_nothing_in(browser: Browser) -> None:
    """Even if text became markup, it could neither run nor ask for anything."""
    browser.open(by_hand.explanation())
    browser.chrome.execute_async_script(
        """const done = arguments[0];
        const element = (name, set) => document.body.append(
            Object.assign(document.createElement(name), set));
        element("script", { textContent: "document.title = 'ran'" });
        element("img", { src: "https://127.0.0.1:9/x.png" });
        element("div", { innerHTML: "<p onclick=\\"document.title = 'ran'\\">" });
        document.querySelector("p[onclick]").click();
        fetch("https://127.0.0.1:9/x").catch(() => done());"""
    )
    assert browser.chrome.title != "ran"
    problems = browser.problems()
    assert all("Content Security Policy" in problem for problem in problems)
    assert {
        kind
        for kind in ("script-src", "img-src", "default-src")
        if any(kind in problem for problem in problems)
    } >= {"script-src", "img-src"}
    assert len(problems) >= 4


class _Addresses(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        self.found += [value or "" for name, value in attrs if name in names]


def test_a_page_points_at_nothing_outside_itself() -> None:
    html = page(by_hand.explanation(["a", "dog"]))
    found = _Addresses(html).found
    assert len(found) == 5  # icon, photo, two maps, legend
    assert all(address.startswith("data:") for address in found)
    assert "url(" not in html and "@import" not in html and "import(" not in html


LONG = "pneumonoultramicroscopicsilicovolcanoconiosis"


@pytest.mark.parametrize(
    "found",
    [
        by_hand.explanation(["a", LONG, LONG + LONG], flat=[1], model="m" * 300),
        by_hand.explanation(["a", "dog"], size=(20, 900), unknown=[LONG], photo="p" * 99),
        by_hand.explanation(["a", "dog"], size=(900, 20)),
        by_hand.explanation(["a", "dog"], size=(1, 1)),
        by_hand.explanation(["word"] * 70),
        by_hand.explanation(["כלב", LONG]),
    ],
    ids=["long words", "wide", "tall", "one pixel", "many words", "right to left"],
)
def test_it_fits_a_phone(browser: Browser, found: Explanation) -> None:
    browser.look(PHONE)
    browser.open(found)
    for number in (0, 1):
        browser.tap(number)
        assert browser.pressed() == [number]
        # A page that is too wide makes a phone zoom out: the window itself grows.
        assert browser.js("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        left, top, width, height = browser.box(".photo")
        assert left >= 0 and left + width <= 390 and height <= 0.6 * 844
        assert top >= -1


@pytest.mark.parametrize("size", [(90, 120), (60, 240), (240, 60)])
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_word_and_photo_are_both_in_sight(
    browser: Browser, screen: tuple[int, int], size: tuple[int, int]
) -> None:
    browser.look(screen)
    browser.open(by_hand.explanation(["word"] * 150, size=size))
    browser.press(Keys.ARROW_LEFT)
    check_in_sight(browser, 149, screen)
    assert browser.js("scrollY") > 100
    for number in range(144, 84, -5):  # up to words that lay behind the photo
        browser.press(*[Keys.ARROW_LEFT] * 5)
        check_in_sight(browser, number, screen)


def check_in_sight(browser: Browser, number: int, screen: tuple[int, int]) -> None:
    assert browser.seen() == [number]
    _, top, _, height = browser.box(".photo")
    assert top >= -1 and top + height <= screen[1]
    corners = browser.js(
        "(r => [[r.left, r.top], [r.right, r.bottom]])(arguments[0].getBoundingClientRect())"
        ".map(([x, y], i) => document.elementFromPoint(x + 9 - 18 * i, y + 9 - 18 * i))"
        ".map(e => arguments[0].contains(e))",
        browser.word(number),
    )
    assert corners == [True, True]


def test_photos_are_not_sent_larger_than_they_are_shown() -> None:
    found = by_hand.explanation(["a", "red", "dog"], size=(1800, 2400))
    noisy = replace(found, maps=torch.rand(3, 200, 300), grid=Grid.pixels((200, 300)))
    assert len(page(found)) < 1_300_000 and len(page(noisy)) < 1_300_000


def test_a_page_without_words_opens(browser: Browser) -> None:
    browser.open(by_hand.explanation([], unknown=["axolotl"], caption="axolotl"))
    browser.press(Keys.ARROW_RIGHT, Keys.ESCAPE)
    assert browser.one(".caption").text.split("\n") == ["axolotl", "unknown"]


@pytest.mark.parametrize("width", [900, 1200])
def test_many_fit_in_one_notebook(browser: Browser, width: int) -> None:
    first = by_hand.explanation(["a", '"red"', "</iframe>"])
    second = by_hand.explanation(["the", "dog"], size=(60, 240))
    outputs = [found._repr_html_() for found in (first, second, first)]
    assert outputs[0] == notebook(first)
    body = "".join(
        f"<div style='width: {width}px; height: 950px'>{output}</div>" for output in outputs
    )
    browser.open(f"<!doctype html><meta charset=utf-8><title>Notebook</title>{body}")
    frames = browser.all("iframe")
    assert len(frames) == 3
    for frame, found in zip(frames, (first, second, first), strict=True):
        assert frame.get_attribute("sandbox") == "allow-scripts"
        assert frame.get_attribute("srcdoc") == found.html()
    for frame, found in zip(frames, (first, second, first), strict=True):
        browser.chrome.execute_script("arguments[0].scrollIntoView()", frame)
        browser.chrome.switch_to.frame(frame)
        browser.chrome.implicitly_wait(10)  # frames out of sight are loaded when they come in sight
        assert browser.all(".word")
        texts = browser.js("[...document.querySelectorAll('.word .text')].map(e => e.textContent)")
        assert texts == [word.text for word in found.words]
        assert browser.seen() == []  # whatever was done in the frames before
        browser.word(1).click()
        assert browser.seen() == [1]
        height = browser.js("[document.documentElement.scrollHeight, innerHeight]")
        assert height[0] <= height[1]  # no scroll bar inside the output
        with pytest.raises(Exception, match="cross-origin"):
            browser.js("parent.document.title")
        browser.chrome.switch_to.default_content()
    browser.chrome.implicitly_wait(0)
    assert browser.chrome.title == "Notebook"


NAMES = ["plain", 'a b#1%20&"q"?', "🐕 כלב", "a:b"]


def test_the_index_links_to_each_page(browser: Browser) -> None:
    entries = []
    for number, name in enumerate(NAMES):
        found = by_hand.explanation(["photo", str(number)], flat=[1], signed=number == 1)
        (browser.folder / name).mkdir()
        (browser.folder / name / "page.html").write_text(found.html(), "utf-8")
        entries.append((found, f"{name}/page.html"))
    sections = [Section("All", entries, "Four."), Section("Some more of them " * 9, entries[:1])]
    html = index("Photos", "Look.", sections)
    for screen in (DESK, PHONE):
        browser.look(screen)
        browser.open(html, "index.html")
        assert browser.js("innerWidth") == screen[0]
        assert browser.js("document.documentElement.scrollWidth") <= screen[0]
        assert len(browser.all(".card")) == len(NAMES) + 1
        edges = "h1, h2, header p, section > p, li:first-child > .card"
        lefts = [one.rect["x"] for one in browser.all(edges)]
        assert len(lefts) == 7 and len(set(lefts)) == 1 and lefts[0] >= 16
    for number in range(len(NAMES)):
        browser.all(".card")[number].click()
        assert browser.chrome.title == f"photo {number} - vlcam"
        browser.chrome.back()


def test_the_index_holds_text_as_text(browser: Browser) -> None:
    found = by_hand.explanation(HOSTILE, photo='"><b onerror="x">', model="<b>bold</b>")
    none = by_hand.explanation(["a"], flat=[0])
    entries = [(found, "found/page.html"), (none, "none/page.html")]
    browser.open(index("<b>t</b>", "<b>i</b>", [Section("<b>h</b>", entries, "<b>x</b>")]))
    assert [one.text for one in browser.all("h1, h2")] == ["<b>t</b>", "<b>h</b>"]
    shown, other = browser.all(".card")
    assert shown.find_element(By.TAG_NAME, "p").get_attribute("textContent") == found.caption
    assert "<b>bold</b> · grad-cam" in shown.text and "the map of" not in other.text
    assert not browser.all("script, b, [onerror], [onmouseover]")
    assert len(shown.find_elements(By.TAG_NAME, "img")) == 2
    assert len(other.find_elements(By.TAG_NAME, "img")) == 1
    assert browser.js("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize(
    ("known", "unknown", "caption", "order"),
    [
        ("a dog", "", "a dog", "a dog"),
        ("a a", "axolotl", "a axolotl a", "a *axolotl a"),
        ("a", "axolotl", "axolotl a", "*axolotl a"),
        ("cat", "catalog", "catalog cat", "*catalog cat"),
        ("cat", "catalog", "cat catalog", "cat *catalog"),
        ("a the", "X y", "x, A Y - the!", "*X a *y the"),
        ("dog", "x x x", "x x dog x", "*x *x dog *x"),
        ("gone dog", "emu", "a dog, an emu", "gone dog *emu"),
        ("", "x y", "x y", "*x *y"),
        ("", "", "", ""),
        ("狗 草", "猫", "狗猫草", "狗 *猫 草"),
        ("a-b", "a", "a a-b", "*a a-b"),
        ("a", "a-b", "a-b a", "*a-b a"),
    ],
)
def test_known_and_unknown_words_are_put_in_the_captions_order(
    known: str, unknown: str, caption: str, order: str
) -> None:
    found = by_hand.explanation(known.split(), unknown=unknown.split(), caption=caption)
    told = sentence(found)
    assert " ".join(f"*{text}" if which is None else text for text, which in told) == order
    assert [which for _, which in told if which is not None] == list(range(len(known.split())))


def test_the_order_of_long_captions_is_found_word_by_word() -> None:
    """In steps as many as words: the best of all orders of 8,000 words is not to be waited for."""
    random = np.random.default_rng(0)
    words = ["a", "an", "cat", "catalog", "at", "log", "ox", "axolotl", "the", "then", "hen"]
    order = [(words[i], i % 2 == 0) for i in random.integers(0, len(words), 8000).tolist()]
    found = by_hand.explanation(
        [text for text, known in order if known],
        unknown=[text for text, known in order if not known],
        caption=" ".join(text for text, _ in order),
    )
    assert [(text, which is not None) for text, which in sentence(found)] == order
