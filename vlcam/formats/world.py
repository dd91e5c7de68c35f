"""What the photos that a model learned from look like to its CNN, so that others are told.

A model's folder may hold ``world.safetensors`` beside its weights: a Gaussian of the mean feature
maps of its training photos. The square root of each channel's mean over the cells is taken, as it
grows much less with how large a thing is; of these vectors the file has their mean, their k main
directions with their variances, and the variance of all that is left. A photo's score is its
distance from the mean in these units (a Mahalanobis distance whose covariance has k directions of
its own, as in probabilistic PCA; Lee et al., NeurIPS 2018, take such distances of feature maps to
tell photos unlike the training photos): 1 for the average training photo. What 96 in
100 held-out photos stay below is the threshold; others are out of distribution.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from vlcam.formats.state_dict import unreadable
from vlcam.formats.tensors import save_tensors
from vlcam.utils.messages.expected import described, described_shape, expect

WORLD = "world.safetensors"
"""The file, in the model's folder."""

LONGEST = 200
"""Characters of each text."""

_FORMAT = 1
_LARGEST = 2**20  # bytes
_FARTHEST = 1e9  # of maps that are not finite
_ABOUT = "about"
_TEXTS, _NUMBERS = ("world", "instead"), ("threshold", "rest")
_TENSORS = ("mean", "directions", "variances")


@dataclass(frozen=True)
class Likeness:
    """How like a model's training photos a photo is.

    Attributes:
        world: what its training photos are: "rendered scenes".
        instead: what to do with others, as a sentence without its full stop; may be empty.
        score: how far from them it is: 1 as far as they are on average, more is farther.
        threshold: that 95 % of its own test photos stay below.
    """

    world: str
    instead: str
    score: float
    threshold: float

    @property
    def unlike(self) -> bool:
        return self.score > self.threshold

    @property
    def line(self) -> str | None:
        """What a reader of the explanation should know; None where nothing is unlike."""
        if not self.unlike:
            return None
        advice = f" {self.instead}." if self.instead else ""
        return (
            f"This photo is unlike those the model learned from ({self.world}): what it says, and"
            f" where it looked, may mean little.{advice}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"unlike": self.unlike, "line": self.line}

    @classmethod
    def from_json(cls, data: Any) -> Likeness:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        texts = [data[name] for name in _TEXTS]
        numbers = [data[name] for name in ("score", "threshold")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("likeness: world and instead are not texts")
        if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise ValueError("likeness: score and threshold are not numbers")
        return cls(*texts, *numbers)


@dataclass(frozen=True, eq=False)
class World:
    """What a model's training photos look like to its CNN, whose last layer has K channels.

    Attributes:
        world, instead, threshold: see :class:`Likeness`.
        mean: (K,), of the training photos' vectors.
        directions: (k, K), their main directions, orthonormal.
        variances: (k,), along these.
        rest: variance of all that is left, in all.
    """

    world: str
    instead: str
    threshold: float
    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: float

    def __post_init__(self) -> None:
        for name in _TEXTS:
            check_text(f"its {name}", getattr(self, name))
        check_name("its world", self.world)
        k, channels = len(self.variances), len(self.mean)
        shapes = {"mean": (channels,), "directions": (k, channels), "variances": (k,)}
        for name, shape in shapes.items():
            tensor = getattr(self, name)
            if tensor.shape != shape or not channels or not 0 < k <= channels:
                raise ValueError(f"its {name} has shape {described_shape(tuple(tensor.shape))}")
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise ValueError(f"its {name} holds what is no finite number")
        numbers = (self.threshold, self.rest, *self.variances.tolist())
        if not all(math.isfinite(n) and n > 0 for n in numbers):
            raise ValueError("its threshold and variances are not all above 0")

    def likeness(self, maps: Tensor) -> Likeness:
        """Of one photo, from the last layer's maps (1, K, u, v)."""
        score = self.scores(vectors(maps)).nan_to_num(_FARTHEST, _FARTHEST).item()
        return Likeness(self.world, self.instead, score, self.threshold)

    def scores(self, found: Tensor) -> Tensor:
        """(N,), of the vectors (N, K) of photos."""
        away = found.float().cpu() - self.mean
        main = (away @ self.directions.T.float()).square()
        left = (away.square().sum(1) - main.sum(1)).clamp(min=0)
        return (((main / self.variances).mean(1) + left / self.rest) / 2).sqrt()

    def save(self, folder: Path) -> None:
        """Write :data:`WORLD` into a folder (directions in float16)."""
        about = {name: getattr(self, name) for name in (*_TEXTS, *_NUMBERS)}
        tensors = {
            "mean": self.mean.float(),
            "directions": self.directions.half(),
            "variances": self.variances.float(),
        }
        whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        # One entry: those of several come in another order each time.
        save_tensors(whole, folder / WORLD, {_ABOUT: json.dumps({"format": _FORMAT} | about)})


def check_text(what: str, text: str) -> None:
    """Raises ValueError, beginning with ``what``, where a text is no single, short line that any
    terminal shows as it is."""
    if len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"{what} is no line of at most {LONGEST} printable characters")


def check_name(what: str, name: str) -> None:
    """Raises ValueError where what photos are called is no such line, or an empty one."""
    check_text(what, name)
    if not name.strip():
        raise ValueError(f"{what} is empty: say in a few words what the photos are")


def vectors(maps: Tensor) -> Tensor:
    """(N, K) of the last layer's maps (N, K, u, v): square roots of the channels' means, with their
    signs."""
    mean = maps.float().mean((2, 3))
    return mean.sign() * mean.abs().sqrt()


def read_world(folder: Path) -> World | None:
    """What :meth:`World.save` wrote there; None where there is no such file.

    Raises:
        ValueError: it is damaged, or of another kind: one line that names it.
    """
    path = folder / WORLD
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST:,} bytes")
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            found = expect(about, dict, "what it says", "a dictionary").get("format")
            if found != _FORMAT:
                raise ValueError(f"its format is {described(found)}, expected {_FORMAT!r}")
            values: dict[str, Any] = {
                name: expect(about[name], str, f"its {name}", "a text") for name in _TEXTS
            }
            values |= {
                name: expect(about[name], float, f"its {name}", "a number") for name in _NUMBERS
            }
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        return World(**values, **tensors)
    except Exception as error:  # whatever a damaged file makes safetensors stumble over
        raise ValueError(
            f"{path}: not a readable file of a model's world ({_why(error)})"
        ) from error


def _why(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else unreadable(error)
