"""An explanation as a web page: one file that needs no network, no server and no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import PurePath
from string import Template
from urllib.parse import quote

import numpy as np
from PIL import Image

from vlcam.explanation import no_map
from vlcam.explanation.display import (
    OPACITY,
    at_pixels,
    blend,
    chance,
    ends,
    fitted,
    palette,
    percent,
    scaling,
    scalings,
    settings,
    shown_levels,
    unlikes,
)
from vlcam.explanation.result import Answer, AttentionMap, Result, Word

Mapped = Word | Answer | AttentionMap

_PHOTO, _PHOTO_BYTES = 1280, 500_000  # the photo's longer side in pixels, its size in the page
_MAP_SIDES, _MAP_BYTES = (400, 280, 200, 120), 550_000  # of each map, and of all maps' files
_WIDE = 1.8  # width / height from which the words go below the photo on any screen


def page(explanation: Result) -> str:
    """A self-contained page: hover over, tap or tab to a word, see its map over the photo."""
    height, width = explanation.image.shape[:2]
    script = _asset("page.js")
    style = f"{_asset('page.css')}:root {{ --ratio: {width / height:.6f}; }}\n"
    notes = [explanation.unlike] if explanation.unlike else []
    notes.append(scaling(explanation))
    if explanation.caveat:
        notes.append(explanation.caveat)
    if explanation.unknown and explanation.by_word:
        notes.append("Greyed words are not in the model's vocabulary.")
    elif explanation.unknown:
        notes.append(f"Not in the model's vocabulary: {', '.join(explanation.unknown)}.")
    notes += map(str, no_map.notes(explanation))
    name = PurePath(explanation.photo).name
    low, high = ends(explanation)
    return _filled(
        "page.html",
        policy=_policy(style, script),
        style=style,
        script=script,
        shape="wide" if width / height >= _WIDE else "",
        title=escape(f"{explanation.text} - vlcam"),
        photo_name=escape(name),
        photo=_jpeg(explanation.image, _PHOTO, _PHOTO_BYTES),
        width=width,
        height=height,
        opacity=OPACITY,
        percent_opacity=round(100 * OPACITY),
        maps=_maps(explanation),
        peaks=_peaks(explanation.items, 0.025 * math.sqrt(width * height)),
        heading=_heading(explanation),
        unit="a word" if explanation.by_word else "an answer",
        legend=_coloured(np.arange(256, dtype=np.uint8)[None], palette(explanation.signed)),
        low=low,
        high=high,
        note=escape(" ".join(notes)),
        settings=_settings([("photo", name), *settings(explanation)]),
    )


def notebook(explanation: Result) -> str:
    """The page in a frame of its own, so that any number of them fit in one notebook."""
    ratio = explanation.image.shape[1] / explanation.image.shape[0]
    return (
        f'<iframe srcdoc="{escape(page(explanation))}" sandbox="allow-scripts" width="100%"'
        f' height="{900 if ratio < _WIDE else 780}" loading="lazy"'
        f' title="{escape(explanation.text)}" style="border: 0"></iframe>'
    )


@dataclass(frozen=True)
class Section:
    """A part of an index.

    Attributes:
        heading: above it.
        entries: explanations, each with the path of its page from the index. Each is looked at
            once, in order, so that many need not be in memory together.
        text: below the heading.
    """

    heading: str
    entries: Iterable[tuple[Result, str]]
    text: str = ""


def index(title: str, intro: str, sections: Sequence[Section]) -> str:
    """A page of cards, one for each explanation, which leads to its page.

    Args:
        title: above all.
        intro: below the title.
        sections: with their own headings; at least one.
    """
    style = _asset("page.css")
    return _filled(
        "index.html",
        policy=_policy(style, ""),
        style=style,
        title=escape(title),
        intro=escape(intro),
        sections="\n".join(
            _section(
                escape(one.heading), "\n".join(_card(*entry) for entry in one.entries), one.text
            )
            for one in sections
        ),
    )


def compared(columns: Sequence[tuple[str, Result, str]]) -> str:
    """A page of one photo explained by several models or methods: side by side, where all explain
    the same words or answers; else one below the other.

    Args:
        columns: what each is called, its explanation, and the path of that one's own page.
    """
    style = _asset("page.css")
    every = [explanation for _, explanation, _ in columns]
    first = every[0]
    texts = [[item.text for item in explanation.items] for explanation in every]
    if all(own == texts[0] for own in texts):
        sections = [_side_by_side(columns, index) for index in range(len(first.items))]
    else:
        sections = [_below(*column) for column in columns]
    same = len({explanation.text for explanation in every}) == 1
    name = PurePath(first.photo).name
    return _filled(
        "compared.html",
        policy=_policy(style, ""),
        style=style,
        title=escape(f"{name}: compared - vlcam"),
        heading=escape(first.text if same else name),
        notes=escape(" ".join([*unlikes(every), *scalings(every)])),
        sections="\n".join(sections),
    )


def _side_by_side(columns: Sequence[tuple[str, Result, str]], index: int) -> str:
    """One word or answer of every explanation."""
    tiles = "\n".join(_map_tile(one, index, _link(label, path)) for label, one, path in columns)
    return _section(escape(columns[0][1].items[index].text), tiles)


def _below(label: str, explanation: Result, path: str) -> str:
    """All words or answers of one explanation."""
    tiles = "\n".join(
        _map_tile(explanation, index, escape(item.text))
        for index, item in enumerate(explanation.items)
    )
    said = f": {explanation.caption}" if explanation.by_word else ""
    return _section(f"{_link(label, path)}{escape(said)}", tiles)


def _section(heading: str, tiles: str, text: str = "") -> str:
    """Tiles (HTML) below their heading (HTML) and a text."""
    told = f"<p>{escape(text)}</p>\n" if text else ""
    return (
        f'<section><h2 dir="auto">{heading}</h2>\n{told}'
        f'<ul class="cards">\n{tiles}\n</ul></section>'
    )


def _link(text: str, path: str) -> str:
    return f'<a href="{quote(os.fsencode(path))}">{escape(text)}</a>'


def _map_tile(explanation: Result, index: int, name: str) -> str:
    """The photo under a map, with a name (HTML)."""
    item = explanation.items[index]
    size = fitted((explanation.image.shape[0], explanation.image.shape[1]), 360)
    photo = Image.fromarray(explanation.image).resize((size[1], size[0]), Image.Resampling.BOX)
    picture = np.asarray(photo)
    if not item.degenerate:
        levels = shown_levels(explanation, index, size)
        picture = blend(picture, levels, palette(explanation.signed))
    told = _says(explanation, index)
    return (
        f'<li class="card"><img src="{_jpeg(picture, 360, 60_000)}"'
        f' alt="the photo under the map of “{escape(item.text)}”">'
        f'<p dir="auto">{name}</p><small>{escape(told)}</small></li>'
    )


def sentence(explanation: Result) -> list[tuple[str, int | None]]:
    """The caption's words in order: each explained one with its index, each unknown with None.

    Known and unknown words are each in order; the caption says how they alternate: of the next of
    either, that one comes first which begins first in what is left of the caption (where both begin
    there, the longer). A word that is not in it as written comes at once.
    """
    caption = explanation.caption.casefold()
    known = _Places(caption, [word.text for word in explanation.words])
    unknown = _Places(caption, list(explanation.unknown))
    merged: list[tuple[str, int | None]] = []
    at = 0
    while known.left or unknown.left:
        first = min((words for words in (known, unknown) if words.left), key=lambda w: w.next(at))
        merged.append((first.text, first.taken if first is known else None))
        at = first.take(at)
    return merged


class _Places:
    """Words in order, and where in a caption the next of them is found."""

    def __init__(self, caption: str, texts: Sequence[str]) -> None:
        self._caption, self._texts = caption, texts
        self.taken = 0
        self._found = -1

    @property
    def left(self) -> bool:
        return self.taken < len(self._texts)

    @property
    def text(self) -> str:
        return self._texts[self.taken]

    def next(self, at: int) -> tuple[int, int]:
        """Where the next word begins, at ``at`` or behind it (-1: nowhere), and what decides
        between two that begin there."""
        letters = self.text.casefold()
        if self._found < at:
            self._found = self._caption.find(letters, at)
        return self._found, -len(letters)

    def take(self, at: int) -> int:
        """Takes the next word; where the caption goes on behind it."""
        found = self._found
        end = found + len(self.text.casefold()) if found >= 0 else at
        self.taken, self._found = self.taken + 1, -1
        return end


def _heading(explanation: Result) -> str:
    """The caption's words, or the question over its answers or its answer's words, as buttons."""
    looks = explanation.items[len(explanation.maps) :] if explanation.by_word else ()
    attention = _answers(explanation, len(explanation.maps)) if looks else ""
    if explanation.question is None:
        words = "\n".join(_words(explanation))
        return f'<h1 class="caption" dir="auto">\n{words}\n</h1>{attention}'
    question = f'<h1 class="question" dir="auto">{escape(explanation.question)}</h1>'
    if not explanation.by_word:
        return f"{question}{_answers(explanation)}"
    words = "\n".join(_words(explanation))
    return f'{question}\n<div class="caption answers" dir="auto">\n{words}\n</div>{attention}'


def _answers(explanation: Result, first: int = 0) -> str:
    """Buttons of the items from ``first`` on, a line each."""
    buttons = "\n".join(_button(explanation, i) for i in range(first, len(explanation.items)))
    return f'\n<div class="caption answers" dir="auto">\n{buttons}\n</div>'


def _words(explanation: Result) -> Iterable[str]:
    for text, which in sentence(explanation):
        if which is None:
            yield (
                '<span class="unknown" title="not in the model&#x27;s vocabulary, so it has no'
                f' probability and no map"><span class="text">{escape(text)}</span>'
                f'{_bar(0)}<span class="percent">unknown</span></span>'
            )
        else:
            yield _button(explanation, which)


def _button(explanation: Result, index: int) -> str:
    item = explanation.items[index]
    kind = "word degenerate" if item.degenerate else "word"
    return (
        f'<button type="button" class="{kind}" aria-pressed="false"'
        f' data-says="{escape(_says(explanation, index))}">'
        f'<span class="text">{escape(item.text)}</span>'
        f"{_bar(0 if isinstance(item, AttentionMap) else item.probability)}"
        f'<span class="percent">{escape(_beneath(item))}</span></button>'
    )


def _beneath(item: Mapped) -> str:
    return chance(item) + (" · no map" if item.degenerate else "")


def _says(explanation: Result, index: int) -> str:
    item = explanation.items[index]
    if isinstance(item, AttentionMap):
        whatever = "" if explanation.by_word else ", whatever the answer"
        told = f"the model's own attention{whatever}"
    else:
        told = f"probability {percent(item.probability)}"
    if isinstance(item, Answer):
        told = f"{explanation.score_kind} {item.score:.2f} · {told}"
    if item.degenerate:
        reason = no_map.no_map(explanation, index)
        return f"{told} · no map: {reason.why}. {reason.then}"
    return f"{told} · peak at x\u00a0{item.peak[0]}, y\u00a0{item.peak[1]}"


def _bar(probability: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="4"/>'
        f'<rect class="fill" width="{100 * probability:.2f}" height="4"/></svg>'
    )


def _maps(explanation: Result) -> str:
    """The maps as hidden images over the photo, as large as they may be together."""
    height, width = explanation.image.shape[:2]
    chosen = [i for i, word in enumerate(explanation.items) if not word.degenerate]
    *larger, least = _MAP_SIDES
    for side in larger:
        images = _maps_within(explanation, chosen, fitted((height, width), side))
        if images is not None:
            break
    else:
        images = [_map(explanation, index, fitted((height, width), least)) for index in chosen]
    return "\n".join(
        f'<image class="map" data-word="{index}" hidden="" href="{image}" width="{width}"'
        f' height="{height}" preserveAspectRatio="none"/>'
        for index, image in zip(chosen, images, strict=True)
    )


def _maps_within(
    explanation: Result, chosen: Sequence[int], size: tuple[int, int]
) -> list[str] | None:
    """The maps at a size; None as soon as they are found to be too large together."""
    images, room = [], _MAP_BYTES
    for index in chosen:
        images.append(_map(explanation, index, size))
        room -= len(images[-1])
        if room < 0:
            return None
    return images


def _map(explanation: Result, index: int, size: tuple[int, int]) -> str:
    levels = shown_levels(explanation, index, size)
    if at_pixels(explanation):
        levels = levels // 8 * 8 + levels // 32  # 32 of the 256 levels: noise hardly compresses
    return _coloured(levels, palette(explanation.signed))


def _peaks(words: Iterable[Mapped], radius: float) -> str:
    circle = '<circle cx="{x}" cy="{y}" r="{r:.3f}"/>'
    return "\n".join(
        f'<g class="peak" data-word="{index}" hidden="">'
        f"{2 * circle.format(x=word.peak[0] + 0.5, y=word.peak[1] + 0.5, r=radius)}</g>"
        for index, word in enumerate(words)
        if not word.degenerate
    )


def _settings(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)


def _card(explanation: Result, path: str) -> str:
    size = fitted((explanation.image.shape[0], explanation.image.shape[1]), 360)
    photo = Image.fromarray(explanation.image).resize((size[1], size[0]), Image.Resampling.BOX)
    pictures = {f"The photo {PurePath(explanation.photo).name}": np.asarray(photo)}
    made = f"{explanation.model} · {explanation.method}"
    told = _on_card(explanation)
    if told is None:
        reasons = no_map.notes(explanation)
        small_print = f"no map: {reasons[0].why} · {made}" if reasons else made
    else:
        colours, levels = palette(explanation.signed), shown_levels(explanation, told, size)
        text = f"the map of “{explanation.items[told].text}”"
        pictures[f"The same under {text}"] = blend(np.asarray(photo), levels, colours)
        small_print = f"right: {text} · {made}"
    if explanation.unlike:
        small_print += " · unlike the photos it learned from"
    images = "".join(
        f'<img src="{_jpeg(picture, 360, 60_000)}" alt="{escape(alternative)}">'
        for alternative, picture in pictures.items()
    )
    return (
        f'<li><a class="card" href="{quote(os.fsencode(path))}"><span class="two">{images}</span>'
        f'<p dir="auto">{escape(explanation.text)}</p>{_answered(explanation)}'
        f"<small>{escape(small_print)}</small></a></li>"
    )


def _on_card(explanation: Result) -> int | None:
    """Whose map a card shows: of a text the last word's that has one, as most end with something
    that can be seen; of answers the likeliest's that has one."""
    explained = explanation.words if explanation.by_word else explanation.items
    mapped = [i for i, item in enumerate(explained) if not item.degenerate]
    if not mapped:
        return None
    if explanation.by_word:
        return mapped[-1]
    likely = [i for i in mapped if i < len(explanation.answers)]
    return max(likely, key=lambda i: explanation.answers[i].probability, default=mapped[0])


