"""Photos given as arrays and tensors: the same as the PIL image of them, or one line that says what
is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.samples.tiny import photo
from vlcam.photo.given import given_photo

RGB = np.asarray(photo(7, 5))
GREY, TRANSPARENT = RGB[..., 0], np.dstack([RGB, RGB[..., :1]])
LAST, FIRST = torch.from_numpy(RGB.copy()), torch.from_numpy(RGB.transpose(2, 0, 1).copy())

SAME: dict[str, tuple[Any, Any]] = {
    "HWC uint8": (RGB, RGB),
    "CHW uint8": (RGB.transpose(2, 0, 1), RGB),
    "a batch of one": (RGB[None], RGB),
    "not contiguous": (RGB[::-1, ::2], RGB[::-1, ::2]),
    "HWC float": (RGB / 255, RGB),
    "HWC float32": ((RGB / 255).astype(np.float32), RGB),
    "16 bits": (RGB.astype(np.uint16) * 257, RGB),
    "grey": (GREY, np.repeat(GREY[..., None], 3, 2)),
    "grey with its channel": (GREY[..., None], np.repeat(GREY[..., None], 3, 2)),
    "CHW float tensor": (FIRST / 255, RGB),
    "CHW uint8 tensor": (FIRST, RGB),
    "HWC uint8 tensor": (LAST, RGB),
    "a batch of one, with a graph": ((FIRST / 255)[None].requires_grad_(), RGB),
    "half a level beyond white": (FIRST / 255 * 1.0005, RGB),
    "double": (FIRST.double() / 255, RGB),
    "grey tensor": (FIRST[0] / 255, np.repeat(GREY[..., None], 3, 2)),
}


@pytest.mark.parametrize("name", SAME)
def test_the_photo_in_an_array(name: str) -> None:
    given, expected = SAME[name]
    own = given.detach().numpy() if isinstance(given, torch.Tensor) else given
    before = own.copy()
    image, path = given_photo(given)
    assert path is None and image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)
    image.putpixel((0, 0), (1, 2, 3))  # the array is neither kept nor written to
    np.testing.assert_array_equal(own, before)


def test_few_levels_and_what_is_transparent(tmp_path: Path) -> None:
    seen, _ = given_photo((FIRST / 255).bfloat16())
    assert np.abs(np.asarray(seen).astype(int) - RGB).max() <= 1
    for given in (TRANSPARENT, TRANSPARENT / 255, TRANSPARENT.transpose(2, 0, 1)):
        expected = given_photo(Image.fromarray(TRANSPARENT))[0]
        assert given_photo(given)[0].tobytes() == expected.tobytes()
    photo(7, 5).save(tmp_path / "a.png")
    image, path = given_photo(tmp_path / "a.png")
    assert path == str(tmp_path / "a.png") and image.tobytes() == photo(7, 5).tobytes()
    narrow = np.zeros((3, 9, 3), np.uint8)  # of three channels first or last: an array's last
    assert given_photo(narrow)[0].size == (9, 3)
    assert given_photo(torch.from_numpy(narrow))[0].size == (3, 9)


REFUSED: dict[str, tuple[Any, str]] = {
    "0..255 as floats": (RGB.astype(np.float32), "expected uint8 .* or floating point .*by 255"),
    "beyond white": (1000 * torch.rand(3, 4, 4), "levels of .*: divide it by its white"),
    "normalised": (FIRST / 100 - 1.2, "before it was normalised"),
    "NaN": (FIRST / 0 * 0, "holds NaN; expected uint8 of 0..255 or floating point of 0..1"),
    "infinite": (np.full((4, 4, 3), np.inf), "holds infinities"),
    "whole numbers": (RGB.astype(np.int64), "an array of int64; expected uint8 of 0..255"),
    "truths": (RGB > 9, "an array of bool"),
    "texts": (np.array([["a"]]), "an array of <U1"),
    "objects": (np.array([[None]]), "an array of object"),
    "complex": (torch.zeros(3, 4, 4, dtype=torch.complex64), "a tensor of complex64"),
    "two photos": (torch.zeros(2, 3, 4, 4), r"a batch of 2, tensor \(2, 3, 4, 4\): give one"),
    "no photo": (np.zeros((0, 4, 4, 3)), r"a batch of 0, array \(0, 4, 4, 3\)"),
    "one row": (np.zeros(9), r"an array of shape \(9,\); expected \(height, width, 3\)"),
    "a number": (np.float32(1), r"of shape \(\)"),
    "feature maps": (torch.zeros(256, 7, 7), r"a tensor of shape \(256, 7, 7\); expected"),
    "a film": (torch.zeros(1, 9, 3, 4, 4), r"a tensor of shape \(1, 9, 3, 4, 4\); expected"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), "there is nothing to see"),
    "without values": (torch.zeros(3, 4, 4, device="meta"), "the photo's tensor has no values"),
    "sparse": (torch.zeros(3, 4, 4).to_sparse(), "the photo's tensor has no values here"),
    "a list": (RGB.tolist(), "a path, a PIL image, an array or a tensor, not as list: one"),
    "bytes": (b"GIF89a", "not as bytes; PIL.Image.open"),
    "nothing": (None, "not as NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo(name: str) -> None:
    given, said = REFUSED[name]
    with pytest.raises(ValueError, match=said) as told:
        given_photo(given)
    assert "\n" not in str(told.value)
