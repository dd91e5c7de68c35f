"""Which CNN knows best what captions speak of: linear detectors of words on its frozen features.

    python -m benchmarks.bundled.encoders --data ../shared/data

Of training photos of Flickr8k the mean of the CNN's last feature maps is taken; a logistic
regression of each of the commonest nouns learns from them which photos' captions have it, and is
scored on the validation photos by average precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bundled.captions import nouns_of
from benchmarks.shared import program
from captioning.data.captions import Example, read_data
from vlcam.evaluation.entities import Entities
from vlcam.evaluation.tables import table
from vlcam.networks import cnns
from vlcam.networks.encoder import Encoder
from vlcam.photo.loading import load_photo
from vlcam.utils.terminal import progress

WORDS = 150
DECAYS = (0.01, 0.1, 1.0)  # of the weights; the best for each CNN is told
STEPS = 600
BATCH = 16


def features(name: str, weights: Path | None, size: int, photos: Sequence[Example]) -> Tensor:
    """The CNN's image features (N, F) of photos, standardised."""
    encoder = Encoder(name, (size, size)).eval()
    if weights:
        encoder.load_weights(weights)
    else:
        encoder.load_published()
    prepare = cnns.preprocess(name, (size, size))
    found = []
    with (
        torch.inference_mode(),
        progress.of(f"{name} {size}, photos", len(photos), unit="photo") as work,
    ):
        for start in range(0, len(photos), BATCH):
            some = [prepare(load_photo(one.photo))[0] for one in photos[start : start + BATCH]]
            batch = torch.stack(some).contiguous(memory_format=torch.channels_last)
            found.append(encoder(batch))
            work.advance(len(some))
    every = torch.cat(found).clone()
    return (every - every.mean(0)) / (every.std(0) + 1e-3)


def labels(photos: Sequence[Example], words: Sequence[str]) -> Tensor:
    """(N, W): whether a caption of each photo has each word."""
    said = [{word for caption in one.captions for word in caption} for one in photos]
    return torch.tensor([[float(word in some) for word in words] for some in said])


def precisions(seen: Tensor, truth: Tensor, train: int, decay: float) -> np.ndarray:
    """Average precision of each word on the photos behind the first ``train``."""
    torch.manual_seed(0)
    linear = nn.Linear(seen.shape[1], truth.shape[1])
    nn.init.zeros_(linear.weight)
    optimizer = torch.optim.AdamW(linear.parameters(), 3e-3, weight_decay=decay)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(train, (256,))
        loss = functional.binary_cross_entropy_with_logits(linear(seen[rows]), truth[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    with torch.inference_mode():
        order = linear(seen[train:]).argsort(0, descending=True)
    hits = truth[train:].gather(0, order)
    ranks = torch.arange(1, len(hits) + 1)[:, None]
    each = (hits * hits.cumsum(0) / ranks).sum(0) / hits.sum(0)
    return each[hits.sum(0) > 0].numpy()


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=3000, help="of training (default 3000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 260])
    program.run(parser, compare)


def compare(args: argparse.Namespace) -> tuple[str, list[str]]:
    given = args.data / "weights" / "mobilenet_v2_imagenet_torchvision_fp16.safetensors"
    networks = (("mobilenet_v2", given), ("efficientnet_lite0", None), ("efficientnet_lite2", None))
    data = read_data(args.data / "flickr8k", 0)
    entities = Entities(args.data / "flickr30k_entities" / "annotations.zip")
    train = data.train[: args.photos]
    said = labels(train, nouns := nouns_of(entities, train))
    words = [nouns[i] for i in said.sum(0).argsort(descending=True)[:WORDS].tolist()]
    photos = [*train, *data.val]
    truth = labels(photos, words)
    rows = []
    for name, weights in networks:
        for size in args.sizes:
            seen = features(name, weights, size, photos)
            tried = {d: precisions(seen, truth, len(train), d) for d in DECAYS}
            decay = max(DECAYS, key=lambda d: float(tried[d].mean()))
            best = tried[decay]
            error = best.std(ddof=1) / len(best) ** 0.5
            rows.append((name, size, f"{best.mean():.3f} ± {error:.3f}", decay))
    parts = [
        f"Mean average precision of {WORDS} nouns on {len(data.val)} validation photos, learned"
        f" from {len(train)} training photos; ± over the words.",
        table(("CNN", "pixels", "mean average precision", "weight decay"), rows),
    ]
    return "CNNs as given, by what they know of words", parts


if __name__ == "__main__":
    main()