def _answered(explanation: Result) -> str:
    """The answer below a question: the one that is written, or the likeliest."""
    if explanation.question is None:
        return ""
    answer = explanation.caption
    if not explanation.by_word:
        best = max(explanation.answers, key=lambda one: one.probability, default=None)
        answer = f"{best.text} · {chance(best)}" if best else ""
    return f'<p class="answer" dir="auto">{escape(answer)}</p>' if answer else ""


def _coloured(levels: np.ndarray, colours: np.ndarray) -> str:
    """Indices (h, w) into colours (256, 4) as the address of a PNG that holds both."""
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette(colours.tobytes(), "RGBA")
    return _data(image, "png")


def _jpeg(image: np.ndarray, longest: int, most: int) -> str:
    """A photo as the address of a JPEG of at most ``longest`` pixels a side and ``most`` bytes."""
    height, width = fitted((image.shape[0], image.shape[1]), longest)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    for quality in (88, 75, 60, 40):
        address = _data(small, "jpeg", quality=quality)
        if len(address) <= most:
            break
    return address


def _data(image: Image.Image, kind: str, **how: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _filled(name: str, **values: object) -> str:
    """A template with its values; what UTF-8 cannot hold (bytes in a photo's name) becomes "?"."""
    text = Template(_asset(name)).substitute(values)
    return text.encode("utf-8", "replace").decode("utf-8")


def _asset(name: str) -> str:
    return files("vlcam.explanation").joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Content security: nothing from anywhere, and only the very style and script of the page."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
