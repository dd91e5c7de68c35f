"""Questions about coloured squares in VQA's layout, and a training on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES: dict[str, Any] = {
    "size": 32, "embedding": 8, "hidden": 8, "common": 8, "cnn_batch": 4, "batch": 8,
    "cnn_epochs": 2, "epochs": 2, "cnn_lr": 3e-3,
    "precision": "float32",  # not the faster one, which might be another each time
}  # fmt: skip


def write_data(folder: Path, photos: int = 10) -> Path:
    """Red and green squares, each with a question about its colour and one to say yes to."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    random = np.random.default_rng(0)
    questions, annotations = [], []
    for i in range(1, photos + 1):
        colour = ("red", "green")[i % 2]
        pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., i % 2] += 150
        Image.fromarray(pixels).save(folder / "images" / f"{i:012}.jpg")
        for k, (text, answer) in enumerate((("What color is it?", colour), ("Is it red?", "yes"))):
            number = 10 * i + k
            questions.append({"question_id": number, "image_id": i, "question": text})
            said = [{"answer": answer, "answer_id": n} for n in range(1, 11)]
            kind = "yes/no" if k else "other"
            annotations.append({"question_id": number, "answer_type": kind, "answers": said})
    write(folder, questions, annotations)
    return folder


def write(
    folder: Path, questions: Any, annotations: Any, prefix: tuple[str, str] = ("", "")
) -> None:
    for name, entries, start in (
        ("questions", questions, prefix[0]),
        ("annotations", annotations, prefix[1]),
    ):
        path = folder / "annotations" / f"{start}{name}.json"
        path.write_text(json.dumps({name: entries}))
