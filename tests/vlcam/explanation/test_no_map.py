"""Why there is no map, and what to try next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vlcam
from tests.samples import by_hand
from tests.samples.tiny import TinyCaptioner, photo
from vlcam.cli.batch import told
from vlcam.explanation.no_map import no_map, notes
from vlcam.explanation.result import Answer, AttentionMap, AttentionMaps
from vlcam.geometry.grid import Grid


@pytest.mark.parametrize(
    ("method", "why", "then"),
    [
        ("grad-cam", "no cell of layer4 speaks for it, so that the ReLU left nothing",
         "--method grad-cam-no-relu (what speaks against it), --method layercam"),
        ("layercam", "no cell of layer4 speaks for it", "no-relu (what speaks against it),"),
        ("guided-grad-cam", "no cell of layer4 speaks for it", "--method layercam"),
        ("counterfactual", "no cell of layer4 speaks against it", "what speaks for it"),
        ("grad-cam-no-relu", "its score does not depend on layer4", "--method occlusion"),
        ("gradient", "its score does not depend on layer4", "--method occlusion"),
        ("occlusion", "it scores the same wherever the patch lies", "--patch-size 90"),
        ("attention-relevance", "nothing in the photo speaks for it", "--method grad-cam"),
        ("somebody's", "nothing in the photo speaks for it", "--method grad-cam"),
    ],
)  # fmt: skip
def test_a_map_that_is_zero_says_why_by_its_method(method: str, why: str, then: str) -> None:
    found = by_hand.explanation(["a", "dog", "dog"], flat=[1, 2], method=method)
    (note,) = notes(found)
    assert note.of == ("dog",) and note.why.startswith(why)
    assert note.then.startswith("Try ") and then in note.then
    assert f"--method {method}," not in note.then and "--contrast" not in note.then
    assert note.then.endswith("or another layer (--layer; vlcam layers shows all).")
    page, terminal = found.html(), told([found], [Path("out")])
    assert why.replace("'", "&#x27;") in page
    assert f"\n  No map of “dog”: {why}" in terminal and then in terminal


def test_other_maps_without_a_peak_have_their_own_reasons() -> None:
    found = by_hand.explanation(["a", "red", "dog", "b"], flat=[3])
    found.maps[0] = torch.nan
    found.maps[1] = 2.0
    assert "not finite" in no_map(found, 0).why
    assert "the same everywhere" in no_map(found, 1).why
    assert "ReLU" in no_map(found, 3).why
    one = replace(found, maps=found.maps[:, :1, :1], grid=Grid((1, 1), (0.0, 0.0), (60.0, 80.0)))
    assert "layer4 has a single cell" in no_map(one, 3).why
    for index in range(2):
        assert "vlcam layers" in no_map(found, index).then
    looks = (AttentionMap("level 1", (0, 0), True),)
    own = replace(found, attention=AttentionMaps(looks, torch.ones(1, 6, 8), by_hand.GRID))
    assert "attends to all of the photo alike" in notes(own)[-1].why


def test_an_answer_without_a_map_is_compared_with_the_likeliest() -> None:
    found = by_hand.explanation(["x"] * 3, flat=[1, 2], photo="my photos/it's.jpg")
    answers = [("green", 0.1), ("red and 'blue'", 0.2), ("no", 0.7)]
    given = tuple(
        Answer(text, 0.0, chance, word.peak, word.degenerate)
        for (text, chance), word in zip(answers, found.words, strict=True)
    )
    asked = replace(found, words=(), caption="", answers=given, question="what color?")
    assert "--contrast 'red and '\"'\"'blue'\"'\"'' no" in no_map(asked, 1).then
    assert "--contrast no 'red and" in no_map(asked, 2).then


def test_many_words_without_a_map_are_told_briefly() -> None:
    found = by_hand.explanation([f"word{i}" for i in range(300)], flat=range(300), photo="array")
    (note,) = notes(found)
    assert "“word7” and 292 more: no cell" in str(note) and "“word8”" not in str(note)
    assert "and 292 more: no cell" in told([found], [Path("out")])


def test_what_is_to_be_tried_has_a_map() -> None:
    """A word that every cell speaks against, of a real model."""
    model = TinyCaptioner()
    caption = "a red dog sees the cat"
    found = vlcam.explain(model, photo(), caption)
    signed = vlcam.explain(model, photo(), caption, method="grad-cam-no-relu")
    assert not notes(signed)
    against = [i for i in range(len(found.words)) if (signed.maps[i] <= 0).all()]
    assert against == [i for i, word in enumerate(found.words) if word.degenerate]
