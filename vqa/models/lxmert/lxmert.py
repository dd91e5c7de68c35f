"""LXMERT question answering of transformers (Tan and Bansal, EMNLP 2019), from a local folder.

Its input is no pixels but a detector's regions of the photo (:mod:`.region_features`), a feature
vector and a box each. Regions are the cells of the feature maps, K channels of one row of R; a map
gives each box one value and is painted as boxes. By default the regions' own features are
explained: ``hirescam`` then is, box by box, the gradient times the feature summed over the
channels; ``grad-cam`` averages the gradients over the boxes first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import LxmertForQuestionAnswering

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question
from vlcam.adapters.attention_flow import PHOTO, Flow
from vlcam.adapters.once_per_image import once_per_image
from vlcam.attribution.backward_rules import outside_cnn
from vlcam.formats.folders.files import model_name
from vlcam.formats.pretrained import about, load_pretrained
from vlcam.geometry.grid import Boxes, Cells, Grid, Placement
from vlcam.utils.files.text_files import read_json
from vqa.answering.answerer import Answerer
from vqa.answering.tokenized import understand
from vqa.models.lxmert import region_features
from vqa.models.lxmert.region_features import Regions

FEATURES = "visual_feats"
"""The layer that is the regions' features themselves, as transformers calls them."""

ANSWERS = "trainval_label2ans.json"
"""The answers in the order of the logits, as LXMERT's authors publish them beside the model."""


_REGIONS = (
    "regions: features of Faster R-CNN trained on Visual Genome, as they are; boxes in shares of"
    " the photo's width and height"
)
"""No file of a model says which detector's regions it was trained with."""


