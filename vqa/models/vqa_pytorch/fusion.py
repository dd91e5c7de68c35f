"""How Cadene's vqa.pytorch fuses a question and an image: MLB and MUTAN, with attention or without.

MLB (Kim et al., ICLR 2017) multiplies the embedded question and image, number by number. MUTAN
(Ben-younes et al., ICCV 2017) sums R such products of further linear maps of both: a bilinear map
whose core tensor is of rank R. With attention, a fusion of the same kind first weights the image's
cells, once per glimpse; without, every cell counts the same.

Below: N rows, F image channels of u x v cells, Q the question's size, G glimpses. Weights keep the
names they have in the project's files, and sizes are read off their shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from vlcam.attribution.backward_rules import outside_cnn
from vqa.models.vqa_pytorch.skip_thoughts import Shapes, encoder_of

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(functional, name)
    for name in (
        *("tanh", "sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"),
        *("softplus", "softsign", "hardtanh", "tanhshrink", "logsigmoid"),
    )
}
"""Functions that a model's options may name."""

_ONCE = tuple(f"{part}.{place}" for part in ("attention", "fusion") for place in ("v", "q"))
_OF_MUTAN = tuple(f"{part}.{place}" for part in ("attention", "fusion") for place in ("hv", "hq"))
PLACES = (*_ONCE, *_OF_MUTAN, "attention.mm", "fusion.mm", "classif")
"""Where there may be an activation: behind the first linear map of image (``v``) and question
(``q``), behind each of MUTAN's R maps of both (``hv``, ``hq``), behind the fusion (``mm``), and in
front of the classifier. Each is an option of its own; a place that is not named has none.
(As in the original, MUTAN's attention applies that of ``mm`` twice, MLB's last fusion not at all.)
"""

_TANH = {
    "MLBNoAtt": ("fusion.v", "fusion.q", "classif"),
    "MLBAtt": (*_ONCE, "attention.mm", "classif"),
    "MutanNoAtt": ("fusion.v", "fusion.q"),
    "MutanAtt": _ONCE,
}
PUBLISHED = {name: dict.fromkeys(places, "tanh") for name, places in _TANH.items()}
"""The activations of the published models, by architecture."""


class Activated(nn.Module):
    """A part of a model with its activations, by :data:`PLACES`."""

    def __init__(self, activations: Mapping[str, str]) -> None:
        super().__init__()
        self.activations = dict(activations)

    def activated(self, place: str, x: Tensor) -> Tensor:
        """``x`` behind the activation at that place, if there is one."""
        name = self.activations.get(place)
        return x if name is None else ACTIVATIONS[name](x)


class Mlb(Activated):
    """The product of image and question."""

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        return image * question


