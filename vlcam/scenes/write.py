"""Scenes on disk, in the official formats of COCO, Visual Genome, VQA v2 and VQA-HAT.

::

    DIR/images/000000000001.jpg ...           the photos; image ids count from 1
    DIR/annotations/instances.json            COCO instances: compressed RLE of the visible pixels
    DIR/annotations/captions.json             COCO captions, 5 per image
    DIR/annotations/region_descriptions.json  Visual Genome, at least 5 per image
    DIR/annotations/questions.json            VQA v2, about 9 per image
    DIR/annotations/annotations.json          VQA v2: 10 answers to each question (simulated)
    DIR/attention/QUESTION_ID_K.png           VQA-HAT's names, K = 1, 2, 3 (simulated): 3 viewers'
                                              maps, photo size, for one question per image

Each ``file_name`` is the bare name within ``DIR/images``, as in COCO, where it is the name within
``val2017``: a reader of COCO, given these folders, reads scenes as they are. Every ``info`` holds
the seed (Visual Genome's file has no place for one); the same seed gives the same bytes, whatever
the number of workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from vlcam.scenes.attention import VIEWERS, attention
from vlcam.scenes.questions import SceneQuestion, questions
from vlcam.scenes.scene import Item, Scene, scene
from vlcam.scenes.text import captions, generator, pick, regions
from vlcam.scenes.things import THINGS
from vlcam.utils.files.atomic import folder_written, recover
from vlcam.utils.terminal import progress

Record = dict[str, Any]

ATTENTION_README = """\
# Simulated attention maps

These maps have the names and the form of VQA-HAT's (`{question_id}_{k}.png`, 8-bit grey, the
photo's size), but no human made them: `vlcam.scenes.attention` drew strokes about the things that
show the answer. Use them to check a protocol, never as evidence about people.
"""


def write(directory: Path, images: int, seed: int, workers: int | None = None) -> None:
    """Write the first ``images`` scenes of a seed to a new directory (see above for its layout).

    An interrupted run leaves nothing behind.

    Args:
        workers: number of processes; None: one per core.

    Raises:
        ValueError: the directory already holds something, or a number is out of range.
    """
    if images < 1 or seed < 0 or (workers is not None and workers < 1):
        raise ValueError(
            f"images and workers must be at least 1 and seed at least 0, "
            f"got images={images}, seed={seed}, workers={workers}"
        )
    check_new(Path(directory))
    with folder_written(directory) as draft:
        (draft / "images").mkdir()
        (draft / "annotations").mkdir()
        (draft / "attention").mkdir()
        (draft / "attention" / "README.md").write_text(ATTENTION_README, encoding="utf-8")
        made = rendered(draft, images, seed, workers or os.cpu_count() or 1)
        records = list(progress.each(made, "scenes", unit="scene", total=images))
        for name, content in documents(records, seed).items():
            text = json.dumps(content, separators=(",", ":"))
            (draft / "annotations" / name).write_text(text, encoding="utf-8")


def check_new(directory: Path) -> None:
    """Raises ValueError where there is something already."""
    recover(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory} already exists and is not empty: name a new directory")


def rendered(directory: Path, images: int, seed: int, workers: int) -> Iterator[Record]:
    """Write all photos and attention maps; yields each scene's record, in order."""
    work = partial(render, directory, seed)
    if workers == 1:
        yield from map(work, range(images))
        return
    with _pool(workers) as pool:
        yield from pool.imap(work, range(images), chunksize=8)


def _pool(workers: int) -> Pool:
    """Processes that Ctrl-C does not reach: this one ends them."""
    resource_tracker.ensure_running()  # which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        return multiprocessing.get_context("spawn").Pool(workers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def render(directory: Path, seed: int, index: int) -> Record:
    """Write one scene's photo and attention maps; returns its entries in the annotation files."""
    one = scene(seed, index)
    image_id = index + 1
    image = image_entry(one, image_id)
    one.photo.save(directory / "images" / image["file_name"], quality=93, subsampling=0)
    asked = questions(one)
    write_attention(directory / "attention", one, asked, image_id)
    return {
        "image": image,
        "instances": [
            instance_entry(item, image_id, number) for number, item in enumerate(one.items, start=1)
        ],
        "captions": [
            {"id": image_id * 100 + number, "image_id": image_id, "caption": caption}
            for number, caption in enumerate(captions(one), start=1)
        ],
        "regions": region_entries(one, image_id),
        "questions": [
            {"question_id": question_id, "image_id": image_id, "question": question.text}
            for question_id, question in identified(asked, image_id)
        ],
        "answers": answer_entries(one, asked, image_id),
    }


