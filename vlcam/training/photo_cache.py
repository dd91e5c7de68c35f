"""What training reads again and again, kept on disk: decoded photos and their image features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from vlcam.networks.encoder import Encoder
from vlcam.photo.loading import load_photo
from vlcam.photo.preprocess import Preprocess
from vlcam.training.precision import autocast
from vlcam.utils.atomic import recover, written

See = Callable[[Sequence[int], np.random.Generator], Tensor]
"""Image features (N, F) in float32 of photos, by their places, each in a random view."""

_BATCH = 32
_MANY = 2**14  # numbers of one photo


class Photos:
    """Preprocessed photos as bytes in one memory-mapped file (N, H, W, 3), decoded once, when first
    used.

    The file's name is a hash of the preprocessing and of the photos' paths, sizes and times, so a
    cache is never used for other photos.
    """

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess, folder: Path) -> None:
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        self.key = _digest(json.dumps([preprocess.to_json(), stats]).encode())
        self.preprocess = preprocess
        self._mean = torch.tensor(preprocess.mean).view(3, 1, 1)
        self._std = torch.tensor(preprocess.std).view(3, 1, 1)
        self._paths, self._folder = paths, folder

    @cached_property
    def bytes(self) -> np.ndarray:
        file = self._folder / f"photos-{self.key}.npy"
        recover(self._folder)
        if not file.is_file():
            with written(file) as draft:
                self._decode(draft)
        found: np.ndarray = np.load(file, mmap_mode="r")
        return found

    def __len__(self) -> int:
        return len(self._paths)

    def _decode(self, file: Path) -> None:
        paths = self._paths
        shape = (len(paths), *self.preprocess.size, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        starts = range(0, len(paths), _BATCH)
        # Written, not mapped: a disk that is full would end the program where it is mapped.
        with file.open("wb") as out, ThreadPoolExecutor() as pool:
            np.lib.format.write_array_header_1_0(out, header)
            for i in tqdm(starts, "photos", unit="photo", unit_scale=_BATCH):
                for picture in pool.map(self._picture, paths[i : i + _BATCH]):
                    out.write(picture.tobytes())

    def _picture(self, path: Path) -> np.ndarray:
        pixels, _ = self.preprocess(load_photo(path))
        levels = ((pixels * self._std + self._mean) * self.preprocess.levels).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(1, 2, 0).numpy()

    def pixels(
        self,
        rows: Sequence[int],
        view: int,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Normalised pixels (B, 3, H, W) of those photos.

        View 0 is the photo, 1 its mirror image; any other crops three quarters of it or more,
        enlarges them to the input's size and mirrors half of the batches (``rng`` decides).

        Args:
            size: (H, W), where not the input's.
        """
        levels = torch.from_numpy(np.stack([self.bytes[i] for i in rows])).permute(0, 3, 1, 2)
        if size and size != self.preprocess.size:
            levels = functional.interpolate(levels, size, mode="bilinear", antialias=True)
        pixels = levels.float().div_(self.preprocess.levels).sub_(self._mean).div_(self._std)
        if view > 1:
            height, width = levels.shape[2:]
            h, w = (rng.uniform(0.75**0.5, 1, 2) * (height, width)).astype(int)
            y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
            crop = pixels[:, :, y : y + h, x : x + w]
            pixels = functional.interpolate(crop, (height, width), mode="bilinear")
        if view == 1 or (view > 1 and rng.random() < 0.5):
            pixels = pixels.flip(3)
        return pixels.contiguous(memory_format=torch.channels_last)


def features(
    encoder: Encoder,
    photos: Photos,
    *,
    view: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Image features (N, F) of one view of all photos, in the encoder's present mode: float32, or
    float16 where a photo has so many (feature maps, say) that memory matters more.

    Args:
        view: see :meth:`Photos.pixels`.
        precision: of the CNN's computation.
    """
    rng = np.random.default_rng([seed, view])
    batches = range(0, len(photos), _BATCH)
    rows = [range(i, min(i + _BATCH, len(photos))) for i in batches]
    kind = torch.float32 if encoder.feature_size < _MANY else torch.float16
    found = torch.empty(len(photos), encoder.feature_size, dtype=kind)
    with torch.no_grad(), autocast(device, precision):
        for some in tqdm(rows, f"features, view {view}", unit_scale=_BATCH, unit="photo"):
            found[some.start : some.stop] = encoder(photos.pixels(some, view, rng).to(device))
    return found


def cached_features(
    encoder: Encoder,
    photos: Photos,
    *,
    view: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    folder: Path,
) -> Tensor:
    """:func:`features`, kept in a file named by a hash of all that they depend on."""
    weights = hashlib.sha256(encoder.name.encode())
    for name, value in encoder.state_dict().items():
        weights.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    settings = f"{photos.key} {view} {seed if view > 1 else 0} {precision}"
    key = _digest(f"{weights.hexdigest()} {settings}".encode())
    file = folder / f"features-{key}.npy"
    recover(folder)
    if not file.is_file():
        with written(file) as draft, draft.open("wb") as out:
            found = features(
                encoder, photos, view=view, seed=seed, device=device, precision=precision
            ).numpy()
            header = np.lib.format.header_data_from_array_1_0(found)
            np.lib.format.write_array_header_1_0(out, header)
            out.write(found.data)  # np.save would not say what is wrong with a disk
    return torch.from_numpy(np.load(file))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def features_of(views: Sequence[Tensor], device: torch.device) -> See:
    """Features of photos in random views, out of the features (P, F) of every view of all photos,
    computed before."""

    def see(rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        drawn = rng.integers(len(views), size=len(rows)).tolist()
        chosen = [views[view][row] for view, row in zip(drawn, rows, strict=True)]
        return torch.stack(chosen).to(device).float()

    return see