class Mutan(Activated):
    """A sum of products of linear maps: image (..., A) and question (..., B) to (..., M).

    Args:
        sizes: A, B and M.
        rank: R, how many products are summed.
        part: whose activations these are: ``attention`` or ``fusion``.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        rank: int,
        activations: Mapping[str, str],
        *,
        part: str,
    ) -> None:
        super().__init__(activations)
        image, question, out = sizes
        self.part = part
        self.list_linear_hv = nn.ModuleList(nn.Linear(image, out) for _ in range(rank))
        self.list_linear_hq = nn.ModuleList(nn.Linear(question, out) for _ in range(rank))

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        total: Tensor | None = None
        for of_image, of_question in zip(self.list_linear_hv, self.list_linear_hq, strict=True):
            hv = self.activated(f"{self.part}.hv", of_image(image))
            hq = self.activated(f"{self.part}.hq", of_question(question))
            total = hv * hq if total is None else total + hv * hq
        assert total is not None
        return self.activated(f"{self.part}.mm", total)


class Fused(Activated):
    """What the four models share: the question's encoder and the classifier."""

    linear_classif: nn.Linear

    def __init__(self, shapes: Shapes, activations: Mapping[str, str]) -> None:
        super().__init__(activations)
        own = {k.removeprefix("seq2vec."): v for k, v in shapes.items() if k.startswith("seq2vec.")}
        self.seq2vec = encoder_of(own)

    def encode(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (N, Q) of N questions, each a row of tokens, padded with 0 or not."""
        return torch.stack([self.seq2vec(question) for question in questions])

    def forward(self, maps: Tensor, question: Tensor) -> Tensor:
        """Logits (N, answers) from feature maps (N, F, u, v) and questions' vectors (N, Q)."""
        with outside_cnn():  # an activation may be a ReLU
            fused = self.activated("classif", self.fuse(maps, question))
            logits: Tensor = self.linear_classif(fused)
        return logits

    def fuse(self, maps: Tensor, question: Tensor) -> Tensor:
        """What the classifier reads, of the same arguments."""
        raise NotImplementedError


class WithoutAttention(Fused):
    """``MLBNoAtt`` and ``MutanNoAtt``: the image is the mean of its cells."""

    def __init__(self, shapes: Shapes, activations: Mapping[str, str], mutan: bool) -> None:
        super().__init__(shapes, activations)
        answers, size = _matrix(shapes, "linear_classif")
        image, channels = _matrix(shapes, "fusion.linear_v")
        question = _matrix(shapes, "fusion.linear_q")[0]
        if mutan:
            sizes, rank = (image, question, size), _rank(shapes, "fusion")
            self.fusion: Activated = Mutan(sizes, rank, activations, part="fusion")
        else:
            self.fusion, image, question = Mlb(activations), size, size
        self.fusion.add_module("linear_v", nn.Linear(channels, image))
        self.fusion.add_module("linear_q", nn.Linear(self.seq2vec.size, question))
        self.linear_classif = nn.Linear(size, answers)
        self.channels = channels

    def fuse(self, maps: Tensor, question: Tensor) -> Tensor:
        image = self.fusion.get_submodule("linear_v")(maps.mean((2, 3)))
        question = self.fusion.get_submodule("linear_q")(question)
        image, question = self.activated("fusion.v", image), self.activated("fusion.q", question)
        fused: Tensor = self.fusion(image, question)
        return fused


class WithAttention(Fused):
    """``MLBAtt`` and ``MutanAtt``: the image is, for each glimpse, a mean of its cells weighted by
    attention."""

    def __init__(self, shapes: Shapes, activations: Mapping[str, str], mutan: bool) -> None:
        super().__init__(shapes, activations)
        answers, size = _matrix(shapes, "linear_classif")
        image_att, channels = _matrix(shapes, "conv_v_att")
        question_att = _matrix(shapes, "linear_q_att")[0]
        glimpses, mixed = _matrix(shapes, "conv_att")
        image = _matrix(shapes, "list_linear_v_fusion.0")[0]
        question = _matrix(shapes, "linear_q_fusion")[0]
        if mutan:
            sizes, rank = (image_att, question_att, mixed), _rank(shapes, "fusion_att")
            self.fusion_att: Activated = Mutan(sizes, rank, activations, part="attention")
            sizes, rank = (glimpses * image, question, size), _rank(shapes, "fusion_classif")
            self.fusion_classif: Activated = Mutan(sizes, rank, activations, part="fusion")
        else:
            image_att = question_att = mixed
            size = question = glimpses * image
            self.fusion_att, self.fusion_classif = Mlb(activations), Mlb(activations)
        self.conv_v_att = nn.Conv2d(channels, image_att, 1)
        self.linear_q_att = nn.Linear(self.seq2vec.size, question_att)
        self.conv_att = nn.Conv2d(mixed, glimpses, 1)
        self.list_linear_v_fusion = nn.ModuleList(
            nn.Linear(channels, image) for _ in range(glimpses)
        )
        self.linear_q_fusion = nn.Linear(self.seq2vec.size, question)
        self.linear_classif = nn.Linear(size, answers)
        self.channels = channels

    def attend(self, maps: Tensor, question: Tensor) -> Tensor:
        """Each glimpse's attention (N, G, u, v) to the cells of the maps (N, F, u, v), shares that
        sum to 1 per glimpse."""
        with outside_cnn():
            image = self.activated("attention.v", self.conv_v_att(maps))
            question = self.activated("attention.q", self.linear_q_att(question))
            mixed = self.fusion_att(image.flatten(2).transpose(1, 2), question[:, None])
            mixed = self.activated("attention.mm", mixed)
            scores = self.conv_att(mixed.transpose(1, 2).unflatten(2, maps.shape[2:]))
            shares: Tensor = scores.flatten(2).softmax(2).view_as(scores)
        return shares

    def fuse(self, maps: Tensor, question: Tensor) -> Tensor:
        shares = self.attend(maps, question).flatten(2)
        means = torch.bmm(shares, maps.flatten(2).transpose(1, 2))
        parts = [
            self.activated("fusion.v", linear(means[:, glimpse]))
            for glimpse, linear in enumerate(self.list_linear_v_fusion)
        ]
        question = self.activated("fusion.q", self.linear_q_fusion(question))
        fused: Tensor = self.fusion_classif(torch.cat(parts, 1), question)
        return fused


def architecture_of(names: Collection[str]) -> str:
    """Which of the four models has weights of these names."""
    if any(name.startswith(("conv_v_att.", "conv_att.")) for name in names):
        mutan = any(name.startswith(("fusion_att.", "fusion_classif.")) for name in names)
        return "MutanAtt" if mutan else "MLBAtt"
    mutan = any(name.startswith("fusion.list_linear_") for name in names)
    return "MutanNoAtt" if mutan else "MLBNoAtt"


def build(shapes: Shapes, activations: Mapping[str, str]) -> WithAttention | WithoutAttention:
    """The model whose weights have these names and shapes, with weights of its own.

    Raises:
        ValueError: a weight that gives a size is missing.
    """
    architecture = architecture_of(shapes)
    mutan = architecture.startswith("Mutan")
    if architecture.endswith("NoAtt"):
        return WithoutAttention(shapes, activations, mutan)
    return WithAttention(shapes, activations, mutan)


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, or of a convolution of single cells."""
    shape = shapes.get(f"{name}.weight", ())
    if len(shape) not in (2, 4) or set(shape[2:]) - {1}:
        raise ValueError(f"no matrix {name}.weight")
    return shape[0], shape[1]


def _rank(shapes: Shapes, name: str) -> int:
    """R of a MUTAN fusion: how many maps of the image it has."""
    prefix = f"{name}.list_linear_hv."
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})
