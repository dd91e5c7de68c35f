"""From a photo to input pixels, against values worked out by hand and against torchvision's."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from tests.samples.tiny import photo
from vlcam.photo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocess, Resize

RESIZES: tuple[Resize, ...] = get_args(Resize)
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "lanczos", "box")  # PIL's
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def torchvisions(size: tuple[int, int], crop: tuple[int, int], interpolation: str) -> Any:
    return transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


# --- pixels


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("photo_size", [(131, 97), (32, 32), (640, 480), (1, 1), (7, 300)])
def test_stretch_gives_torchvisions_numbers(
    photo_size: tuple[int, int], interpolation: Interpolation
) -> None:
    image = photo(*photo_size)
    for size in ((224, 224), (96, 61)):
        pixels, _ = Preprocess(size, "stretch", interpolation=interpolation)(image)
        assert torch.equal(pixels, torchvisions(size, size, interpolation)(image))
    pixels, _ = Preprocess((224, 224), resize_to=(256, 256), interpolation=interpolation)(image)
    expected = torchvisions((256, 256), (224, 224), interpolation)(image)
    one_level = 1.01 / 255 / min(IMAGENET_STD)
    torch.testing.assert_close(pixels, expected, atol=one_level, rtol=0)
    assert (pixels != expected).float().mean() < 0.01


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_crop_is_the_centre_of_the_resized_photo(interpolation: Interpolation) -> None:
    image = photo(300, 200)  # its shorter side becomes 64, the longer 96, of which 16 ... 79 stay
    pixels, _ = Preprocess((64, 64), "crop", interpolation=interpolation, **PLAIN)(image)
    resized = image.resize((96, 64), Image.Resampling[interpolation.upper()])
    expected = transforms.ToTensor()(resized.crop((16, 0, 80, 64)))
    torch.testing.assert_close(pixels, expected, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    "photo_size", [(131, 97), (97, 131), (640, 427), (333, 500), (64, 64), (1, 9)]
)
def test_torchvisions_crop_to_the_last_bit(
    photo_size: tuple[int, int], interpolation: Interpolation
) -> None:
    image = photo(*photo_size)
    for size, resize_to in ((64, None), (61, 64)):
        edge = (resize_to, resize_to) if resize_to else None
        how = Preprocess((size, size), "torchvision", edge, interpolation=interpolation)
        expected = torchvisions(resize_to or size, (size, size), interpolation)(image)  # type: ignore[arg-type]
        assert torch.equal(how(image)[0], expected)


def test_mean_and_std_by_hand() -> None:
    image = Image.new("RGB", (5, 4), (255, 51, 0))
    pixels, _ = Preprocess((2, 3), mean=(0.5, 0.1, 0.25), std=(0.25, 0.2, 0.5))(image)
    assert pixels.shape == (3, 2, 3) and pixels.dtype == torch.float32 and pixels.is_contiguous()
    expected = torch.tensor([2.0, 0.5, -0.5]).view(3, 1, 1).expand(3, 2, 3)
    torch.testing.assert_close(pixels, expected)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_with_channels_last_in_memory_it_is_the_same(
    resize: Resize, interpolation: Interpolation
) -> None:
    how = Preprocess((24, 20), resize, interpolation=interpolation)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8))
    (last, one), (usual, other) = how.channels_last(image), how(image)
    assert torch.equal(last, usual) and one == other
    assert usual.is_contiguous() and last.permute(1, 2, 0).is_contiguous()


@pytest.mark.parametrize(
    ("size", "filled"),
    [((12, 12), [0, 1, 10, 11]), ((13, 12), [0, 1, 2, 11, 12])],
)
def test_letterbox_by_hand(size: tuple[int, int], filled: list[int]) -> None:
    # 4 x 6 pixels become 8 x 12; of an odd rest, the larger half lies above.
    pixels, _ = Preprocess(size, "letterbox")(Image.new("RGB", (6, 4), "white"))
    rows = pixels.amax(0).amax(1)
    assert [i for i, value in enumerate(rows.tolist()) if value == 0] == filled
    assert pixels[:, filled].eq(0).all()


# --- where the photo lies: every photo pixel alone, enlarged without blur


def lights(preprocess: Preprocess, size: tuple[int, int], y: int, x: int) -> Tensor:
    """Input pixels (row, column) that are bright where photo pixel (y, x) is."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[y, x] = 255
    return preprocess(Image.fromarray(pixels))[0].sum(0).nonzero()


