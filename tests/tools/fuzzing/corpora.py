"""The readers that are fuzzed, each with a folder of valid files for it."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

import vlcam
from captioning.models import show_attend_tell, tutorial_captioner
from captioning.models.im2txt import files as im2txt
from captioning.models.neuraltalk import neuraltalk2_pytorch, neuraltalk2_torch7
from tests.samples import tensorflow_files, tiny
from tests.samples.captioning import blip
from tests.samples.captioning import im2txt as im2txt_files
from tests.samples.captioning import neuraltalk2_pytorch as fc_files
from tests.samples.captioning import neuraltalk2_torch7 as nt2_files
from tests.samples.captioning import show_attend_tell as sat_files
from tests.samples.captioning import tutorial_captioner as tutorial_files
from tests.samples.foreign import module_of
from tests.samples.torch7_files import Storage, save
from tests.samples.torch7_networks import Lua, chain
from tests.samples.vqa import basic_vqa as basic_files
from tests.samples.vqa import chat
from tests.samples.vqa import hiecoatt_torch7 as hiecoatt_files
from tests.samples.vqa import lstm_cnn_torch7 as lstm_cnn_files
from tests.samples.vqa import skyol5_pytorch as skyol5_files
from tests.samples.vqa import vqa_pytorch as vqa_pytorch_files
from vlcam.formats.restricted_pickle import read_pickle
from vlcam.formats.state_dict import read_state_dict
from vlcam.formats.tensorflow_checkpoint import read_checkpoint
from vlcam.formats.torch7 import load_torch7, outline
from vlcam.formats.torch_pickle import Inert, module_state, read_torch_modules
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.torch7_network import read_trunk
from vqa.models import basic_vqa
from vqa.models.coattention import hiecoatt_torch7, skyol5_pytorch
from vqa.models.lstm_cnn import torch7 as lstm_cnn_torch7
from vqa.models.lxmert import region_features
from vqa.models.vqa_pytorch import files as vqa_pytorch

_WORDS = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 4}


@dataclass(frozen=True)
class Corpus:
    """A reader, and files for it.

    Attributes:
        write: writes valid files into a folder that is not there yet.
        read: reads the folder.
        cost: how many times fewer mutations than of the others it gets.
    """

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    cost: int = 1


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.half = nn.Linear(2, 2).half()


def _pickles(folder: Path) -> None:
    folder.mkdir()
    data = {
        "opt": argparse.Namespace(caption_model="fc", rate=np.float64(0.5), seq_length=9),
        "words": collections.OrderedDict(_WORDS),
        "counts": collections.defaultdict(int, {"a": 2}),
        "array": np.arange(6).reshape(2, 3),
        "names": np.array(["ab", "c"]),
        "rest": [None, True, {1, 2}, (3, 4.5), 1j, 10**30, b"\xff", "caf\xe9", [[], {}]],
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(data, protocol))


def _torch_files(folder: Path) -> None:
    folder.mkdir()
    net = _Net()
    data = {"epoch": 3, "model": net, "state": net.state_dict(), "bleu": np.float64(0.25)}
    with module_of("models", _Net):
        for layout in (True, False):
            for protocol in (2, 4):
                torch.save(
                    data,
                    folder / f"{layout}{protocol}.pth",
                    pickle_protocol=protocol,
                    _use_new_zipfile_serialization=layout,
                )


def _each(suffix: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Reads each file of a folder by itself; what one raises is raised at the end."""

    def read_all(folder: Path) -> None:
        failed = None
        for file in sorted(folder.glob(f"*{suffix}")):
            try:
                read(file)
            except (ValueError, OSError) as error:
                failed = error
        if failed is not None:
            raise failed

    return read_all


def _read_modules(path: Path) -> None:
    saved = read_torch_modules(path)
    parts = list(saved.values()) if isinstance(saved, dict) else [saved]
    for part in parts:
        if isinstance(part, dict | Inert):
            module_state(part, str(path))