class LxmertAnswerer(Answerer):
    """An LXMERT VQA model.

    Args:
        module: the model.
        tokenizer: its WordPiece tokenizer.
        answers: in the order of the logits.
        name: as results carry it.
        assumed: what no file says of the answers.
        layer: ``visual_feats``, ``lxmert.encoder.visn_fc``, ``lxmert.encoder.r_layers.N`` or, with
            feature maps that depend on the question, ``lxmert.encoder.x_layers.N`` but the last,
            behind which the answer is read off the question alone. None: ``visual_feats``.

    Raises:
        ValueError: there is no such layer; answers or boxes are not what the model has.
    """

    module: Any  # an LxmertForQuestionAnswering; transformers' own annotations do not follow it
    sees_pixels = False

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        answers: Sequence[str],
        *,
        name: str,
        layer: str | None = None,
        assumed: Sequence[str] = (),
    ) -> None:
        config = module.config
        self.name, self.module = name, module
        self.cut_at(layer)
        if len(answers) != config.num_qa_labels:
            raise ValueError(f"{name}: {len(answers)} answers for {config.num_qa_labels} logits")
        if config.visual_pos_dim != 4:
            raise ValueError(f"{name}: boxes of {config.visual_pos_dim} numbers; 4 are known here")
        self._assumed = (*assumed, _REGIONS)
        self.answers = tuple(answers)
        self._tokenizer = tokenizer

    def cut_at(self, layer: str | None) -> None:
        encoder = self.module.lxmert.encoder
        alone = [FEATURES, "lxmert.encoder.visn_fc"]
        alone += [f"lxmert.encoder.r_layers.{i}" for i in range(len(encoder.r_layers))]
        crossed = [f"lxmert.encoder.x_layers.{i}" for i in range(len(encoder.x_layers) - 1)]
        self.layer = layer or FEATURES
        if self.layer not in (*alone, *crossed):
            known = ", ".join([*alone[:2], f"... {[*alone, *crossed][-1]}"])
            raise ValueError(f"{self.name}: no layer {layer!r} with a gradient; known: {known}")
        self.encode_reads_prompt = self.layer in crossed
        self._crossed = crossed.index(self.layer) + 1 if self.encode_reads_prompt else 0
        # How many of visn_fc and the r_layers come before the layer.
        self._alone = len(alone) - 1 if self._crossed else alone.index(self.layer)

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        raise ValueError(
            f"{self.name} looks at regions found beforehand: give the photo as a file, with"
            f" PHOTO{region_features.SUFFIX} beside it"
        )

    def prepare_file(self, photo: Image.Image, path: str) -> tuple[Tensor, Placement]:
        regions = region_features.read(path, (photo.height, photo.width))
        try:
            return self.prepare_regions(photo, regions)
        except ValueError as error:
            raise ValueError(f"{region_features.beside(path)}: {error}") from error

    def prepare_regions(self, photo: Image.Image, regions: Regions) -> tuple[Tensor, Placement]:
        """What takes the place of the pixels: (1, R, K + 4), for each region its features and its
        box in shares of the photo's width and height.

        Raises:
            ValueError: the regions have another number of features than the model reads.
        """
        most = self.module.config.visual_feat_dim
        if regions.features.shape[1] != most:
            raise ValueError(
                f"regions of {regions.features.shape[1]} features; {self.name} reads {most}"
            )
        whole = torch.tensor([photo.width, photo.height] * 2)
        rows = torch.cat([regions.features, regions.boxes / whole], 1)
        return rows[None], Placement.identity((photo.height, photo.width))

    def understand(self, question: str) -> Question:
        """As :func:`vqa.answering.tokenized.understand`."""
        most = self.module.config.max_position_embeddings
        return understand(self._tokenizer, question, most=most, name=self.name)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        rows = pixels[:, 0]
        features, boxes = rows[..., :-4], rows[..., -4:]
        if not self._alone:
            return FeatureMaps(_in_a_row(features), {"boxes": boxes})
        regions = self._encode_regions(features, boxes, self._alone)
        if not self._crossed:
            return FeatureMaps(_in_a_row(regions))
        assert prompts is not None
        words, mask = self._encode_questions(prompts, pixels)
        for layer in self.module.lxmert.encoder.x_layers[: self._crossed]:
            words, regions = layer(words, mask, regions, None)
        return FeatureMaps(_in_a_row(regions), {"words": words, "mask": mask})

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        lxmert = self.module.lxmert
        if self._crossed:
            words, mask = features.rest["words"], features.rest["mask"]
            regions = _regions(features)
        else:
            regions = once_per_image(self._encode_rest, features)
            words, mask = self._encode_questions(prompts, features.maps)
        for layer in lxmert.encoder.x_layers[self._crossed :]:
            words, regions = layer(words, mask, regions, None)
        logits: Tensor = self.module.answer_head(lxmert.pooler(words))
        return logits

    def _encode_regions(self, features: Tensor, boxes: Tensor, steps: int) -> Tensor:
        """Regions (B, R, K) behind the first steps of the vision half."""
        encoder = self.module.lxmert.encoder
        regions: Tensor = encoder.visn_fc(features, boxes)
        for layer in encoder.r_layers[: steps - 1]:
            regions = layer(regions)[0]
        return regions

    def _encode_rest(self, features: FeatureMaps) -> Tensor:
        """Regions (B, R, K) behind all steps of the vision half, from the layer on."""
        encoder = self.module.lxmert.encoder
        regions = _regions(features)
        if not self._alone:
            return self._encode_regions(
                regions, features.rest["boxes"], steps=1 + len(encoder.r_layers)
            )
        for layer in encoder.r_layers[self._alone - 1 :]:
            regions = layer(regions)[0]
        return regions

    def _encode_questions(self, prompts: Sequence[Prompt], like: Tensor) -> tuple[Tensor, Tensor]:
        """Questions behind the language half, (N, L, K), and what is added to attention scores,
        (N, 1, 1, L), so that no token attends to a question's padding. Each question is encoded
        once."""
        lxmert, once = self.module.lxmert, list(dict.fromkeys(prompts))
        longest = max(len(prompt) for prompt in once)  # type: ignore[arg-type]
        ids = torch.zeros(len(once), longest, dtype=torch.long, device=like.device)
        mask = like.new_full(ids.shape, torch.finfo(like.dtype).min)
        for row, prompt in enumerate(once):
            ids[row, : len(prompt)] = torch.tensor(prompt)  # type: ignore[arg-type]
            mask[row, : len(prompt)] = 0  # type: ignore[arg-type]
        added = mask[:, None, None]
        with outside_cnn():
            words = lxmert.embeddings(ids, torch.zeros_like(ids))
            for layer in lxmert.encoder.layer:
                words = layer(words, added)[0]
        rows = torch.tensor([once.index(prompt) for prompt in prompts], device=like.device)
        return words.index_select(0, rows), added.index_select(0, rows)

    def attention_flow(self, prompt: Prompt) -> Flow:
        """Regions and question each attend to themselves; then, layer by layer, to each other at
        once and to themselves again."""
        encoder, question = self.module.lxmert.encoder, "question"
        regions, words = (((stream, stream),) for stream in (PHOTO, question))
        both = (((question, PHOTO), (PHOTO, question)), words, regions)
        steps = (
            *(regions,) * len(encoder.r_layers),
            *(words,) * len(encoder.layer),
            *both * len(encoder.x_layers),
        )
        return Flow(steps, question, row=lambda _: 0, first=0, summary=None)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        raise ValueError(f"{self.name}: each photo's own regions are the cells")

    def cells(self, pixels: Tensor, placement: Placement) -> Cells:
        height, width = placement.input_size
        whole = torch.tensor([width, height] * 2, dtype=torch.float64)
        return Boxes.of_corners(pixels[0, 0, :, -4:].cpu().double() * whole)

    def save(self, folder: Path) -> None:
        """As transformers saves it, with the answers beside it."""
        self.module.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        (folder / ANSWERS).write_text(json.dumps(list(self.answers)), "utf-8")

    def describe(self) -> dict[str, Any]:
        return {
            "family": "lxmert",
            **about(self.module),
            "assumed as published": list(self._assumed),
        }


