"""Photos as they come, made upright 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlcam.utils.process_wide import in_effect

MAX_PIXELS = 100_000_000
"""Larger photos are refused before they are decoded."""

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
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_WHITE_IS_ZERO, _SIGNED = 0, 2  # values of the last two


class PhotoError(ValueError):
    """A photo that cannot be read; the one-line message names the file."""


def load_photo(path: str | Path) -> Image.Image:
    """Read a photo as a person sees it: 8-bit RGB, upright, the first frame where it is animated.

    Transparent pixels are laid over white, as most viewers show them. Grey of more than 8 bits is
    scaled by its bit depth (not by its darkest and brightest pixel); CMYK is converted without
    colour management.

    Raises:
        PhotoError: the file is missing, a folder, empty, truncated, not an image, larger than
            :data:`MAX_PIXELS`, or of a kind without a known brightness (floating point).
    """
    with _opened(Path(path)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise PhotoError(
                f"{path}: {image.width} x {image.height} pixels, more than"
                f" {MAX_PIXELS // 10**6} megapixels"
            )
        try:
            return upright(image)
        except ValueError as error:
            raise PhotoError(f"{path}: {error}") from error


def size_of(path: str | Path) -> tuple[int, int]:
    """(height, width) of the photo that :func:`load_photo` would give, without decoding it.

    Raises:
        PhotoError: as of :func:`load_photo`, but for damage beyond the header.
    """
    with _opened(Path(path)) as image:
        turned = _TURNS.get(_orientation(image)) in _SIDEWAYS
        return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet."""
    _refuse_no_file(path)
    Image.init()  # PIL knows only five formats before
    formats = [name for name in FORMATS if name in Image.OPEN]
    with in_effect({"PIL's warnings": _without_warnings}):
        try:
            image = Image.open(path, formats=formats)
        except UnidentifiedImageError:
            raise PhotoError(f"{path}: not a readable image ({_KNOWN})") from None
        except Image.DecompressionBombError:
            raise PhotoError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels") from None
        except Exception as error:  # a damaged header makes PIL's readers raise almost anything
            raise PhotoError(f"{path}: {_line(error)}") from error
        with image:
            yield image


def _without_warnings() -> Callable[[], object]:
    """PIL warns of large images, which we accept or refuse, and of metadata that we do not use."""
    before = warnings.catch_warnings()
    before.__enter__()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return partial(before.__exit__, None, None, None)


def upright(image: Image.Image) -> Image.Image:
    """An 8-bit RGB copy of an image, turned as its EXIF orientation says.

    Raises:
        ValueError: pixels that cannot be decoded, or without a known brightness (floating point) or
            colour.
    """
    try:
        image.load()  # before the orientation is asked for: PIL turns some formats as it decodes
    except Exception as error:  # a damaged file, as above
        raise ValueError(_line(error)) from error
    turn = _TURNS.get(_orientation(image))
    picture = _rgb(image)
    return picture if turn is None else picture.transpose(turn)


_KNOWN = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PPM and JPEG 2000 are read"


def _refuse_no_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise PhotoError(f"{path}: {'no such file' if missing else _line(error)}") from None
    except ValueError as error:  # a name that no file can have
        raise PhotoError(f"{str(path)!r}: {error}") from None
    if path.is_dir():
        raise PhotoError(f"{path}: a folder, not a photo")
    if path.is_file() and size == 0:
        raise PhotoError(f"{path}: empty file")


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
    return f"damaged or truncated ({' '.join(str(error).split()) or type(error).__name__})"
