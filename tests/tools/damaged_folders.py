"""Folders of transformers with one thing changed in one of their files."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import vlcam
from tests.samples.captioning import blip
from tests.samples.vqa import chat

_ODD: list[Any] = [
    None, True, -1, 0, 1, 3, 10**4, 10**6, 10**9, 2**63, 1e9, 1e400, 0.5, "", "x", "../x",
    "a" * 3000, [], {}, [1], {"a": 1}, [[]], "{{ 'a' * 10**10 }}", "float16", "(a+a+)+$",
]  # fmt: skip
_TEXT = "a red dog, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"


def write(folder: Path) -> list[Path]:
    """Folders as they should be."""
    chats = [chat.save(folder / kind, kind) for kind in ("llava", "smolvlm")]
    folders = [*chats, blip.save(folder / "blip")]
    for path in folders:  # an index, of one file
        from safetensors import safe_open

        with safe_open(path / "model.safetensors", "pt") as file:
            names = list(file.keys())
        (path / "model.safetensors").rename(path / "model-00001-of-00001.safetensors")
        said = {
            "metadata": {},
            "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors"),
        }
        (path / "model.safetensors.index.json").write_text(json.dumps(said))
    return folders


def failures(mutations: int, seed: int) -> list[str]:
    """What loading of mutated folders, and reading a text, did that it must not: anything but work,
    or fail in one line, within seconds."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        valid = write(Path(scratch))
        for number in range(mutations):
            random = Random(f"{seed} {number}")
            folder = shutil.copytree(random.choice(valid), Path(scratch, "mutated"))
            what = _mutate(random, folder)
            began = time.thread_time()
            problem = _problem(folder)
            if problem or time.thread_time() - began > 20:
                found.append(f"{number} {what}: {problem or 'it took long'}")
            shutil.rmtree(folder)
    return found


def _problem(folder: Path) -> str:
    try:
        vlcam.load(folder).read(_TEXT)  # type: ignore[attr-defined]
    except ValueError as error:
        text = str(error)
        return f"{len(text)} characters: {text[:300]!r}" if "\n" in text or len(text) > 900 else ""
    except BaseException as error:
        where = error.__traceback__
        while where and where.tb_next:
            where = where.tb_next
        line = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
        return f"{type(error).__name__}: {str(error)[:200]!r} ({line})"
    return ""


def _mutate(random: Random, folder: Path) -> str:
    file = random.choice(sorted(folder.iterdir()))
    data = file.read_bytes()
    if file.suffix == ".json" and random.random() < 0.9:
        said = json.loads(data)
        what = _change(random, said)
        file.write_text(json.dumps(said))
        return f"{folder.name} {file.name} {what}"
    at = random.randrange(min(len(data), 2000))  # where headers are
    new = random.choice([b"", b"\x00", b"9", b'"', bytes([random.randrange(256)]) * 3])
    file.write_bytes(data[:at] + new + data[at + random.choice([0, 1, 8]) :])
    return f"{folder.name} {file.name} at {at}: {new!r}"


def _change(random: Random, said: Any) -> str:
    """Replaces, or leaves out, one value somewhere in it."""
    places: list[tuple[Any, Any]] = []
    waiting = [said]
    while waiting:
        part = waiting.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part))
        places += [(part, key) for key in keys][:60]
        waiting += [part[key] for key in keys if isinstance(part[key], dict | list)]
    part, key = random.choice(places)
    if random.random() < 0.15:
        del part[key]
        return f"without {key!r}"
    part[key] = random.choice(_ODD)
    return f"{key!r}: {str(part[key])[:30]!r}"
