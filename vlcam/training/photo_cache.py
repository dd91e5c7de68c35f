"""What training reads again and again, kept on disk: decoded photos, feature maps, image features.

What a network is fed with comes from a :data:`Source`: photos, or the maps of a layer up to which
the network keeps its weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlcam.photo.loading import load_photo
from vlcam.photo.preprocess import Preprocess
from vlcam.training.precision import autocast
from vlcam.utils.files.atomic import recover, written
from vlcam.utils.terminal import progress

See = Callable[[Sequence[int], np.random.Generator], Tensor]
"""Image features (N, F) in float32 of photos, by their places, each in a random view."""

_BATCH = 8  # of a CNN on a CPU, 1.5 times as fast a photo as 32: maps stay in its cache
_DRAWN = 2  # views from this one on are drawn
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
        # Written, not mapped: a disk that is full would end the program where it is mapped.
        with (
            file.open("wb") as out,
            ThreadPoolExecutor() as pool,
            progress.of("photos", len(paths), unit="photo") as work,
        ):
            np.lib.format.write_array_header_1_0(out, header)
            for i in range(0, len(paths), _BATCH):
                for picture in pool.map(self._picture, paths[i : i + _BATCH]):
                    out.write(picture.tobytes())
                    work.advance()

    def _picture(self, path: Path) -> np.ndarray:
        pixels, _ = self.preprocess(load_photo(path))
        levels = ((pixels * self._std + self._mean) * self.preprocess.levels).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(1, 2, 0).numpy()

    def batch(
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
        if view >= _DRAWN:
            height, width = levels.shape[2:]
            h, w = (rng.uniform(0.75**0.5, 1, 2) * (height, width)).astype(int)
            y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
            crop = pixels[:, :, y : y + h, x : x + w]
            pixels = functional.interpolate(crop, (height, width), mode="bilinear")
        if view == 1 or (view >= _DRAWN and rng.random() < 0.5):
            pixels = pixels.flip(3)
        return pixels.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Part:
    """A part of a CNN that keeps its weights.

    Attributes:
        run: of a batch of its inputs (B, ...) the outputs (B, *shape).
        name: with the weights, what identifies it.
        device, precision: where and in what it is computed.
        seed: of views that are drawn.
    """

    run: nn.Module
    shape: tuple[int, ...]
    name: str
    device: torch.device
    precision: torch.dtype
    seed: int

    def outputs(self, source: Source, view: int) -> Tensor:
        """Its outputs (N, *shape) for a view of all photos, in its modules' present mode: float32,
        or float16 where a photo has so many (feature maps, say) that memory matters more."""
        rng = np.random.default_rng([self.seed, view])
        starts = range(0, len(source), _BATCH)
        rows = [range(i, min(i + _BATCH, len(source))) for i in starts]
        kind = torch.float32 if math.prod(self.shape) < _MANY else torch.float16
        found = torch.empty(len(source), *self.shape, dtype=kind)
        what = f"features of photos, view {view}"
        with (
            torch.no_grad(),
            autocast(self.device, self.precision),
            progress.of(what, len(source), unit="photo") as work,
        ):
            for some in rows:
                batch = source.batch(some, view, rng).to(self.device)
                found[some.start : some.stop] = self.run(batch)
                work.advance(len(some))
        return found

    def kept_outputs(self, source: Source, view: int, folder: Path) -> Path:
        """A file of NumPy's with the :meth:`outputs`, named by a hash of what they depend on."""
        file = folder / f"features-{self._key(source, view)}.npy"
        recover(folder)
        if not file.is_file():
            with written(file) as draft, draft.open("wb") as out:
                found = self.outputs(source, view).numpy()
                header = np.lib.format.header_data_from_array_1_0(found)
                np.lib.format.write_array_header_1_0(out, header)
                out.write(found.data)  # np.save would not say what is wrong with a disk
        return file

    def digest(self) -> str:
        """A hash of its name and its weights."""
        weights = hashlib.sha256(self.name.encode())
        for name, value in self.run.state_dict().items():
            weights.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return weights.hexdigest()

    def _key(self, source: Source, view: int) -> str:
        drawn = self.seed if view >= _DRAWN else 0
        settings = f"{source.key} {view} {drawn} {self.precision}"
        return _digest(f"{self.digest()} {settings}".encode())


class KeptMaps:
    """Feature maps of the layer up to which a CNN keeps its weights, of every view of all photos:
    computed when a view is first asked for, and kept in files. Views that are drawn are drawn once.

    Args:
        photos: whose maps.
        part: from pixels to maps (B, K, u, v).
        folder: for the files.
    """

    def __init__(self, photos: Photos, part: Part, folder: Path) -> None:
        self._photos, self._part, self._folder = photos, part, folder
        self.key = f"{photos.key} {part.digest()}"
        self._views: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._photos)

    def batch(
        self,
        rows: Sequence[int],
        view: int,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Maps (B, K, u, v) of those photos in that view, float32."""
        if size:
            raise ValueError("maps are kept of photos of one size")
        if view not in self._views:
            file = self._part.kept_outputs(self._photos, view, self._folder)
            self._views[view] = np.load(file, mmap_mode="r")
        maps = torch.from_numpy(np.stack([self._views[view][i] for i in rows])).float()
        return maps.contiguous(memory_format=torch.channels_last)


Source = Photos | KeptMaps
"""What a network is fed with, a batch of photos at a time."""


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
