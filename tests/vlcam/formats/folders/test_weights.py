"""A folder of transformers: which files are read, and what is refused before anything is built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import vlcam
from tests.samples.captioning import blip
from tests.tools.command_line import refused

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blip.save(tmp_path_factory.mktemp("stored") / "base")


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base, tmp_path / "model")


def states(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = vlcam.load(folder).module.state_dict()
    return state


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(value, expected[name]) for name, value in found.items()
    )


def settle(folder: Path, name: str = CONFIG, **changes: Any) -> None:
    """Changes settings; ``part__name`` is one within a part."""
    path = folder / name
    said = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in changes.items():
        *parts, last = key.split("__")
        inner = said
        for part in parts:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(said))


def in_two(folder: Path, kind: str = WEIGHTS) -> dict[str, str]:
    """Writes the weights as two files and an index; returns where each is."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    stem, suffix = kind.split(".")
    places = {}
    for number in (0, 1):
        part = dict(sorted(state.items())[number::2])
        file = f"{stem}-0000{number + 1}-of-00002.{suffix}"
        if suffix == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    settle(folder, f"{kind}.index.json", metadata={}, weight_map=places)
    return places


def wrapped(name: str) -> str:
    """Within DataParallel, with a part that was compiled, within another DataParallel."""
    first, rest = name.split(".", 1)
    return f"module.module.{first}._orig_mod.{rest}"


@pytest.mark.parametrize("kind", [WEIGHTS, "pytorch_model.bin"])
def test_several_files_and_any_wrapping(folder: Path, base: Path, kind: str) -> None:
    expected = states(base)
    in_two(folder, kind)
    assert same(states(folder), expected)
    state = {wrapped(name): value for name, value in load_file(base / WEIGHTS).items()}
    if kind == WEIGHTS:
        save_file(state, folder / WEIGHTS)
    else:
        torch.save(state, folder / kind)
    found = vlcam.load(folder)
    assert same(found.module.state_dict(), expected)
    found.save(folder.with_name("saved"))
    assert same(load_file(folder.with_name("saved") / WEIGHTS), load_file(base / WEIGHTS))


def test_the_hubs_cache(base: Path, tmp_path: Path) -> None:
    """A revision is a folder of links to files beside it."""
    home = tmp_path / "models--someone--blip"
    snapshot = home / "snapshots" / "0123"
    blobs = shutil.copytree(base, home / "blobs")
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert same(states(snapshot), states(base))
    (tmp_path / "link").symlink_to(snapshot)  # a user's own name for it
    assert same(states(tmp_path / "link"), states(base))


