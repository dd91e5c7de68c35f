"""Photos as image processors of transformers prepare them, and where they lie then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    BeitImageProcessor,
    BlipImageProcessor,
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    ConvNextImageProcessor,
    DeiTImageProcessor,
    SiglipImageProcessor,
    ViTImageProcessor,
)

from tests.samples.pretrained import photo
from vlcam.adapters.image_processor import ImageProcessor, assumed, image_processor
from vlcam.geometry.grid import Placement

CROP = {"height": 32, "width": 24}
CASES: dict[str, tuple[Any, tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "stretched": (ViTImageProcessor(size={"height": 32, "width": 48}), (32, 48), (32, 48), (0, 0)),
    "bicubic": (BlipImageProcessor(size={"height": 24, "width": 24}), (24, 24), (24, 24), (0, 0)),
    "raw": (ViTImageProcessor(do_resize=False, do_normalize=False), (41, 61), (41, 61), (0, 0)),
    "rescaled": (
        ViTImageProcessor(size={"height": 8, "width": 9}, rescale_factor=1 / 127.5), (8, 9),
        (8, 9), (0, 0),
    ),
    "bytes": (
        SiglipImageProcessor(size={"height": 8, "width": 9}, do_rescale=False, resample=0), (8, 9),
        (8, 9), (0, 0),
    ),
    "cut": (
        CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=CROP), (36, 53), (32, 24),
        (2, 14),
    ),
    "cut of a square": (
        DeiTImageProcessor(size={"height": 39, "width": 39}, crop_size=CROP), (39, 39), (32, 24),
        (3, 7),
    ),
    "cut alone": (
        BeitImageProcessor(do_resize=False, do_center_crop=True, crop_size=CROP), (41, 61),
        (32, 24), (4, 18),
    ),
    "padded": (
        CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 33, "width": 24}),
        (20, 29), (33, 24), (-6, 2),
    ),
    "padded by PIL": (
        CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 33, "width": 24}),
        (20, 29), (33, 24), (-7, 2),
    ),
}  # fmt: skip
"""Processors, and of a photo of 41 x 61 pixels: its size when resized, the input's, the corner."""


@pytest.mark.parametrize("name", CASES)
def test_pixel_for_pixel_and_where_they_lie(name: str, tmp_path: Path) -> None:
    processor, resized, size, corner = CASES[name]
    picture = photo(61, 41)
    pixels, placement = ImageProcessor(processor)(picture)
    own = processor(images=picture, return_tensors="pt").pixel_values[0]
    assert torch.equal(pixels, own.float()) and pixels.dtype == torch.float32
    assert placement == Placement.resized((41, 61), resized, size, corner=corner)


@pytest.mark.parametrize("name", CASES)
def test_a_folders_own(name: str, tmp_path: Path) -> None:
    CASES[name][0].save_pretrained(tmp_path)
    own = AutoImageProcessor.from_pretrained(tmp_path)
    found = image_processor(tmp_path, ViTImageProcessor())
    assert type(found) is type(own) and found.to_dict() == own.to_dict()


@pytest.mark.parametrize("name", CASES)
def test_a_dot_is_where_it_is_said_to_be(name: str) -> None:
    """A bright dot of the photo, found in the input."""
    processor = ImageProcessor(CASES[name][0])
    rows, columns = np.mgrid[0:41, 0:61]
    y, x = 20.0, 33.0
    dot = 255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
    dark = Image.new("RGB", (61, 41))
    pixels, placement = processor(Image.fromarray(np.repeat(dot[..., None], 3, 2).astype(np.uint8)))
    mass = (pixels - processor(dark)[0]).sum(0).double()
    mass = mass.where(mass > mass.max() / 4, 0)
    at = [
        float((mass.sum(1 - axis) * torch.arange(mass.shape[axis])).sum() / mass.sum())
        for axis in (0, 1)
    ]
    # Nearest pixels are off by half of one of the photo's.
    assert at == pytest.approx(list(placement.to_input(y, x)), abs=0.3)


