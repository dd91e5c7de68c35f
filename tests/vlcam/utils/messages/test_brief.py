"""What is printed of values: short, whatever they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from vlcam.utils.messages.brief import Brief, brief


@dataclass(frozen=True, repr=False)
class Some(Brief):
    value: object


def test_long_values_are_short() -> None:
    for value, said in (
        (torch.zeros(2, 3), "float32 (2, 3)"),
        (np.zeros((4, 5), np.uint8), "uint8 (4, 5)"),
        (Image.new("RGB", (4, 5)), "RGB image of 4 x 5"),
        (0.123456789, "0.1235"),
        ("x" * 100, repr("x" * 57 + "...")),
        (list(range(120)), "[0, 1, 2, 3, 4, 5, ... 120 in all]"),
        ((1,), "(1,)"),
        ({"maps": torch.zeros(3)}, "{'maps': float32 (3,)}"),
        (None, "None"),
    ):
        assert brief(value) == said
        assert repr(Some(value)) == f"Some(value={said})"