@pytest.mark.parametrize(
    ("resize", "size", "resize_to", "at"),
    [
        # Photo pixel (1, 2) of 4 x 6. Stretched 2 and 3 times it fills rows 2, 3, columns 6 ... 8.
        ("stretch", (8, 18), None, (2.5, 7.0)),
        ("stretch", (4, 12), (8, 18), (0.5, 4.0)),
        # Enlarged twice it fills rows 2, 3, columns 4, 5; two columns go, or two rows come.
        ("crop", (8, 8), None, (2.5, 2.5)),
        ("crop", (6, 8), (8, 8), (1.5, 2.5)),
        ("letterbox", (12, 12), None, (4.5, 4.5)),
        ("letterbox", (13, 12), None, (5.5, 4.5)),
        ("letterbox", (9, 14), (8, 12), (3.5, 5.5)),
    ],
)
def test_placement_says_where_every_photo_pixel_is(
    resize: Resize,
    size: tuple[int, int],
    resize_to: tuple[int, int] | None,
    at: tuple[float, float],
) -> None:
    preprocess = Preprocess(size, resize, resize_to, interpolation="box", **PLAIN)
    placement = preprocess.geometry((4, 6))[1]
    assert placement.to_input(1, 2) == pytest.approx(at)
    assert placement.to_photo(*at) == pytest.approx((1, 2))
    enlarged = (round(placement.scale[0]), round(placement.scale[1]))
    for y, x in np.ndindex(4, 6):
        found, expected = lights(preprocess, (4, 6), y, x), placement.to_input(y, x)
        inside = all(
            middle - n / 2 >= -0.5 and middle + n / 2 <= length - 0.5
            for middle, n, length in zip(expected, enlarged, size, strict=True)
        )
        assert (len(found) == enlarged[0] * enlarged[1]) == inside
        if inside:
            assert found.double().mean(0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("photo_size", [(97, 131), (201, 83), (1, 1), (3, 4000), (4000, 3)])
def test_placements_go_there_and_back(resize: Resize, photo_size: tuple[int, int]) -> None:
    _, placement = Preprocess((65, 96), resize, (80, 112))(photo(*photo_size[::-1]))
    assert placement.photo_size == photo_size and placement.input_size == (65, 96)
    for point in ((0.0, 0.0), (photo_size[0] - 1, photo_size[1] - 1), (0.25, 0.75)):
        assert placement.to_photo(*placement.to_input(*point)) == pytest.approx(point, abs=1e-6)


# --- very wide, very tall, tiny


@pytest.mark.parametrize("resize", RESIZES)
def test_a_photo_of_one_pixel(resize: Resize) -> None:
    image = Image.new("RGB", (1, 1), (255, 51, 0))
    pixels, placement = Preprocess((32, 32), resize, **PLAIN)(image)
    torch.testing.assert_close(
        pixels, torch.tensor([1.0, 0.2, 0.0]).view(3, 1, 1).expand(3, 32, 32)
    )
    assert placement.to_photo(15.5, 15.5) == pytest.approx((0, 0))


@pytest.mark.parametrize("tall", [False, True], ids=["wide", "tall"])
def test_a_photo_of_4000_by_3_pixels(tall: bool) -> None:
    colours = np.full((3, 4000, 3), (255, 0, 0), np.uint8)
    colours[:, 1900:2100] = (0, 255, 0)
    image = Image.fromarray(colours.swapaxes(0, 1) if tall else colours)

    def seen(resize: Resize) -> Tensor:
        pixels, _ = Preprocess((224, 224), resize, **PLAIN)(image)
        return pixels.mT if tall else pixels

    red, green = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    stretched, cropped, boxed, torchvisions_ = (seen(resize) for resize in RESIZES)
    assert stretched[:, :, 112].eq(green[:, None]).all()
    assert stretched[:, :, [0, 100, 123, 223]].eq(red[:, None, None]).all()
    assert cropped.eq(green[:, None, None]).all()  # three of the middle columns
    assert torchvisions_.eq(cropped).all()  # the whole enlarged photo would have 67 million pixels
    # One row is left, in the middle.
    assert boxed[:, 112, 112].equal(green) and boxed[:, 112, 0].equal(red)
    assert boxed[:, :112].eq(0).all() and boxed[:, 113:].eq(0).all()


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_very_long_photo_needs_no_more_memory(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = Image.Image.resize

    def small(image: Image.Image, size: tuple[int, int], *args: Any) -> Image.Image:
        assert size == (224, 224), "the whole photo, 224 times enlarged, would take 9 GB"
        return resize(image, size, *args)

    monkeypatch.setattr(Image.Image, "resize", small)
    pixels, placement = Preprocess((224, 224), "crop")(Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 224, 224) and pixels.gt(2).all()
    middle = placement.to_photo(111.5, 111.5)
    assert middle == pytest.approx(((size[1] - 1) / 2, (size[0] - 1) / 2))


# --- settings


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize_to", [None, (70, 100)])
def test_settings_go_through_json(
    resize: Resize, interpolation: Interpolation, resize_to: tuple[int, int] | None
) -> None:
    preprocess = Preprocess(
        (64, 96), resize, resize_to, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation
    )
    written = json.loads(json.dumps(preprocess.to_json()))
    assert written["size"] == [64, 96] and written["mean"] == [0.1, 0.2, 0.3]
    read = Preprocess.from_json(written)
    assert read == preprocess and hash(read) == hash(preprocess)
    assert read != Preprocess()


def test_missing_settings_are_the_usual_ones() -> None:
    assert Preprocess.from_json({}) == Preprocess()
    assert Preprocess() == Preprocess((224, 224), "stretch", None, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": "squash"}, "resize 'squash' is not one of stretch, crop, letterbox"),
        (
            {"interpolation": "nearest"},
            "interpolation 'nearest' is not one of bilinear, bicubic, lanczos, box",
        ),
        (
            {"size": [0, 4]},
            r"size \(0, 4\) must be two whole numbers, at least 1 x 1 pixels",
        ),
        ({"size": [224.5, 224]}, r"size \(224.5, 224\) must be two whole numbers"),
        ({"size": [3, 224, 224]}, r"size \(3, 224, 224\) must be two whole numbers"),
        ({"size": 224}, "known keys: size"),
        ({"resize_to": [4, -1]}, r"resize_to \(4, -1\) must be two whole numbers"),
        ({"mean": [0.5]}, r"mean \(0.5,\) .* must be three numbers each"),
        ({"std": [0.5] * 4}, r"std \(0.5, 0.5, 0.5, 0.5\) must be three numbers each"),
        ({"std": [0.5, 0, 0.5]}, "those of std above 0"),
        ({"sizes": [1, 2]}, "known keys: size, resize, resize_to, mean, std, interpolation"),
        ([224, 224], "known keys: size"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Preprocess.from_json(settings)
    assert str(caught.value).startswith("preprocess: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((96, 96), "stretch"),
        Preprocess((96, 80), "stretch", (112, 101)),
        Preprocess((96, 96), "crop"),
        Preprocess((97, 64), "crop", (110, 90)),
        Preprocess((96, 96), "letterbox"),
        Preprocess((65, 99), "letterbox", interpolation="bicubic"),
    ],
    ids=lambda p: f"{p.resize}-{p.size}-{p.resize_to}",
)
@pytest.mark.parametrize("photo_size", [(97, 131), (201, 83), (61, 60), (333, 515)])
def test_a_bright_dot_is_where_placement_says(
    preprocess: Preprocess, photo_size: tuple[int, int]
) -> None:
    height, width = photo_size
    half = max(2, min(photo_size) // 30)
    y, x = int(0.47 * height), int(0.54 * width)
    photo = np.zeros((height, width, 3), np.uint8)
    photo[y - half : y + half + 1, x - half : x + half + 1] = 255
    pixels, placement = preprocess(Image.fromarray(photo))
    black, _ = preprocess(Image.fromarray(np.zeros_like(photo)))
    assert pixels.shape == (3, *preprocess.size) and pixels.dtype == torch.float32
    light = (pixels - black).sum(0).double()
    light /= light.sum()
    found = (
        (light.sum(1) @ torch.arange(light.shape[0], dtype=torch.float64)).item(),
        (light.sum(0) @ torch.arange(light.shape[1], dtype=torch.float64)).item(),
    )
    assert found == pytest.approx(placement.to_input(y, x), abs=0.1)
    assert placement.photo_size == photo_size and placement.input_size == preprocess.size


def test_letterbox_is_filled_with_the_mean_colour() -> None:
    white = Image.new("RGB", (100, 50), "white")
    pixels, placement = Preprocess((64, 64), "letterbox")(white)
    assert placement.to_input(-0.5, -0.5) == pytest.approx((15.5, -0.5))
    assert placement.to_input(49.5, 99.5) == pytest.approx((47.5, 63.5))
    assert pixels[:, :16].eq(0).all() and pixels[:, 48:].eq(0).all()
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(pixels[:, 20, 30], expected)


def test_preprocessing_is_saved_and_refuses_what_it_does_not_know() -> None:
    preprocess = Preprocess((64, 96), "crop", (70, 100), interpolation="lanczos")
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    with pytest.raises(ValueError, match="resize 'squash' is not one of stretch, crop, letterbox"):
        Preprocess.from_json({"resize": "squash"})
    with pytest.raises(ValueError, match="known keys: size"):
        Preprocess.from_json({"sizes": [1, 2]})
    with pytest.raises(ValueError, match="at least 1 x 1"):
        Preprocess((0, 4))


def test_placement_says_where_tensorflow_1_puts_a_pixel() -> None:
    """Enlarged four times, row 4 k is exactly row k."""
    preprocess = Preprocess((40, 40), resize_to=(48, 64), interpolation="tensorflow1")
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    pixels, placement = preprocess(Image.fromarray(values))
    for k, m in ((2, 4), (5, 9), (9, 12)):
        y, x = placement.to_input(k, m)
        assert (y, x) == (4 * k - 4, 4 * m - 12)
        seen = pixels[:, int(y), int(x)] * torch.tensor(preprocess.std) + torch.tensor(
            preprocess.mean
        )
        np.testing.assert_allclose(seen.numpy() * 255, values[k, m], atol=1e-3)
