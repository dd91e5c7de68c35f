"""Photos as they come, in files made here; pixel values worked out by hand."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from tests.tools.fuzzing.photos import readings
from tests.tools.limited import limited
from vlcam.photo import loading as photo
from vlcam.photo.loading import PhotoError, load_photo, size_of, upright

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)
ACCEPTED = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM and JPEG 2000 are read"


def row(image: Image.Image) -> list[tuple[int, ...]]:
    """The RGB colours of the first row."""
    assert image.mode == "RGB"
    return [tuple(colour) for colour in np.asarray(image)[0].tolist()]


def greys(*values: int) -> list[tuple[int, ...]]:
    return [(value, value, value) for value in values]


def refusal(path: str | Path) -> str:
    """What is said of a bad photo: one line that starts with the file's name."""
    with pytest.raises(PhotoError) as caught:
        load_photo(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def png(
    size: tuple[int, int], depth: int, colour: int, data: bytes, clear: bytes | None = None
) -> bytes:
    """A PNG file of (width, height); ``clear`` is its tRNS chunk."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    if clear is not None:
        chunks.insert(1, chunk(b"tRNS", clear))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(
    size: tuple[int, int], bits: int, data: bytes, photometric: int = 1, sample_format: int = 1
) -> bytes:
    """An uncompressed grey TIFF file of (width, height)."""
    start = 8 + 2 + 12 * 10 + 4
    tags = {
        256: size[0],
        257: size[1],
        258: bits,
        259: 1,
        262: photometric,
        273: start,
        277: 1,
        278: size[1],
        279: len(data),
        339: sample_format,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


# --- formats


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("JPEG", {"quality": 100, "subsampling": 0, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 100}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("JPEG2000", {}),
        pytest.param(
            "AVIF",
            {"quality": 100},
            marks=pytest.mark.skipif(not features.check("avif"), reason="PIL without AVIF"),
        ),
    ],
)
def test_a_format_is_read_whatever_its_name(
    tmp_path: Path, format_: str, options: dict[str, Any]
) -> None:
    colours = np.array([[RED, GREEN], [BLUE, GREY]], np.uint8).repeat(16, 0).repeat(24, 1)
    Image.fromarray(colours).save(tmp_path / "photo.jpg", format_, **options)
    image = load_photo(tmp_path / "photo.jpg")
    assert image.mode == "RGB" and image.size == (48, 32)
    # Lossy formats blur edges, by more than the flat middles of the quarters.
    np.testing.assert_allclose(np.asarray(image)[8::16, 12::24], colours[8::16, 12::24], atol=6)
    if not {"quality"} & {*options}:
        np.testing.assert_array_equal(np.asarray(image), colours)


def test_every_format_is_known_from_the_start(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), RED).save(tmp_path / "photo.webp")
    code = (
        "import sys, vlcam.photo.loading; print(vlcam.photo.loading.load_photo(sys.argv[1]).size)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photo.webp")]
    fresh = subprocess.run(command, capture_output=True, text=True)
    assert (fresh.stdout.strip(), fresh.stderr) == ("(3, 2)", "")


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_an_animations_first_frame_is_read(tmp_path: Path, format_: str) -> None:
    later = [Image.new("RGB", (4, 2), colour) for colour in (BLUE, GREEN)]
    path = tmp_path / "moving"
    Image.new("RGB", (4, 2), RED).save(
        path, format_, save_all=True, append_images=later, lossless=True
    )
    assert row(load_photo(str(path))) == [RED] * 4


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000), (1, 9000)])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_wide_tall_and_tiny_photos(tmp_path: Path, size: tuple[int, int], format_: str) -> None:
    Image.new("RGB", size, GREY).save(tmp_path / "photo", format_)
    image = load_photo(tmp_path / "photo")
    assert image.size == size
    assert np.abs(np.asarray(image).astype(int) - 128).max() <= 3


# --- grey


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bit_grey_is_scaled_by_its_depth(tmp_path: Path, format_: str) -> None:
    # 257 levels of 65535 are one of 255; a dark photo stays dark.
    for values, expected in (
        ([0, 257, 32768, 65535], greys(0, 1, 128, 255)),
        ([1000, 2000], greys(4, 8)),
    ):
        Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "grey", format_)
        assert row(load_photo(tmp_path / "grey")) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png((3, 1), 8, 0, bytes([0, 0, 77, 255])), greys(0, 77, 255)),
        (png((4, 1), 1, 0, bytes([0, 0b10100000])), greys(255, 0, 255, 0)),
        (png((4, 1), 2, 0, bytes([0, 0b00011011])), greys(0, 85, 170, 255)),
        (tiff((4, 1), 8, bytes([0, 1, 128, 255])), greys(0, 1, 128, 255)),
        (tiff((4, 1), 8, bytes([0, 1, 128, 255]), photometric=0), greys(255, 254, 127, 0)),
        (
            tiff((4, 1), 16, struct.pack("<4H", 0, 257, 32768, 65535), photometric=0),
            greys(255, 254, 127, 0),
        ),
        (tiff((2, 1), 12, bytes([0xFF, 0xF8, 0x00])), greys(255, 128)),
        (
            tiff((4, 1), 16, struct.pack("<4h", 0, -5, 16384, 32767), sample_format=2),
            greys(0, 0, 128, 255),
        ),
        (
            tiff((4, 1), 32, struct.pack("<4I", 0, 2**24, 2**31, 2**32 - 1)),
            greys(0, 1, 128, 255),
        ),
        (
            tiff((4, 1), 32, struct.pack("<4i", 0, -1, 2**30, 2**31 - 1), sample_format=2),
            greys(0, 0, 128, 255),
        ),
    ],
    ids=[
        *("8 bits", "1 bit", "2 bits", "tiff", "tiff, white is zero", "16 bits, white is zero"),
        *("12 bits", "signed 16 bits", "32 bits", "signed 32 bits"),
    ],
)
def test_grey_of_every_depth(
    tmp_path: Path, content: bytes, expected: list[tuple[int, ...]]
) -> None:
    (tmp_path / "grey").write_bytes(content)
    assert row(load_photo(tmp_path / "grey")) == expected


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path: Path) -> None:
    colours = struct.pack(">6H", 65535, 0, 0x8000, 0x01FF, 0, 65535)
    (tmp_path / "deep.png").write_bytes(png((2, 1), 16, 2, b"\0" + colours))
    assert row(load_photo(tmp_path / "deep.png")) == [(255, 0, 128), (1, 0, 255)]


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tif")
    assert refusal(tmp_path / "float.tif") == (
        "floating-point pixels, whose white is unknown; convert to 8 or 16 bits"
    )


# --- transparency


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(tmp_path: Path, format_: str) -> None:
    # Half: 255 - 128 of white. Nothing: white, whatever colour hides there. All: the colour.
    pixels = np.array([[(255, 0, 0, 128), (0, 0, 0, 0), (9, 8, 7, 255), (0, 0, 0, 51)]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha", format_, lossless=True)
    assert row(load_photo(tmp_path / "alpha")) == [
        (255, 127, 127),
        WHITE,
        (9, 8, 7),
        (204, 204, 204),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png((2, 1), 8, 4, bytes([0, 0, 128, 0, 0])), greys(127, 255)),
        (png((2, 1), 16, 4, b"\0" + struct.pack(">4H", 0, 32768, 65535, 65535)), greys(127, 255)),
        (png((1, 1), 16, 6, b"\0" + struct.pack(">4H", 65535, 0, 0, 32768)), [(255, 127, 127)]),
        (png((3, 1), 8, 0, bytes([0, 4, 5, 6]), clear=b"\0\5"), greys(4, 255, 6)),
        (
            png((3, 1), 16, 0, b"\0" + struct.pack(">3H", 0, 257, 514), clear=b"\1\1"),
            greys(0, 255, 2),
        ),
        (
            png((2, 1), 8, 2, bytes([0, *RED, *BLUE]), clear=struct.pack(">3H", *BLUE)),
            [RED, WHITE],
        ),
    ],
    ids=["grey", "16-bit grey", "16-bit colour", "one grey", "one 16-bit grey", "one colour"],
)
def test_transparent_grey_and_transparent_colours(
    tmp_path: Path, content: bytes, expected: list[tuple[int, ...]]
) -> None:
    (tmp_path / "clear.png").write_bytes(content)
    assert row(load_photo(tmp_path / "clear.png")) == expected


@pytest.mark.parametrize(
    ("format_", "transparency", "expected"),
    [
        ("PNG", None, [RED, GREEN, BLUE]),
        ("PNG", 1, [RED, WHITE, BLUE]),
        ("PNG", bytes([255, 0, 128]), [RED, WHITE, (127, 127, 255)]),
        ("GIF", 1, [RED, WHITE, BLUE]),
        ("BMP", None, [RED, GREEN, BLUE]),
        ("TIFF", None, [RED, GREEN, BLUE]),
    ],
)
def test_palettes(
    tmp_path: Path,
    format_: str,
    transparency: int | bytes | None,
    expected: list[tuple[int, ...]],
) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    for index in range(3):
        image.putpixel((index, 0), index)
    clear = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "palette", format_, **clear)
    assert row(load_photo(tmp_path / "palette")) == expected


# --- CMYK


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("inks", "colour"),
    [
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), RED),
        ((0, 0, 0, 255), BLACK),
        ((0, 0, 0, 0), WHITE),
        ((0, 0, 0, 127), GREY),
    ],
)
def test_cmyk(
    tmp_path: Path, format_: str, inks: tuple[int, ...], colour: tuple[int, int, int]
) -> None:
    Image.new("CMYK", (8, 8), inks).save(tmp_path / "inks", format_, quality=100)
    image = load_photo(tmp_path / "inks")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - colour).max() <= 2


# --- EXIF

COLOURS = {"A": RED, "B": GREEN, "C": BLUE, "D": WHITE, "E": BLACK, "F": GREY}
SIDE = 16
UPRIGHT = {  # how AB/CD/EF, as stored, must be shown
    1: "AB/CD/EF",
    2: "BA/DC/FE",
    3: "FE/DC/BA",
    4: "EF/CD/AB",
    5: "ACE/BDF",
    6: "ECA/FDB",
    7: "FDB/ECA",
    8: "BDF/ACE",
}


def blocks() -> Image.Image:
    letters = [[COLOURS[letter] for letter in line] for line in ("AB", "CD", "EF")]
    return Image.fromarray(np.array(letters, np.uint8).repeat(SIDE, 0).repeat(SIDE, 1))


def letters(image: Image.Image) -> str:
    """The nearest colour's letter at the middle of each block."""
    middles = np.asarray(image)[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE].astype(int)
    known = np.array([*COLOURS.values()])
    nearest = np.abs(middles[:, :, None] - known).sum(-1).argmin(-1)
    return "/".join("".join([*COLOURS][i] for i in line) for line in nearest)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


SEVERAL = {"save_all": True}
SAVED: dict[str, tuple[str, str, dict[str, Any]]] = {  # format, mode, options
    "JPEG": ("JPEG", "RGB", {}),
    "JPEG, CMYK": ("JPEG", "CMYK", {"quality": 100}),
    "MPO": ("MPO", "RGB", SEVERAL),
    "PNG": ("PNG", "RGB", {}),
    "PNG, palette": ("PNG", "P", {"transparency": 200}),
    "PNG, alpha": ("PNG", "RGBA", {}),
    "PNG, animated": ("PNG", "RGB", SEVERAL),
    "WebP": ("WEBP", "RGB", {}),
    "WebP, animated": ("WEBP", "RGB", SEVERAL),
    "AVIF": ("AVIF", "RGB", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF, two": ("TIFF", "RGB", SEVERAL),
    "TIFF, LZW": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "TIFF, palette": ("TIFF", "P", {}),
    "TIFF, alpha": ("TIFF", "RGBA", {}),
    "TIFF, CMYK as it is": ("TIFF", "CMYK", {}),
    "TIFF, CMYK": ("TIFF", "CMYK", {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("turned", UPRIGHT)
def test_photos_are_turned_upright(tmp_path: Path, turned: int, kind: str) -> None:
    """And their size is told as they are seen."""
    path = tmp_path / "turned"
    format_, mode, options = SAVED[kind]
    if options == SEVERAL:
        options = options | {"append_images": [Image.new("RGB", (32, 48))]}
    blocks().convert(mode).save(path, format_, exif=orientation(turned), **options)
    seen = load_photo(path)
    assert letters(seen) == UPRIGHT[turned]
    assert size_of(path) == (seen.height, seen.width)
    with Image.open(path) as image:  # not yet decoded
        assert letters(upright(image)) == UPRIGHT[turned]


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turned", UPRIGHT)
def test_an_orientation_told_by_xmp_alone(tmp_path: Path, turned: int, format_: str) -> None:
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{turned}"/></x:xmpmeta>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    options = {"xmp": xmp.encode(), "pnginfo": info, "tiffinfo": {700: xmp.encode()}}
    path = tmp_path / "turned"
    blocks().save(path, format_, lossless=True, **options)
    seen = load_photo(path)
    assert letters(seen) == UPRIGHT[turned]
    assert size_of(path) == (seen.height, seen.width)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("turned", UPRIGHT)
def test_16_bit_grey_is_turned_too(tmp_path: Path, turned: int, format_: str) -> None:
    levels = np.array([[0, 100], [150, 200], [50, 250]])
    path = tmp_path / "grey"
    deep = Image.fromarray((257 * levels).astype(np.uint16))
    deep.save(path, format_, exif=orientation(turned))
    turns = [(0, 0), (0, 1), (2, 0), (2, 1), (1, 1), (3, 0), (3, 1), (1, 0)]
    quarters, mirrored = turns[turned - 1]
    upright_levels = np.rot90(np.fliplr(levels) if mirrored else levels, quarters)
    assert np.array_equal(np.asarray(load_photo(path))[..., 0], upright_levels)
    assert size_of(path) == upright_levels.shape


@pytest.mark.parametrize(
    "exif",
    [
        orientation(0),
        orientation(9),
        b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"top", 0),
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0no metadata",
    ],
    ids=["0", "9", "a word", "damaged", "no EXIF"],
)
def test_unknown_orientations_are_shown_as_stored(tmp_path: Path, exif: Image.Exif | bytes) -> None:
    blocks().save(tmp_path / "photo.jpg", exif=exif)
    assert letters(load_photo(tmp_path / "photo.jpg")) == UPRIGHT[1]


def test_transparent_photos_are_turned_too(tmp_path: Path) -> None:
    image = blocks()
    image.putalpha(255)
    image.save(tmp_path / "photo.png", exif=orientation(6))
    assert letters(load_photo(tmp_path / "photo.png")) == UPRIGHT[6]


def test_an_image_made_upright_is_a_copy() -> None:
    image = blocks()
    copy = upright(image)
    copy.paste(WHITE, (0, 0, *copy.size))
    assert letters(image) == UPRIGHT[1]


# --- bad input


def test_no_photo_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert refusal(tmp_path / "missing.jpg") == "no such file"
    assert refusal(str(tmp_path / "missing.jpg")) == "no such file"
    assert refusal(tmp_path / "empty.jpg") == "empty file"
    assert refusal(tmp_path) == "a folder, not a photo"
    assert refusal(tmp_path / "empty.jpg" / "photo.jpg") == "Not a directory"
    assert refusal(tmp_path / "loop.jpg") == "Too many levels of symbolic links"
    assert refusal(tmp_path / ("a" * 300)) == "File name too long"
    with pytest.raises(PhotoError, match=r"^'photo\\x00.jpg': embedded null byte$"):
        load_photo("photo\0.jpg")


def test_other_kinds_of_files_are_not_opened(tmp_path: Path) -> None:
    """Nobody writes to the pipe: to open it would wait for ever."""
    os.mkfifo(tmp_path / "photo.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    for name in ("photo.jpg", "link.jpg"):
        assert refusal(tmp_path / name) == "a pipe, not a photo"
        with pytest.raises(PhotoError, match="a pipe, not a photo"):
            size_of(tmp_path / name)
    assert refusal("/dev/zero") == "a device, not a photo"


def test_a_photo_of_gigabytes_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "photo.webp").open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(photo.MAX_BYTES + 1)  # takes no room on the disk
    assert refusal(tmp_path / "photo.webp") == "1000000001 bytes, more than 1000 megabytes"


@pytest.mark.parametrize(
    ("given", "kind", "advice"),
    [
        (b"photo.jpg", "bytes", "; PIL.Image.open(io.BytesIO(...)) makes one of a file's bytes"),
        (io.BytesIO(b"GIF89a"), "BytesIO", "; PIL.Image.open(...) makes one of an open file"),
        (["a.jpg", "b.jpg"], "list", ": one photo at a time"),
        (None, "NoneType", ""),
        (7, "int", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_neither_path_nor_image(given: Any, kind: str, advice: str) -> None:
    for read in (load_photo, size_of):
        with pytest.raises(PhotoError) as caught:
            read(given)
        known = "a path, a PIL image, an array or a tensor"
        said = f"a photo is given as {known}, not as {kind}{advice}"
        assert str(caught.value).startswith(said) and len(str(caught.value).splitlines()) == 1


def test_an_array_is_no_path() -> None:
    for array in (np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4)):
        for read in (load_photo, size_of):
            with pytest.raises(PhotoError, match=r"vlcam\.look takes it as it is"):
                read(array)  # type: ignore[arg-type]


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 5 pixels: there is nothing to see"):
        upright(Image.new("RGB", (0, 5)))


def test_damaged_photos_of_every_format_in_little_memory() -> None:
    """A photo and its size, or one line that names the file; and nothing on standard error."""
    ran = limited(readings, 21, 1000, megabytes=300)
    assert ran.result == []
    assert ran.errors == ""


@pytest.mark.parametrize(
    "content",
    [b"hello, this is text\n", b"<!doctype html><p>404</p>", b"\0" * 5000, b"%PDF-1.7\n", b"\xff"],
)
def test_what_is_not_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    assert refusal(tmp_path / "photo.jpg") == f"not a readable image ({ACCEPTED})"


@pytest.mark.parametrize("format_", ["EPS", "PDF", "ICO", "TGA"])
def test_formats_that_are_no_photos_are_refused_unopened(
    tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks().save(tmp_path / "photo.jpg", format_)
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    assert refusal(tmp_path / "photo.jpg") == f"not a readable image ({ACCEPTED})"
    assert not started


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_photos_are_refused(tmp_path: Path, format_: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "photo"
    Image.fromarray(noise).save(path, format_)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert refusal(path).startswith("damaged or truncated (")


@pytest.mark.parametrize("kept", [2, 12, 20, 100, 1500])
@pytest.mark.parametrize(
    "format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"]
)
def test_photos_cut_anywhere_are_refused(tmp_path: Path, format_: str, kept: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "photo"
    Image.fromarray(noise).save(path, format_)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(path).startswith(("damaged or truncated (", "not a readable image ("))


def test_damaged_photos_are_refused(tmp_path: Path) -> None:
    content = png((2, 2), 8, 0, bytes(6))
    (tmp_path / "pixels.png").write_bytes(content.replace(zlib.compress(bytes(6)), bytes(11)))
    assert refusal(tmp_path / "pixels.png").startswith("damaged or truncated (")
    with (
        Image.open(tmp_path / "pixels.png") as image,
        pytest.raises(ValueError, match="damaged or truncated"),
    ):
        upright(image)


@pytest.mark.parametrize(
    "content",
    [
        png((60_000, 60_000), 8, 2, b""),
        b"P6 60000 60000 255\n",
        tiff((60_000, 60_000), 8, b""),
        png((10_001, 10_000), 8, 2, b""),
    ],
    ids=["PNG", "PPM", "TIFF", "just over"],
)
def test_absurdly_large_photos_are_refused_unread(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "large").write_bytes(content)  # without pixels: reading on would say truncated
    assert refusal(tmp_path / "large").endswith("more than 100 megapixels")


def test_the_largest_photo_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo, "MAX_PIXELS", 6)
    for width in (3, 4):
        Image.new("RGB", (width, 2), RED).save(tmp_path / f"{width}.png")
    assert row(load_photo(tmp_path / "3.png")) == [RED] * 3
    assert refusal(tmp_path / "4.png").startswith("4 x 2 pixels, more than ")
    with pytest.raises(PhotoError, match="4 x 2 pixels, more than "):
        size_of(tmp_path / "4.png")


@pytest.mark.parametrize(("said", "told"), [("two\n  lines\n", "two lines"), ("", "KeyError")])
def test_what_pil_says_is_told_in_one_line(
    tmp_path: Path, said: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(said) if said else KeyError

    blocks().save(tmp_path / "photo.jpg")
    monkeypatch.setattr(Image, "open", fails)
    assert refusal(tmp_path / "photo.jpg") == f"damaged or truncated ({told})"


def test_warnings_are_as_before_when_the_last_of_several_readers_is_done(tmp_path: Path) -> None:
    """As two threads may come and go: the one that came first goes first."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    first, second = (photo._opened(tmp_path / "a.png") for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn_explicit("of metadata", UserWarning, "Image.py", 1, module="PIL.Image")
    with pytest.raises(UserWarning, match="of ours"):
        warnings.warn_explicit("of ours", UserWarning, "photo.py", 1, module="vlcam.photo.loading")
    second.__exit__(None, None, None)
    assert warnings.filters == before
