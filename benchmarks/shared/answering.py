"""What the benchmarks of VQA models share: the models' own answers, and how maps agree with
occlusion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

import vqa
from benchmarks.shared.report import Table
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.evaluation.tables import table
from vlcam.metrics.faithfulness import on_patches, rank_correlation
from vqa.answering.answerer import Answerer, likeliest
from vqa.answering.cnn_answerer import CnnAnswerer


def load_blind(name: str) -> CnnAnswerer:
    """A question-only model.

    Raises:
        ValueError: it is no model that ``vlcam train vqa`` wrote.
    """
    found = vqa.load(name)
    if not isinstance(found, CnnAnswerer):
        raise ValueError(f"{name}: not a model that vlcam train vqa wrote")
    return found


def answers(model: Answerer, encoded: Encoded, texts: Sequence[str]) -> list[tuple[str, Target]]:
    """The likeliest answer to each question, and its logit as a target."""
    found = [likeliest(model, encoded, text) for text in texts]
    return [(model.answers[target.terms[0].scores[0]], target) for target in found]


def blind_answers(model: CnnAnswerer, texts: Sequence[str]) -> list[str]:
    """What a question-only model answers."""
    module = model.module
    prompts = [list(model.understand(text).prompt) for text in texts]  # type: ignore[call-overload]
    nothing = torch.zeros(1, module.encoder.feature_size)
    with torch.no_grad():
        encoded = module.encode_question(prompts)
        logits = module(nothing, encoded, torch.zeros(len(prompts), dtype=torch.long))
    return [model.answers[column] for column in logits.argmax(1).tolist()]


def occlude(
    model: Answerer,
    encoded: Encoded,
    targets: list[Target],
    *,
    photo: Hashable,
    patches: Sequence[Patch],
    names: Sequence[str],
    results: Table,
) -> None:
    """Rank correlation of each method's maps of one photo with occlusion, added to ``results``."""
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    maps = {name: explain_targets(model, encoded, targets, methods.get(name)) for name in names}
    for patch in patches:
        found = explain_targets(model, encoded, targets, methods.get("occlusion"), patch=patch)
        for name, ours in maps.items():
            coarse = on_patches(ours.maps, ours.grid, patch, size)
            for one, theirs in zip(coarse, found.maps, strict=True):
                value = rank_correlation(one, theirs)
                column = str(patch.size) if value is not None else f"{patch.size}, constant"
                results.add(name, column, value or 0.0, photo=photo)


def occlusion_part(
    results: Table, *, photos: str, names: Sequence[str], patches: Sequence[Patch]
) -> list[str]:
    """The chapter of a result file that :func:`occlude` filled."""
    sizes, stride = [str(patch.size) for patch in patches], patches[0].stride
    rows = [
        (
            name,
            *(results.figure(name, size) for size in sizes),
            results.count(name, sizes[0]),
            sum(results.count(name, f"{size}, constant") for size in sizes),
        )
        for name in names
    ]
    return [
        "## Rank correlation with occlusion",
        f"Of the logits of the model's own answers to all questions of {photos}; patches of the"
        f" size in the heading (input pixels) at stride {stride}, on whose places maps are"
        " compared: each one, drawn at input size, averaged over the patch.",
        table(("method", *sizes, "maps", "constant"), rows),
    ]