def _outside(place: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        places = in_two(folder)
        name = next(iter(places))
        shutil.copy(folder / places[name], folder.parent / "outside.safetensors")
        there = place.format(folder.parent)
        settle(folder, INDEX, weight_map={**places, name: there})

    return make


def _link(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        outside = shutil.move(folder / name, folder.parent / "outside.safetensors")
        (folder / name).symlink_to(outside)

    return make


def _linked_shard(folder: Path) -> None:
    places = in_two(folder)
    name = next(iter(places))
    (folder / "sub").mkdir()
    shutil.move(folder / places[name], folder.parent / "outside.safetensors")
    (folder / "sub" / "a.safetensors").symlink_to(folder.parent / "outside.safetensors")
    moved = {n: "sub/a.safetensors" if f == places[name] else f for n, f in places.items()}
    settle(folder, INDEX, weight_map=moved)


def _index(change: Callable[[dict[str, str]], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        places = in_two(folder)
        change(places)
        settle(folder, INDEX, weight_map=places)

    return make


def _twice(folder: Path) -> None:
    places = in_two(folder)
    name, file = next(iter(places.items()))
    other = next(place for place in places.values() if place != file)
    state = load_file(folder / other)
    state[name] = load_file(folder / file)[name]
    save_file(state, folder / other)


def _both_names(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    name = next(iter(state))
    save_file(state | {f"module.{name}": state[name].clone()}, folder / WEIGHTS)


def _only(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / WEIGHTS).rename(folder / name) and None


def _beside(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"") and None


HUGE = 10**9
REFUSED: dict[str, Callable[[Path], object]] = {
    "names '../outside.safetensors', which lies outside": _outside("../outside.safetensors"),
    "which lies outside of its folder": _outside("{}/outside.safetensors"),
    "names 'sub/../../outside.safetensors', which": _outside("sub/../../outside.safetensors"),
    "names 'C:\\\\outside.safetensors', which": _outside("C:\\outside.safetensors"),
    "model.safetensors: a link to": _link(WEIGHTS),
    "tokenizer.json: a link to": _link("tokenizer.json"),
    "sub/a.safetensors: a link to": _linked_shard,
    "which is not there": _index(
        lambda places: places.update(dict.fromkeys(places, "a.safetensors"))
    ),
    "expected a file of .safetensors": _index(lambda p: p.update(dict.fromkeys(p, "a.bin"))),
    "is in 3; expected a file": _index(lambda places: places.update(x=3)),
    "lacks extra, which the index says": _index(lambda p: p.update(extra=min(p.values()))),
    "no index of weights": _index(lambda places: places.clear()),
    "is also in model-0000": _twice,
    "is there twice": _both_names,
    "found model.fp16.safetensors (a variant); expected": _only("model.fp16.safetensors"),
    "found tf_model.h5 (TensorFlow); expected": _only("tf_model.h5"),
    "found model.gguf (GGUF); expected": _only("model.gguf"),
    "no weights; expected": _only("weights.txt"),
    "part of a distributed checkpoint": _beside("shard-00001-model-00001-of-00001.safetensors"),
    "text_config', which lies": lambda f: settle(f, transformers_weights="../text_config"),
    "asks for code of its own": lambda f: settle(f, auto_map={"AutoModel": "modeling.Evil"}),
    "config.json: asks for code": lambda f: settle(
        f, vision_config__auto_map={"AutoModel": "modeling.Evil"}
    ),
    "preprocessor_config.json: asks for code": lambda f: settle(
        f, "preprocessor_config.json", auto_map={"AutoImageProcessor": "a.B"}
    ),
    "tokenizer_config.json: asks for code": lambda f: settle(
        f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["a.B", None]}
    ),
    "quantised (bitsandbytes), and cannot be loaded (Using `bitsandbytes`": lambda f: settle(
        f, quantization_config={"load_in_4bit": True}
    ),
    "quantised (gptq), and cannot be loaded (Loading a GPTQ quantized model requires": lambda f: (
        settle(f, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    ),
    "quantised (awq), and cannot be loaded (Loading an AWQ quantized model requires": lambda f: (
        settle(f, quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    ),
    "quantised (torchao), and cannot be loaded (No module named 'torchao'": lambda f: settle(
        f, quantization_config={"quant_method": "torchao", "quant_type": "int4_weight_only"}
    ),
    "of an unknown kind ('exl2')": lambda f: settle(
        f, quantization_config={"quant_method": "exl2"}
    ),
    "of an unknown kind (None)": lambda f: settle(f, text_config__quantization_config=[4]),
    f"num_labels is {HUGE}, more than": lambda f: settle(f, num_labels=HUGE),
    f"num_hidden_layers is {HUGE}, more": lambda f: settle(f, text_config__num_hidden_layers=HUGE),
    "far larger than its weights": lambda f: settle(f, vision_config__num_hidden_layers=9999),
    "far larger than its weights,": lambda f: settle(f, text_config__vocab_size=HUGE),
    "far larger than its weights, which": lambda f: settle(f, vision_config__image_size=10**6),
}


@pytest.mark.parametrize("message", REFUSED)
def test_folders_that_are_refused(folder: Path, message: str) -> None:
    REFUSED[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_what_lies_beside_the_weights_changes_nothing(folder: Path, base: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", "tf_model.h5", "model.fp16.safetensors"):
        (folder / name).write_bytes(b"never read")
    torch.save({"a": torch.ones(1)}, folder / "pytorch_model.bin")  # safetensors come first
    (folder / "custom_generate").mkdir()
    ran = folder / "ran"
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(ran)!r}, 'w')")
    settle(folder, _attn_implementation="flash_attention_2")  # of the machine it was saved on
    settle(folder, "tokenizer_config.json", vocab_file="/etc/passwd", tokenizer_file="../x.json")
    assert same(states(folder), states(base))
    assert not ran.exists()


@pytest.mark.parametrize(
    "name", ["model.gguf", "model.onnx", "openvino_model.xml", "flax_model.msgpack"]
)
def test_files_of_other_kinds_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / name
    file.write_bytes(b"x")
    for path in (file, file.parent):
        assert f"found {name} (" in refused(capsys, "models", path)