def _in_a_row(regions: Tensor) -> Tensor:
    """Regions (B, R, K) as feature maps (B, K, 1, R)."""
    return regions.transpose(1, 2)[:, :, None]


def _regions(features: FeatureMaps) -> Tensor:
    """Inverse of :func:`_in_a_row`."""
    return features.maps[:, :, 0].transpose(1, 2)


def load(path: Path, layer: str | None = None) -> LxmertAnswerer:
    """A VQA model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Its answers are those of ``trainval_label2ans.json`` in the folder, else of the configuration's
    ``id2label``; where that names none, transformers' own names for them, ``LABEL_0`` and so on.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer or the answers do not fit; one line says which.
    """
    folder = path if path.is_dir() else path.parent
    kind: Any = LxmertForQuestionAnswering
    module, tokenizer = load_pretrained(kind, folder)
    answers, assumed = _answers(folder, module.config)
    name = model_name(folder)
    return LxmertAnswerer(module, tokenizer, answers, name=name, layer=layer, assumed=assumed)


def _answers(folder: Path, config: Any) -> tuple[list[str], tuple[str, ...]]:
    """The answers in the order of the logits; see :func:`load`. And what was assumed of them."""
    file, count = folder / ANSWERS, config.num_qa_labels
    if not file.is_file():
        labels = config.id2label
        if len(labels) != count:  # transformers' default: two, whatever the model
            return [f"LABEL_{i}" for i in range(count)], (f"answers: LABEL_0 ... {count - 1}",)
        return [labels[i] for i in range(count)], ()
    answers = read_json(file)
    if not (isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)):
        raise ValueError(f"{file}: expected a list of answers")
    if len(answers) != count:
        raise ValueError(f"{file}: {len(answers)} answers; the model has {count}")
    return answers, ()
