"""Captions and regions of scenes: what they say is true of the pixels."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from vlcam.scenes.scene import Scene
from vlcam.scenes.text import (
    CAPTIONS,
    LONGEST,
    NOUNS,
    REGIONS,
    captions,
    category_of,
    groups,
    regions,
    relations,
)

COUNT_WORDS = {"two": (2,), "a couple of": (2,), "a pair of": (2,), "three": (3,), "four": (4,),
               "several": (3, 4), "a group of": (4,)}  # fmt: skip


def named_in(sentence: str) -> set[str]:
    return {found for word in re.findall(r"\w+", sentence) if (found := category_of(word))}


def test_words_and_their_categories() -> None:
    for category, nouns in NOUNS.items():
        for form in (form for pair in nouns for form in pair):
            assert category_of(form) == category
            assert {category_of(word) for word in form.split()} == {category}
    assert category_of("women") == category_of("guy") == "person"
    assert category_of("Puppies") == "dog"
    assert category_of("fire") == category_of("hydrants") == "fire hydrant"
    assert category_of("red") is None and category_of("cap") is None


def test_captions_speak_of_what_is_there(many: list[Scene]) -> None:
    for one in many:
        present = {group.category: group for group in groups(one)}
        said = captions(one)
        assert len(set(said)) == CAPTIONS
        for sentence in said:
            assert named_in(sentence) and named_in(sentence) <= set(present)
            assert len(sentence.split()) <= LONGEST and sentence.endswith(".")
        colours = {
            name
            for item in one.items
            for name in (*item.appearance.colours.values(), item.appearance.pose)
        }
        words = {word for sentence in said for word in re.findall(r"\w+", sentence.lower())}
        for name in ("red", "green", "blue", "purple", "pink", "brown", "yellow", "orange"):
            assert name not in words or name in colours


def test_most_captions_mention_everything(many: list[Scene]) -> None:
    complete = [named_in(said) == {item.category for item in one.items}
                for one in many for said in captions(one)]  # fmt: skip
    assert np.mean(complete) > 0.75


def test_counts_are_exact(many: list[Scene]) -> None:
    plurals = sorted((plural, category) for category, nouns in NOUNS.items()
                     for _, plural in nouns)  # fmt: skip
    pattern = re.compile(
        rf"\b({'|'.join(COUNT_WORDS)}) (?:\w+ )?({'|'.join(plural for plural, _ in plurals)})\b"
    )
    seen = 0
    for one in many:
        total = Counter(item.category for item in one.items)
        for sentence in captions(one):
            for words, plural in pattern.findall(sentence.lower()):
                assert total[category_of(plural.split()[-1])] in COUNT_WORDS[words]
                seen += 1
    assert seen > 40


def test_relations_hold_on_the_boxes(many: list[Scene]) -> None:
    seen: Counter[str] = Counter()
    for one in many:
        present = groups(one)
        for a in present:
            for b in present:
                if a is b:
                    continue
                found = relations(a, b, one)
                seen.update(found)
                (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
                if "left of" in found:
                    assert ax + aw <= bx + bw / 2 and ax + aw / 2 <= bx
                    assert "right of" in relations(b, a, one)
                if "above" in found:
                    assert ay + ah <= by + bh / 2 and ay + ah / 2 <= by
                    assert "under" in relations(b, a, one)
                if "in front of" in found:
                    assert "behind" in relations(b, a, one)
                    assert one.items.index(a.items[0]) > one.items.index(b.items[0])
    assert {"left of", "right of", "next to", "above", "under", "behind"} <= set(seen)


def test_regions_describe_their_thing(many: list[Scene]) -> None:
    for one in many:
        found = regions(one)
        assert len(found) >= REGIONS
        assert {id(region.item) for region in found} == {id(item) for item in one.items}
        for region in found:
            assert named_in(region.phrase) == {region.item.category}
    phrases = " / ".join(region.phrase for one in many for region in regions(one))
    assert re.search(r"fire hydrant with an? \w+ cap", phrases)
    assert re.search(r"(striped|spotted) \w+", phrases)
