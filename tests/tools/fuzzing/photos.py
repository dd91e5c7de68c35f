"""Photos of every format that is read, damaged at random; and how the reader takes them."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlcam.photo.loading import PhotoError, load_photo, size_of


def sound() -> dict[str, bytes]:
    """Files of 60 x 40 pixels, by what they are."""
    rows, columns = np.mgrid[:40, :60]
    colours = np.stack([4 * columns, 6 * rows, 2 * (rows + columns)], -1).astype(np.uint8)
    smooth = Image.fromarray(colours)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    grey = Image.fromarray((1000 * rows + columns).astype(np.uint16))
    half = smooth.copy()
    half.putalpha(128)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    files = {
        "JPEG": _file(smooth, "JPEG", exif=exif),
        "JPEG, progressive": _file(noise, "JPEG", progressive=True),
        "JPEG, grey": _file(smooth.convert("L"), "JPEG"),
        "JPEG, CMYK": _file(smooth.convert("CMYK"), "JPEG"),
        "MPO": _file(smooth, "MPO", more=noise),
        "PNG": _file(smooth, "PNG", exif=exif),
        "PNG, palette": _file(smooth.convert("P"), "PNG", transparency=3),
        "PNG, 16 bits": _file(grey, "PNG"),
        "PNG, alpha": _file(half, "PNG"),
        "PNG, animated": _file(smooth, "PNG", more=noise),
        "WebP": _file(smooth, "WEBP", exif=exif),
        "WebP, lossless": _file(half, "WEBP", lossless=True),
        "WebP, animated": _file(smooth, "WEBP", more=noise),
        "AVIF": _file(smooth, "AVIF", exif=exif),
        "GIF": _file(smooth, "GIF", more=noise),
        "BMP": _file(smooth, "BMP"),
        "BMP, palette": _file(smooth.convert("P"), "BMP"),
        "PPM": _file(smooth, "PPM"),
        "PGM, 16 bits": _file(grey, "PPM"),
        "JPEG 2000": _file(smooth, "JPEG2000"),
        "TIFF, two": _file(smooth, "TIFF", compression="tiff_lzw", more=noise),
        "TIFF, CMYK": _file(smooth.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "TIFF, 16 bits": _file(grey, "TIFF"),
    }
    for name in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        files[f"TIFF, {name}"] = _file(smooth, "TIFF", compression=name, exif=exif)
    for name in ("group3", "group4", "tiff_ccitt"):
        files[f"TIFF, {name}"] = _file(smooth.convert("1"), "TIFF", compression=name)
    return files


def damaged(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged files: cut short, with bytes changed, put in or left out."""
    chosen, files = random.Random(seed), [*sound().items()]
    for number in range(count):
        name, whole = files[number % len(files)]
        content, kind = bytearray(whole), chosen.random()
        if kind < 0.2:
            del content[chosen.randrange(len(content)) :]
            yield name, bytes(content)
            continue
        for _ in range(chosen.choice((1, 1, 2, 4, 16))):
            among = len(content) if chosen.random() < 0.5 else min(len(content), 200)
            content[chosen.randrange(among)] = chosen.choice(
                (0, 127, 128, 255, chosen.randrange(256))
            )
        at = chosen.randrange(len(content))
        if kind < 0.3:
            del content[at : at + chosen.randrange(20)]
        elif kind > 0.9:
            content[at:at] = content[at : at + chosen.randrange(50)]
        yield name, bytes(content)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that say, or hold, far more than they should."""
    wide = struct.pack(">II", 60_000, 60_000)
    for name, content in sound().items():
        if name.startswith("PNG"):
            yield f"{name}, 60000 x 60000", _chunked(content, wide + content[24:29])
    tiff = sound()["TIFF, tiff_lzw"]
    for tag in (256, 257, 258, 273, 277, 278, 279, 322, 323, 324):
        for value in (0, 65_535, 2**31 - 1, 2**32 - 1):
            yield f"TIFF, tag {tag} is {value}", _with_tag(tiff, tag, value)
    for pixels in (
        b"P6 60000 60000 255\n",
        b"P5 99999999999999999999 1 255\n",
        b"P6 9999 9999 65535\n",
    ):
        yield "PPM without pixels", pixels
    for count in (1_000_000, 40_000_000):  # of what compresses to nothing
        yield "PNG, text", _chunked(sound()["PNG"], None, b"a\0\0" + zlib.compress(bytes(count)))
    gif = bytearray(sound()["GIF"])
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "GIF, 65535 x 65535", bytes(gif)
    webp = bytearray(sound()["WebP, animated"])
    at = webp.index(b"VP8X") + 12
    webp[at : at + 6] = b"\xff\xff\xff\xff\xff\xff"
    yield "WebP, 16777216 x 16777216", bytes(webp)
    jpeg = bytearray(sound()["JPEG"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    yield "JPEG, 65535 x 65535", bytes(jpeg)
    jp2 = bytearray(sound()["JPEG 2000"])
    at = jp2.index(b"ihdr") + 4
    jp2[at : at + 8] = struct.pack(">II", 9_999, 9_999)
    yield "JPEG 2000, 9999 x 9999", bytes(jp2)
    at = jp2.index(b"\xff\x51") + 6
    jp2[at : at + 8] = struct.pack(">II", 9_999, 9_999)
    yield "JPEG 2000, 9999 x 9999 of two minds", bytes(jp2)
    avif = bytearray(sound()["AVIF"])
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    yield "AVIF, 60000 x 60000", bytes(avif)


def readings(seed: int, count: int) -> list[str]:
    """Read damaged files and bombs; a line for each that the reader should have taken otherwise."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo")
        for name, content in (*damaged(seed, count), *bombs()):
            path.unlink(missing_ok=True)  # some disks wait where a file is written again
            path.write_bytes(content)
            wrong += [f"{name}: {line}, of {content[:400].hex()}" for line in _taken(path)]
    return wrong


