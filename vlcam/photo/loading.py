"""Photos as they come, made upright 8-bit RGB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlcam.photo.quiet import quietly
from vlcam.utils.files.input_files import check_file, open_file

MAX_PIXELS = 100_000_000
"""Larger photos are refused before they are decoded."""

MAX_BYTES = 10 * MAX_PIXELS
"""Larger files are refused before they are opened: of some formats PIL reads the whole file."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read; PIL's other formats are no photos, and some of them start other programs."""

_ORIENTATION = 0x0112  # EXIF tag: how the stored rows and columns must be turned to stand upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 256, 257, 258, 262, 339
"""TIFF tags."""
_WHITE_IS_ZERO, _SIGNED = 0, 2  # values of the last two


class PhotoError(ValueError):
    """A photo that cannot be read; the one-line message names the file."""


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What the names of pictures in a folder end with, in small letters or capitals."""


def is_picture(path: Path) -> bool:
    """Whether a file's name is one of a picture."""
    return path.suffix.lower() in PICTURES


def load_photo(path: str | Path) -> Image.Image:
    """Read a photo as a person sees it: 8-bit RGB, upright, the first frame where it is animated.

    Transparent pixels are laid over white, as most viewers show them. Grey of more than 8 bits is
    scaled by its bit depth (not by its darkest and brightest pixel); CMYK is converted without
    colour management.

    Raises:
        PhotoError: the file is missing, no regular file (a folder, a pipe, a device), empty,
            truncated, not an image, larger than :data:`MAX_PIXELS` or :data:`MAX_BYTES`, or of a
            kind without a known brightness (floating point); or ``path`` is no path.
    """
    with _opened(path) as image:
        try:
            return upright(image)
        except ValueError as error:
            raise PhotoError(f"{os.fspath(path)}: {error}") from error
        except MemoryError as error:
            raise PhotoError(f"{os.fspath(path)}: {_line(error)}") from error


def size_of(path: str | Path) -> tuple[int, int]:
    """(height, width) of the photo that :func:`load_photo` would give, without decoding it.

    Raises:
        PhotoError: as of :func:`load_photo`, but for damage beyond the header.
    """
    with _opened(path) as image:
        width, height = image.size
        tags = getattr(image, "tag_v2", {})
        if _WIDTH in tags and _HEIGHT in tags:
            # As stored: of a TIFF that it will turn, PIL tells the size that it will have then.
            width, height = tags[_WIDTH], tags[_HEIGHT]
        turned = _TURNS.get(_orientation(image)) in _SIDEWAYS
        return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet."""
    file = _path(path)
    Image.init()  # PIL knows only five formats before
    formats = [name for name in FORMATS if name in Image.OPEN]
    with _file(file) as stream, quietly():
        try:
            image = Image.open(stream, formats=formats)
        except UnidentifiedImageError:
            raise PhotoError(f"{file}: not a readable image ({_KNOWN})") from None
        except Image.DecompressionBombError:
            raise PhotoError(f"{file}: more than {MAX_PIXELS // 10**6} megapixels") from None
        except Exception as error:  # a damaged header makes PIL's readers raise almost anything
            raise PhotoError(f"{file}: {_line(error)}") from error
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(
                    f"{file}: {image.width} x {image.height} pixels, more than"
                    f" {MAX_PIXELS // 10**6} megapixels"
                )
            yield image


def upright(image: Image.Image) -> Image.Image:
    """An 8-bit RGB copy of an image, turned as its EXIF orientation says.

    Raises:
        ValueError: pixels that cannot be decoded, or without a known brightness (floating point) or
            colour; or there are none.
    """
    if not image.width * image.height:
        raise ValueError(f"{image.width} x {image.height} pixels: there is nothing to see")
    try:
        _decode(image)  # before the orientation is asked for: PIL turns TIFFs as it decodes
    except Exception as error:  # a damaged file, as above
        raise ValueError(_line(error)) from error
    turn = _TURNS.get(_orientation(image))
    picture = _rgb(image)
    return picture if turn is None else picture.transpose(turn)


_KNOWN = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM and JPEG 2000 are read"


def _path(photo: object) -> Path:
    """What was given as a photo's path, if it is one."""
    path = os.fspath(photo) if isinstance(photo, os.PathLike) else photo
    if isinstance(path, str):
        return Path(path)
    kind = type(photo).__name__
    if hasattr(photo, "shape"):
        raise PhotoError(f"a path of a photo, not {kind}, is read; vlcam.look takes it as it is")
    known = "a path, a PIL image, an array or a tensor"
    raise PhotoError(f"a photo is given as {known}, not as {kind}{_advice(photo)}")


def _advice(photo: object) -> str:
    """How a PIL image is made of what was given."""
    if isinstance(photo, bytes | bytearray | memoryview):
        return "; PIL.Image.open(io.BytesIO(...)) makes one of a file's bytes"
    if hasattr(photo, "image"):
        return "; its image is one"
    if hasattr(photo, "read"):
        return "; PIL.Image.open(...) makes one of an open file"
    if isinstance(photo, list | tuple | set | dict):
        return ": one photo at a time"
    return ""


def _file(path: Path) -> IO[bytes]:
    """The photo's file, opened."""
    try:
        size = check_file(path, "photo")
        if 0 < size <= MAX_BYTES:
            return open_file(path, "photo")
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PhotoError(f"{path}: a folder, not a photo") from None
    except OSError as error:
        raise PhotoError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise PhotoError(f"{str(path)!r}: {error}") from None
    if size == 0:
        raise PhotoError(f"{path}: empty file")
    raise PhotoError(f"{path}: {size} bytes, more than {MAX_BYTES // 10**6} megabytes")


def _decode(image: Image.Image) -> None:
    name = getattr(image, "filename", None)
    if name and image.format == "TIFF":
        # By its name PIL would map the file into memory, in the shape that it has when turned.
        image.filename = ""  # type: ignore[attr-defined]
    try:
        with quietly():
            image.load()
    finally:
        if name:
            image.filename = name  # type: ignore[attr-defined]


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # unreadable metadata: the photo is shown as stored
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _shades(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is unknown; convert to 8 or 16 bits")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")


def _shades(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled to 8 bits: 0 stays black, the largest value becomes white.

    The one shade that a PNG file may declare transparent becomes white, too.
    """
    tags = getattr(image, "tag_v2", {})  # of TIFF files; other formats store 16 bits
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    values = np.asarray(image)
    if int(tags.get(_SAMPLE_FORMAT, (1,))[0]) == _SIGNED:
        bits -= 1
    elif bits == 32:
        values = values.astype(np.int32, copy=False).view(np.uint32)  # PIL reads them as signed
    scaled = values.astype(np.float64) * (255 / (2**bits - 1))
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    if "transparency" in image.info:
        scaled[values == image.info["transparency"]] = 255
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _line(error: Exception) -> str:
    """The system's message about a file, or that PIL could not read what is in it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory for its pixels"
    return f"damaged or truncated ({' '.join(str(error).split()) or type(error).__name__})"
