"""Measuring what a model's training photos look like to its CNN (:mod:`vlcam.formats.world`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.formats.world import World, check_name, check_text, vectors
from vlcam.networks.encoder import Encoder
from vlcam.photo.loading import load_photo
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.terminal import progress
from vlcam.utils.untouched import untouched

LEAST, LEAST_HELD_OUT = 100, 40
"""Photos without which no Gaussian and no threshold is worth anything."""

MOST = 2000
"""Training photos that are looked at: more hardly change the Gaussian."""

PASS = 0.96
"""Share of the held-out photos that pass: a little more than the 95 % of all that should."""

_DIRECTIONS = 64
_NUMBERS = 90_000  # of all directions: the file stays under 200 KB
_BATCH = 16


class TooFewError(ValueError):
    """There are too few photos."""


Prepare = Callable[[Path], Image.Image]


def know_world(
    encoder: Encoder,
    preprocess: Preprocess,
    train: Sequence[Path],
    held_out: Sequence[Path],
    *,
    world: str,
    instead: str = "",
    seed: int = 0,
) -> World:
    """What training photos look like to a CNN, with the threshold that 95 % of others of their
    kind stay below.

    Args:
        encoder: the CNN; it is left as it is.
        preprocess: from a photo to its input.
        train: files of photos; at most :data:`MOST` of them are looked at, drawn by ``seed``.
        held_out: files of photos that the model was not trained on; as many.
        world, instead: as of a :class:`vlcam.formats.world.Likeness`.

    Raises:
        TooFewError: there are fewer than :data:`LEAST` and :data:`LEAST_HELD_OUT` photos.
        ValueError: one of them cannot be read; a text is no single, short line.
    """
    check_name("the photos' name", world)
    check_text("what to do instead", instead)
    if len(train) < LEAST or len(held_out) < LEAST_HELD_OUT:
        raise TooFewError(
            f"{len(train)} training photos and {len(held_out)} held out are too few to tell photos"
            f" unlike them: give at least {LEAST} and {LEAST_HELD_OUT}"
        )
    own, others = (
        photo_vectors(encoder, preprocess, _drawn(photos, seed)) for photos in (train, held_out)
    )
    return fitted(own, others, world=world, instead=instead)


def fitted(own: Tensor, others: Tensor, *, world: str, instead: str = "") -> World:
    """As :func:`know_world`, of the vectors (N, K) and (M, K) of training photos and held-out
    ones."""
    mean = own.double().mean(0)
    away = own.double() - mean
    count, channels = away.shape
    k = max(1, min(_DIRECTIONS, _NUMBERS // channels, channels - 1, count - 1))
    # As in the file, where they are float16: what is left is then measured as it will be.
    directions = torch.linalg.svd(away, full_matrices=False)[2][:k].half().double()
    variances = (away @ directions.T).square().mean(0)
    least = 1e-6 * away.square().sum(1).mean()  # of channels that never change
    rest = away.square().sum(1).mean() - variances.sum()
    found = World(
        world,
        instead,
        threshold=1.0,
        mean=mean.float(),
        directions=directions.half(),
        variances=variances.clamp(min=least).float(),
        rest=max(rest.item(), least.item()),
    )
    threshold = float(np.quantile(found.scores(others).numpy(), PASS, method="higher"))
    return replace(found, threshold=threshold)


def photo_vectors(
    encoder: Encoder, preprocess: Preprocess, photos: Sequence[Path], prepare: Prepare = load_photo
) -> Tensor:
    """(N, K) of photos, by one forward pass of the CNN for each batch.

    Args:
        prepare: the upright RGB photo of a file.
    """
    before = encoder.split(encoder.layers[-1].name)[0]
    first = next(encoder.parameters())
    found = []
    with (
        untouched(encoder),
        torch.no_grad(),
        progress.of("photos of the model's world", len(photos), unit="photo") as work,
    ):
        for start in range(0, len(photos), _BATCH):
            some = [preprocess(prepare(path))[0] for path in photos[start : start + _BATCH]]
            pixels = torch.stack(some).to(first, memory_format=torch.channels_last)
            found.append(vectors(before(pixels)).cpu())
            work.advance(len(some))
    return torch.cat(found)


def _drawn(photos: Sequence[Path], seed: int) -> list[Path]:
    rows = np.random.default_rng(seed).permutation(len(photos))[:MOST]
    return [photos[row] for row in sorted(rows)]