def _states(folder: Path) -> None:
    folder.mkdir()
    from safetensors.torch import save_file

    state = {name: value.clone() for name, value in _Net().state_dict().items()}
    torch.save(state, folder / "a.pth")
    torch.save(state, folder / "b.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "c.safetensors")


def _torch7_files(folder: Path) -> None:
    folder.mkdir()
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = {"a": numbers, "b": 1, "c": {1: "x", 2: {"y": True}}, 3: Storage(numbers)}
    save(folder / "table.t7", values)
    lua = Lua()
    net = chain(lua.conv(3, 4, 3, 4), lua.norm(4), lua.relu(), *lua.classifier(4, 4))
    save(folder / "net.t7", net)


def _read_torch7(path: Path) -> None:
    outline(path)
    load_torch7(path)
    if path.name == "net.t7":
        read_trunk(path, (32, 32))


def _tensorflow_files(folder: Path) -> None:
    folder.mkdir()
    values = {"a/b": np.ones((2, 3), np.float32), "a/c": np.arange(5), "d": np.zeros(7, np.float16)}
    tensorflow_files.save(folder / "m.ckpt", values, shards=2, per_block=2)


def _read_tensorflow(folder: Path) -> None:
    found = read_checkpoint(folder)
    for name in found.variables:
        found.read(name)


def _explanation(folder: Path) -> None:
    folder.mkdir()
    words = vlcam.explain(tiny.TinyCaptioner(), tiny.photo(), "a red dog")
    words.save(folder)


def _read_explanation(folder: Path) -> None:
    vlcam.Explanation.load(folder)


def _regions(folder: Path) -> None:
    folder.mkdir()
    boxes = np.array([[0, 0, 9, 9], [1, 1, 5, 5]], np.float32)
    np.savez(folder / "dog.png.regions.npz", features=np.ones((2, 4), np.float32), boxes=boxes)


def _family(module: Any) -> Callable[[Path], Any]:
    def read(folder: Path) -> None:
        module.recognises(folder)
        module.load(folder)

    return read


def _saved_again(module: Any, write: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Writes a model as we save it."""

    def write_own(folder: Path) -> None:
        other = folder.with_name("other")
        write(other)
        folder.mkdir()
        module.load(other).save(folder)
        shutil.rmtree(other)

    return write_own


def _vocabulary(folder: Path) -> None:
    folder.mkdir()
    Vocabulary(("a", "dog", "UNK")).save(folder / "v.json")


def _chat(kind: str) -> Callable[[Path], Any]:
    return lambda folder: _indexed(chat.save(folder, kind))


def _indexed(folder: Path) -> None:
    """Gives the weights of a folder of transformers an index, of one file."""
    name = "model-00001-of-00001.safetensors"
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), name)}
    (folder / "model.safetensors").rename(folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(said))


def _read_text(folder: Path) -> None:
    vlcam.load(folder).read("a red dog, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")  # type: ignore[attr-defined]


_TRANSFORMERS: dict[str, Callable[[Path], Any]] = {
    "llava": _chat("llava"),
    "smolvlm": _chat("smolvlm"),
    "blip": lambda folder: _indexed(blip.save(folder)),
}

_FAMILIES: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "fc": (neuraltalk2_pytorch, lambda f: fc_files.write_checkpoint(f, cnn="model-cnn.pth")),
    "tutorial": (tutorial_captioner, tutorial_files.write_checkpoint),
    "show-attend-tell": (show_attend_tell, sat_files.write_checkpoint),
    "neuraltalk2": (
        neuraltalk2_torch7,
        lambda f: nt2_files.write_checkpoint(f, ((4,), (4,), (4,), (4,), (4,))),
    ),
    "basic-vqa": (basic_vqa, basic_files.write_checkpoint),
    "skyol5": (skyol5_pytorch, skyol5_files.write_checkpoint),
    "vqa.pytorch": (vqa_pytorch, vqa_pytorch_files.write_checkpoint),
    "lstm-cnn": (lstm_cnn_torch7, lstm_cnn_files.write_checkpoint),
    "hiecoatt": (hiecoatt_torch7, hiecoatt_files.write_checkpoint),
    "hiecoatt-residual": (hiecoatt_torch7, hiecoatt_files.write_residual),
    "im2txt": (im2txt, im2txt_files.write_checkpoint),
}

CORPORA = [
    Corpus("pickles", _pickles, _each(".pkl", lambda p: read_pickle(p, ("Vocabulary",)))),
    Corpus("torch files", _torch_files, _each(".pth", _read_modules)),
    Corpus("state dicts", _states, _each("", read_state_dict)),
    Corpus("Torch7 files", _torch7_files, _each(".t7", _read_torch7)),
    Corpus("TensorFlow checkpoints", _tensorflow_files, _read_tensorflow),
    Corpus("vocabularies", _vocabulary, _each(".json", Vocabulary.load)),
    Corpus("explanations", _explanation, _read_explanation),
    Corpus(
        "regions",
        _regions,
        lambda folder: region_features.read(str(folder / "dog.png"), (20, 20)),
    ),
    *(Corpus(name, write, _read_text, 4) for name, write in _TRANSFORMERS.items()),
    *(Corpus(name, write, _family(one), 10) for name, (one, write) in _FAMILIES.items()),
    *(
        Corpus(f"{name}, as we save it", _saved_again(one, write), lambda f: vlcam.load(f), 10)
        for name, (one, write) in _FAMILIES.items()
    ),
]