def _taken(path: Path) -> Iterator[str]:
    """What is wrong with how one file is taken: a photo and its size, or one line each."""
    found = []
    for read in (load_photo, size_of):
        try:
            image = read(path)
            found.append((image.height, image.width) if isinstance(image, Image.Image) else image)
        except PhotoError as error:
            found.append(None)
            if len(str(error).splitlines()) != 1 or not str(error).startswith(f"{path}: "):
                yield f"{read.__name__}: {str(error)!r}"
        except BaseException as error:
            yield f"{read.__name__}: {type(error).__name__}: {error}"
            return
    if found[0] is not None and found[0] != found[1]:
        yield f"load_photo gives {found[0]}, size_of {found[1]}"


def _file(
    image: Image.Image, format_: str, more: Image.Image | None = None, **options: Any
) -> bytes:
    """A file of one image, or of two."""
    file = io.BytesIO()
    # Copies: PIL leaves some options on the images that it saves.
    if more:
        options |= {"save_all": True, "append_images": [more.copy()]}
    image.copy().save(file, format_, **options)
    return file.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def _chunked(png: bytes, header: bytes | None, text: bytes | None = None) -> bytes:
    """A PNG file with another header, and a compressed text."""
    parts = [png[:8], png[8:33] if header is None else _chunk(b"IHDR", header)]
    return b"".join([*parts, _chunk(b"zTXt", text) if text else b"", png[33:]])


def _with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A TIFF file whose tag, or whose first one, says something else."""
    start = struct.unpack("<I", tiff[4:8])[0]
    entries = struct.unpack("<H", tiff[start : start + 2])[0]
    places = [start + 2 + 12 * n for n in range(entries)]
    own = (at for at in places if struct.unpack("<H", tiff[at : at + 2])[0] == tag)
    at = next(own, places[0])
    return tiff[:at] + struct.pack("<HHII", tag, 4, 1, value) + tiff[at + 12 :]
