"""What a name that is not known may have meant."""

from __future__ import annotations

import pytest

from vlcam.utils.messages.nearest import hint, nearest, unknown

_METHODS = ["grad-cam", "grad-cam++", "hirescam", "guided-backprop", "occlusion"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("occulsion", ["occlusion"]),
        ("gradcam", ["grad-cam", "grad-cam++"]),
        ("HiResCAM", ["hirescam"]),
        ("backprop", ["guided-backprop"]),
        ("guided", ["guided-backprop"]),  # a part
        ("gu", []),  # too short a part
        ("lime", []),
        ("", []),
    ],
)
def test_the_nearest_names(name: str, near: list[str]) -> None:
    assert nearest(name, _METHODS) == near


def test_a_whole_word_of_a_name_comes_before_what_is_like_it() -> None:
    assert nearest("words", ["world", "evaluate words"]) == ["evaluate words", "world"]


def test_what_is_said_of_it() -> None:
    assert unknown("method", "grad-can", _METHODS) == (
        "unknown method 'grad-can'; did you mean grad-cam or grad-cam++?"
    )
    assert hint("lime", _METHODS[:2]) == "known: grad-cam, grad-cam++"
    assert hint("lime", []) == "known: none"
    assert hint(7, ["stage1"]) == "known: stage1"  # what is no text is near to nothing
    many = [f"layer{i}" for i in range(200)]
    assert hint("x", many) == "there are 200, among them layer0, layer1, layer2"
    assert hint("x", many, many[-2:]) == "there are 200, among them layer198, layer199"
