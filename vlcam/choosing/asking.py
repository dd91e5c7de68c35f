"""What is asked of a photo where layers and methods are compared: the words or answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter
from vlcam.adapters.asking import Ask
from vlcam.attribution import targets
from vlcam.attribution.encoding import Encoded, encode
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import Target
from vlcam.explaining import (
    Request,
    answer_logits,
    answer_targets,
    caption_of,
    reading_targets,
    written_answer,
)


def targets_of(model: Adapter, photo: Encoded, request: Request) -> list[Target]:
    """Of a question the given answers, or the likeliest ``top``; of a text that the model writes or
    is given, those ``top`` words for which the photo matters most: whose score falls most where all
    of it is one colour."""
    if request.question is None:
        words = targets.units(caption_of(model, photo, request))
        return _most_seen(model, photo, words, request.top)
    ask = request.of_question(model, request.question)
    if isinstance(ask, Ask):
        logits = answer_logits(model, photo.seen(model, ask.everything.prompt), ask)
        return answer_targets(ask, ask.units(logits))
    if ask.readings is None:
        own = written_answer(model, photo, ask.question, request.beam)
        return _most_seen(model, photo, targets.units(own), request.top)
    return reading_targets(ask.readings, ask.contrast)


def _most_seen(model: Adapter, photo: Encoded, words: list[Target], top: int) -> list[Target]:
    if len(words) <= top:
        return words
    whole, blank = ends(model, photo.pixels, words).unbind(1)
    chosen = (whole - blank).topk(top).indices.sort().values.tolist()
    return [words[i] for i in chosen]


def ends(model: Adapter, pixels: Tensor, asked: Sequence[Target], fill: float = 0.0) -> Tensor:
    """The targets' scores (T, 2), float64, of an input (1, 3, H, W) and of one of its size that is
    all of one colour."""
    both = torch.cat([pixels, torch.full_like(pixels, fill)])
    if not model.encode_reads_prompt:
        features = encode(model, both)
        rows = [0] * len(asked) + [1] * len(asked)
        found = score(model, features, [*asked, *asked], images=rows)
        return found.double().cpu().unflatten(0, (2, -1)).T
    each = []
    for target in asked:
        features = encode(model, both, [target.terms[0].prompt] * 2)
        each.append(score(model, features, [target] * 2, images=[0, 1]).double().cpu())
    return torch.stack(each)