def image_entry(one: Scene, image_id: int) -> Record:
    height, width = one.pixels.shape[:2]
    return {
        "id": image_id,
        "file_name": f"{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "license": 1,
    }


def instance_entry(item: Item, image_id: int, number: int) -> Record:
    encoded = rle.encode(np.asfortranarray(item.mask, dtype=np.uint8))
    return {
        "id": image_id * 100 + number,
        "image_id": image_id,
        "category_id": item.thing.id,
        "bbox": [float(value) for value in item.box],
        "area": float(item.area),
        "iscrowd": 0,
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
    }


def region_entries(one: Scene, image_id: int) -> list[Record]:
    return [
        {
            "region_id": image_id * 100 + number,
            "image_id": image_id,
            **dict(zip(("x", "y", "width", "height"), region.item.box, strict=True)),
            "phrase": region.phrase,
        }
        for number, region in enumerate(regions(one), start=1)
    ]


def identified(
    asked: Sequence[SceneQuestion], image_id: int
) -> Iterable[tuple[int, SceneQuestion]]:
    """Questions after their ids."""
    return enumerate(asked, start=image_id * 1000)


def answer_entries(one: Scene, asked: Sequence[SceneQuestion], image_id: int) -> list[Record]:
    rng = generator(one, 4)
    return [
        {
            "question_id": question_id,
            "image_id": image_id,
            "question_type": question.type,
            "answer_type": question.answer_type,
            "multiple_choice_answer": question.answer,
            "answers": [
                {
                    "answer_id": number,
                    "answer": answer,
                    "answer_confidence": "yes" if rng.random() < 0.85 else "maybe",
                }
                for number, answer in enumerate(question.answers(rng), start=1)
            ],
        }
        for question_id, question in identified(asked, image_id)
    ]


def write_attention(
    directory: Path, one: Scene, asked: Sequence[SceneQuestion], image_id: int
) -> None:
    """Write three viewers' maps for one of the questions whose answer is visible, if any."""
    rng = generator(one, 5)
    visible = [pair for pair in identified(asked, image_id) if pair[1].items]
    if visible:
        question_id, question = pick(visible, rng)
        for viewer in range(1, VIEWERS + 1):
            picture = Image.fromarray(attention(question.items, rng))
            picture.save(directory / f"{question_id}_{viewer}.png", compress_level=3)


def documents(records: list[Record], seed: int) -> dict[str, Any]:
    """The annotation files' names and contents."""
    info = {
        "description": "Rendered scenes with exact ground truth (vlcam)",
        "version": "1",
        "seed": seed,
        "images": len(records),
    }
    coco, vqa = coco_head(info, records), vqa_head(info, seed)
    return {
        "instances.json": {
            **coco,
            "annotations": joined(records, "instances"),
            "categories": [
                {"supercategory": thing.supercategory, "id": thing.id, "name": thing.name}
                for thing in THINGS
            ],
        },
        "captions.json": {**coco, "annotations": joined(records, "captions")},
        "questions.json": {**vqa, "questions": joined(records, "questions")},
        "annotations.json": {**vqa, "annotations": joined(records, "answers")},
        "region_descriptions.json": [
            {"id": record["image"]["id"], "regions": record["regions"]} for record in records
        ],
    }


def coco_head(info: Record, records: list[Record]) -> Record:
    """What COCO's files begin with."""
    return {
        "info": info,
        "licenses": [{"id": 1, "name": "MIT License", "url": "https://opensource.org/license/mit"}],
        "images": [record["image"] for record in records],
    }


def vqa_head(info: Record, seed: int) -> Record:
    """What VQA's files begin with."""
    return {
        "info": {
            **info,
            "answers": "simulated, no people were asked",
            "attention": "simulated: the maps in attention/ were drawn by a program",
        },
        "license": {"name": "MIT License", "url": "https://opensource.org/license/mit"},
        "task_type": "Open-Ended",
        "data_type": "scenes",
        "data_subtype": f"seed{seed}",
    }


def joined(records: list[Record], kind: str) -> list[Record]:
    """All scenes' entries of one kind."""
    return [entry for record in records for entry in record[kind]]