def test_the_only_size() -> None:
    sizes = {name: ImageProcessor(case[0]).size for name, case in CASES.items()}
    assert sizes["stretched"] == (32, 48) and sizes["cut"] == (32, 24)
    assert sizes["raw"] is None
    uncut = CLIPImageProcessor(size={"shortest_edge": 36}, do_center_crop=False)
    assert ImageProcessor(uncut).size is None


def test_a_folder_without_settings_or_without_a_class(tmp_path: Path) -> None:
    default = BlipImageProcessor(size={"height": 20, "width": 20})
    assert image_processor(tmp_path, default) is default
    settings = {"image_mean": [0.1, 0.2, 0.3], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = image_processor(tmp_path, default)
    assert type(found) is BlipImageProcessor and list(found.image_mean) == [0.1, 0.2, 0.3]
    assert ImageProcessor(found).size == (20, 20)


@pytest.mark.parametrize("size", [224, {"height": 224, "width": 224}])
def test_settings_as_old_folders_have_them(size: Any, tmp_path: Path) -> None:
    settings = {
        "feature_extractor_type": "ViTFeatureExtractor", "do_resize": True, "do_normalize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "size": size,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = image_processor(tmp_path, ViTImageProcessor())
    assert ImageProcessor(found).size == (224, 224)
    assert torch.equal(
        ImageProcessor(found)(photo())[0],
        ViTImageProcessor()(images=photo(), return_tensors="pt").pixel_values[0],
    )


def test_settings_among_a_processors(tmp_path: Path) -> None:
    """As newer versions write them, beside the tokenizer's."""
    settings = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 20}}
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_processor": settings, "processor_class": "GitProcessor"})
    )
    assert dict(image_processor(tmp_path, None).size)["shortest_edge"] == 20


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (ConvNextImageProcessor(), "resize of its own"),
        (CLIPImageProcessor(do_pad=True), "steps that are unknown here: pad"),
    ],
)
def test_what_cannot_be_placed_is_refused(processor: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageProcessor(processor)


def test_sizes_that_are_unknown_are_refused() -> None:
    found = ImageProcessor(ViTImageProcessor(size={"shortest_edge": 20, "longest_edge": 30}))
    with pytest.raises(ValueError, match="size of longest_edge, shortest_edge is unknown"):
        found(photo())


@pytest.mark.parametrize(
    ("size", "shape"), [(100_000, (36, 50)), (10**9, (36, 50)), (224, (1, 20_000))]
)
def test_what_would_take_all_memory_is_refused_before_it_is_made(
    size: int, shape: tuple[int, int]
) -> None:
    prepare = ImageProcessor(CLIPImageProcessor(size={"shortest_edge": size}))
    with pytest.raises(ValueError, match=r"makes \d+ x \d+ pixels of a photo of .*; at most"):
        prepare(Image.new("RGB", shape[::-1]))


def test_what_no_file_says_is_told(tmp_path: Path) -> None:
    """So that results can record it."""
    default = CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=CROP)
    told = assumed(tmp_path, image_processor(tmp_path, default))
    assert "CLIPImageProcessor.size: {'shortest_edge': 36}" in told
    assert "CLIPImageProcessor.crop_size: {'height': 32, 'width': 24}" in told
    assert any(line.startswith("CLIPImageProcessor.image_mean: [0.48") for line in told)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"size": 40, "resample": 3, "image_mean": [0.5, 0.5, 0.5]}))
    told = assumed(tmp_path, image_processor(tmp_path, default))
    assert [line.partition(":")[0] for line in told] == [
        "CLIPImageProcessor.crop_size",
        "CLIPImageProcessor.image_std",
    ]
    default.save_pretrained(tmp_path)
    assert assumed(tmp_path, image_processor(tmp_path, default)) == ()
