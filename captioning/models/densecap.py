"""Captions of an image's regions, after DenseCap (Johnson, Karpathy and Fei-Fei, CVPR 2016).

CNN -> region proposals -> a code for each region -> the probability that it is one, a better box,
and a caption written by an LSTM. Proposals, RoI features and boxes are torchvision's detection
parts; the LSTM is the captioners' (``captioning/language/writer.py``). The paper's CNN is VGG-16;
here it is any that :class:`vlcam.networks.encoder.RegionEncoder` takes, and captions are written
from the features inside the final boxes, not inside the proposals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.boxes import remove_small_boxes

from captioning.language.decoding import Caption
from captioning.language.writer import Writer, WriterConfig
from vlcam.formats import checkpoint
from vlcam.formats.state_dict import WEIGHTS
from vlcam.formats.world import Likeness, World
from vlcam.metrics.box_ratio import Box, box_in_photo
from vlcam.models import configuration
from vlcam.networks.encoder import RegionEncoder
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described

ARCHITECTURE = "densecap"
BUNDLED = Path(__file__).parents[1] / "bundled" / "densecap"
"""The dense captioner of rendered scenes."""

_SHAPES = (0.5, 1.0, 2.0)  # height / width of the anchors
_MAPS = "maps"  # torchvision's parts take feature maps by names
_ALIKE = 0.5  # IoU from which a box is taken for a region's
_SMALLEST = 4.0  # pixels; what is smaller is the rest of a box that lay beyond the image's edge
_OVERLAP = 0.3  # IoU from which the less sure of two regions is left out, as in the paper

_loading = Lock()


@dataclass(frozen=True, kw_only=True)
class Config(WriterConfig):
    """Everything but the weights.

    Attributes:
        cnn: name of the encoder (see :class:`vlcam.networks.encoder.Encoder`).
        preprocess: from a photo to the CNN's input.
        regions: the CNN's layer that regions are cut from; None: its last feature maps.
        anchors: sides, in input pixels, of the squares (and of rectangles of the same area) that
            proposals begin with.
        cells: a region's features have ``cells`` x ``cells`` of them.
        code: size of a region's code.
    """

    cnn: str
    preprocess: Preprocess = field(default_factory=Preprocess)
    regions: str | None = None
    anchors: tuple[int, ...] = (32, 64, 128, 256)
    cells: int = 4
    code: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (
            ("anchors", self.anchors),
            ("cells", (self.cells,)),
            ("code", (self.code,)),
        ):
            if not values or not all(isinstance(n, int) and n >= 1 for n in values):
                raise ValueError(
                    f"{name} is {described(values)}, expected whole numbers of at least 1"
                )

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "dense captioner")


@dataclass(frozen=True)
class Lesson:
    """An image's true regions.

    Attributes:
        boxes: (R, 4), (x0, y0, x1, y1) in input pixels, edges counted from 0.
        captions: of each, token ids; at least one.
    """

    boxes: Tensor
    captions: Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Found:
    """The regions that the model finds in an image, the surest first.

    Attributes:
        boxes: (R, 4), (x0, y0, x1, y1) in input pixels, edges counted from 0.
        scores: (R,), probabilities of being a region.
        captions: of each.
    """

    boxes: Tensor
    scores: Tensor
    captions: Sequence[Caption]


@dataclass(frozen=True)
class Described:
    """A region of a photo: its caption, its box (x0, y0, x1, y1) in photo pixels, edges counted
    from 0, and the probability of its being one."""

    text: str
    box: Box
    score: float


class DenseCap(nn.Module):
    """The dense captioner. Image features (N, F) are the CNN's feature maps, flattened."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = RegionEncoder(config.cnn, config.preprocess.size, config.regions)
        channels = self.encoder.regions.shape[0]
        self.standardise = nn.BatchNorm2d(channels, affine=False)
        anchors = AnchorGenerator((config.anchors,), (_SHAPES,))
        self.proposals = RegionProposalNetwork(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=128,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 1000, "testing": 500},
            post_nms_top_n={"training": 200, "testing": 100},
            nms_thresh=0.7,
        )
        self.heads = RoIHeads(
            MultiScaleRoIAlign([_MAPS], config.cells, sampling_ratio=2),
            TwoMLPHead(channels * config.cells**2, config.code),
            FastRCNNPredictor(config.code, 2),
            fg_iou_thresh=_ALIKE,
            bg_iou_thresh=_ALIKE,
            batch_size_per_image=32,
            positive_fraction=0.5,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=_OVERLAP,
            detections_per_img=100,
        )
        self.writer = Writer(config.code, config)

    def maps(self, feature: Tensor) -> dict[str, Tensor]:
        """Standardised feature maps (N, K, u, v) of image features, as torchvision takes them."""
        maps = feature.unflatten(1, self.encoder.regions.shape)
        return {_MAPS: self.standardise(maps)}

    def _images(self, count: int) -> ImageList:
        """The sizes of the images, in torchvision's form."""
        size = self.config.preprocess.size
        return ImageList(torch.empty(count, 3, *size, device="meta"), [size] * count)

    def codes(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Codes (R, code) of all images' regions."""
        sizes = [self.config.preprocess.size] * len(boxes)
        found: Tensor = self.heads.box_head(self.heads.box_roi_pool(maps, boxes, sizes))
        return found

    def losses(
        self, feature: Tensor, lessons: Sequence[Lesson], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The losses by name: whether there is a region and where, of the proposals and of the
        codes; and the words of one caption of each region, drawn by ``rng``.

        Args:
            feature: (N, F) of images.
            lessons: of each.
        """
        maps, images = self.maps(feature), self._images(len(lessons))
        targets = [
            {"boxes": one.boxes, "labels": one.boxes.new_ones(len(one.boxes), dtype=torch.int64)}
            for one in lessons
        ]
        proposals, losses = self.proposals(images, maps, targets)
        boxes, matched, labels, deltas = self.heads.select_training_samples(proposals, targets)
        codes = self.codes(maps, boxes)
        logits, moves = self.heads.box_predictor(codes)
        which, where = fastrcnn_loss(logits, moves, labels, deltas)
        texts = [
            _drawn(lesson.captions[row], rng)
            for lesson, rows, kinds in zip(lessons, matched, labels, strict=True)
            for row in rows[kinds > 0].tolist()
        ]
        # True boxes are among the proposals, so there is always one.
        words = self.writer.word_losses(codes[torch.cat(labels) > 0], texts)[0].mean()
        return losses | {"loss_region": which, "loss_box": where, "loss_words": words}

    @torch.no_grad()
    def find(self, feature: Tensor, top: int | None = None) -> list[Found]:
        """The regions of images, the ``top`` surest of each, from image features (N, F)."""
        maps, images = self.maps(feature), self._images(len(feature))
        proposals, _ = self.proposals(images, maps)
        found, _ = self.heads(maps, proposals, images.image_sizes)
        kept = [remove_small_boxes(one["boxes"], _SMALLEST)[:top] for one in found]
        boxes = [one["boxes"][rows] for one, rows in zip(found, kept, strict=True)]
        scores = [one["scores"][rows] for one, rows in zip(found, kept, strict=True)]
        captions = iter(self.captions(feature, boxes))
        return [
            Found(some, sure, list(islice(captions, len(some))))
            for some, sure in zip(boxes, scores, strict=True)
        ]

    @torch.no_grad()
    def captions(self, feature: Tensor, boxes: list[Tensor]) -> list[Caption]:
        """The captions of all regions of images: boxes (R, 4) of each, in input pixels."""
        if not sum(map(len, boxes)):
            return []
        return self.writer.write(self.codes(self.maps(feature), boxes))

    def describe(self, photo: Image.Image, top: int | None = None) -> list[Described]:
        """The regions of an upright RGB photo, the ``top`` surest, the surest first."""
        return self.told(photo, top)[0]

    def told(
        self, photo: Image.Image, top: int | None = None
    ) -> tuple[list[Described], Likeness | None]:
        """As :meth:`describe`, and how like the training photos the photo is, where the model knows
        (its ``world``): of the same forward pass of the CNN."""
        pixels, placement = self.config.preprocess(photo)
        first = next(self.parameters())
        with torch.no_grad():
            feature = self.encoder(pixels[None].to(first))
            (found,) = self.find(feature, top)
        world: World | None = getattr(self, "world", None)
        maps = feature.unflatten(1, self.encoder.regions.shape)
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.captions, strict=True)
        described = [
            Described(
                " ".join(self.config.vocabulary.text(caption.tokens)),
                box_in_photo((box[0], box[1], box[2], box[3]), placement),
                score,
            )
            for box, score, caption in rows
        ]
        return described, None if world is None else world.likeness(maps)


def _drawn(captions: Sequence[Sequence[int]], rng: np.random.Generator) -> Sequence[int]:
    return captions[int(rng.integers(len(captions)))]


class Source:
    """A dense captioner in a folder, loaded when first needed and once per process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def found(cls, path: Path) -> Source | None:
        """The one in a folder (or with a file in it), or the bundled one by its name; None where
        there is none."""
        if str(path) == ARCHITECTURE and not path.exists():
            return cls(BUNDLED)
        known = path.exists() and configuration(path).get("architecture") == ARCHITECTURE
        return cls(path if path.is_dir() else path.parent) if known else None

    @cached_property
    def model(self) -> DenseCap:
        with _loading:
            return self.__dict__.get("model") or load_module(self.folder)

    def digest(self) -> str:
        """A hash of its files."""
        files = [self.folder / name for name in (checkpoint.CONFIG, WEIGHTS)]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # another process loads it itself


def save_module(model: DenseCap, folder: Path, half: bool = False) -> None:
    """Write ``config.json`` and ``model.safetensors`` (float16 where ``half``) to a folder."""
    checkpoint.save_folder(model, model.config.to_json(), folder, half)


def load_module(path: Path) -> DenseCap:
    """Read a dense captioner from its folder (or either file in it), in float32 and eval mode.

    Raises:
        ValueError: a file is missing, truncated, or of another architecture.
    """
    return checkpoint.load_folder(
        path, lambda data, _: DenseCap(Config.from_json(data)), f"{ARCHITECTURE} dense captioner"
    )
