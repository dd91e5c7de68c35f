"""What is asked of a photo where layers and methods are compared: the words or answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, Prompt, Reading
from vlcam.adapters.asking import Ask, WritesAnswers
from vlcam.adapters.scores import decoded
from vlcam.attribution import targets
from vlcam.attribution.encoding import Encoded, encode
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import Target
from vlcam.explaining import Request, WritesCaptions, check_writes, read
from vlcam.utils.untouched import untouched


def settled(model: Adapter, request: Request) -> Request:
    """What is asked of every photo, with the question that the model is always asked where there is
    none.

    Raises:
        ValueError: the model cannot be asked that, whatever the photo.
    """
    if request.question is None and request.caption is None:
        request = replace(request, question=getattr(model, "question", None))
    if request.question is None:
        check_writes(model, request.caption)
        if request.answers is not None or request.contrast is not None:
            raise ValueError("answers and a contrast go with a question")
    elif request.caption is not None:
        raise ValueError("a caption and a question: give one of them")
    request.check(model)
    return request


def targets_of(model: Adapter, photo: Encoded, request: Request) -> list[Target]:
    """Of a question the given answers, or the likeliest ``top``; of a text that the model writes or
    is given, those ``top`` words for which the photo matters most: whose score falls most where all
    of it is one colour."""
    if request.question is None:
        words = targets.units(_caption(model, photo, request))
        return _most_seen(model, photo, words, request.top)
    ask = request.of_question(model, request.question)
    if isinstance(ask, Ask):
        return _listed(model, photo, ask)
    if ask.readings is None:
        with untouched(model.module), torch.no_grad():
            features = photo.seen(model, ask.question.prompt)
            own = cast(WritesAnswers, model).write_answer(features, ask.question)
        return _most_seen(model, photo, targets.units(own), request.top)
    found = [targets.whole(reading) for reading in ask.readings]
    return [found[0] - found[1]] if ask.contrast else found


def _caption(model: Adapter, photo: Encoded, request: Request) -> Reading:
    if request.caption is not None:
        return read(model, request.caption)
    with untouched(model.module), torch.no_grad():
        return cast(WritesCaptions, model).write(photo.seen(model))


def _most_seen(model: Adapter, photo: Encoded, words: list[Target], top: int) -> list[Target]:
    if len(words) <= top:
        return words
    whole, blank = ends(model, photo.pixels, words).unbind(1)
    chosen = (whole - blank).topk(top).indices.sort().values.tolist()
    return [words[i] for i in chosen]


def _listed(model: Adapter, photo: Encoded, ask: Ask) -> list[Target]:
    """Answers that a model chooses among."""
    prompt: Prompt = ask.question.prompt
    features = photo.seen(model, prompt)
    own = features.rows(torch.zeros(1, dtype=torch.long, device=features.device))
    with untouched(model.module), torch.no_grad():
        logits = decoded(model, own, [prompt])[0].float()
    found = [targets.unit(ask.everything, u, ask.scale.explained) for u in ask.units(logits)]
    return [found[0] - found[1]] if ask.contrast else found


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
