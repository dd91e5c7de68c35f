"""Training on a few tiny photos: same seed, same weights; also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file

from captioning.language.decoding import Caption
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk, load_module
from captioning.training.captioner import LENGTH_POWERS, Training, _Trainer, train
from captioning.training.phases import Rewarded
from captioning.training.word_detector import WordDetector
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess
from vlcam.training.trainer import STATE

RUN = (
    "import sys; from captioning.training.captioner import *; train(Training(**eval(sys.argv[1])))"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "Images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,caption"]
    for i in range(8):
        name, colour = f"{i}.png", ("red", "green")[i % 2]
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., i % 2] += 150
        Image.fromarray(pixels).save(folder / "Images" / name)
        rows += [f"{name},A {colour} square .", f"{name},the square is {colour}"]
    (folder / "captions.txt").write_text("\n".join(rows) + "\n")
    return folder


def _options(data: Path, out: Path, **more: object) -> dict[str, object]:
    sizes = {"size": 32, "threshold": 1, "embedding": 8, "hidden": 16, "batch": 4, "cnn_batch": 4}
    return {"data": str(data), "out": str(out), **sizes, **more}


@pytest.mark.parametrize("phases", [(4, 0, 0), (1, 1, 2)])
def test_a_killed_training_continues_to_the_same_weights(
    data: Path, tmp_path: Path, phases: tuple[int, int, int]
) -> None:
    epochs = dict(zip(("cnn_epochs", "epochs", "reward_epochs"), phases, strict=True))
    whole, killed = (_options(data, tmp_path / name, **epochs) for name in "ab")
    train(Training(**whole))  # type: ignore[arg-type]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, repr(killed)],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.DEVNULL,
        env={**os.environ},
    )
    state = tmp_path / "b" / STATE
    deadline = time.monotonic() + 120
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.is_file() and not (tmp_path / "b" / "report.json").is_file()
    train(Training(**killed))  # type: ignore[arg-type]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(np.array_equal(one[key], two[key]) for key in one)
    config = load_module(tmp_path / "b").config
    assert config.vocabulary.words[-1] == "UNK" and config.length_power in LENGTH_POWERS


def test_after_the_cnn_language_begins_anew(data: Path, tmp_path: Path) -> None:
    """With an image embedding of next to nothing, which may have a decay of its own."""
    more = {"cnn_epochs": 1, "epochs": 1, "image_decay": 20.0, "weight_decay": 1.0}
    trainer = _Trainer(Training(**_options(data, tmp_path, **more)))  # type: ignore[arg-type]
    words = trainer.model.embed_word.weight.detach().clone()
    assert trainer.model.embed_image.weight.std() > 0.01
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.05]
    trainer.run_epoch()
    for model in (trainer.model, trainer.average):
        assert 0 < model.embed_image.weight.std() < 0.01
    assert torch.equal(trainer.model.embed_word.weight, words)  # as the seed gives them
    decays = {
        parameter: group["weight_decay"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays.pop(trainer.model.embed_image.weight) == 20
    assert set(decays.values()) == {1.0}
    assert not any(p in decays for p in trainer.model.encoder.parameters())


def test_beside_a_given_cnn_it_begins_blind(data: Path, tmp_path: Path) -> None:
    trainer = _Trainer(Training(**_options(data, tmp_path, cnn_epochs=1)))  # type: ignore[arg-type]
    state = trainer.model.encoder.net.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "cnn.safetensors")
    given = {"cnn_epochs": 0, "cnn_weights": str(tmp_path / "cnn.safetensors"), "epochs": 1}
    trainer = _Trainer(Training(**_options(data, tmp_path / "b", **given)))  # type: ignore[arg-type]
    for model in (trainer.model, trainer.average):
        assert 0 < model.embed_image.weight.std() < 0.01 and not model.embed_image.bias.any()


def test_a_fixed_cnn_stays_as_it_was(data: Path, tmp_path: Path) -> None:
    """Its weights, its normalisation, and what was measured of its features."""
    options = _options(data, tmp_path, cnn_epochs=1, epochs=1, reward_epochs=1)
    trainer = _Trainer(Training(**options))  # type: ignore[arg-type]
    trainer.run_epoch()
    state = trainer.model.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    trainer.run_epoch()
    trainer.run_epoch()
    changed = {name.split(".")[0] for name, old in before.items() if not old.equal(state[name])}
    assert changed == {"embed_image", "embed_word", "rnn", "logits"}


def test_candidates_are_weighed_by_what_they_add(tmp_path: Path) -> None:
    """The better of a photo's candidates becomes likelier, and how it ends counts."""
    vocabulary = Vocabulary(("a", "in", "red", "shirt", "UNK"))
    tokens = [[vocabulary.tokens(["a", "red", "shirt"])]]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = Config(
            cnn="small",
            vocabulary=vocabulary,
            preprocess=Preprocess(size=(32, 32)),
            embedding=8,
            hidden=16,
            dropout_input=0.0,
            dropout_output=0.0,
        )
        model = NeuralTalk(config)
        feature = torch.randn(1, 256)
    phase = Rewarded(model, tokens, 1, 4, 0.1, beams=2, see=lambda rows, _: feature[rows])
    rng = np.random.default_rng(0)
    assert phase.begin_epoch(0, rng) == [[0]]
    good, cut = tokens[0][0], tokens[0][0][:2]
    rewards = phase._rewards([0, 0], [good, cut], [0, 0])
    assert rewards[0] > rewards[1]
    model.candidates = lambda *_: [[Caption(tuple(cut), 0.0), Caption(tuple(good), 0.0)]]  # type: ignore[method-assign]
    before = _log_probability(model, feature, good) - _log_probability(model, feature, cut)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    phase.train_mode()
    loss, _ = phase.loss([0], rng)
    loss.backward()
    optimizer.step()
    model.eval()
    after = _log_probability(model, feature, good) - _log_probability(model, feature, cut)
    assert after > before


def _log_probability(model: NeuralTalk, feature: torch.Tensor, tokens: list[int]) -> float:
    model.eval()
    with torch.no_grad():
        logits = model(feature, torch.tensor([tokens]))[0].log_softmax(-1)
    return float(sum(logits[i, token] for i, token in enumerate([*tokens, 0])))


def test_the_length_power_that_writes_best_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _Trainer(Training(**_options(data, tmp_path, cnn_epochs=1)))  # type: ignore[arg-type]
    references = [["a", "red", "square", "indeed"]]

    def write(split: str, beams: int) -> tuple[list[list[str]], list[list[list[str]]]]:
        power = trainer.average.config.length_power
        return [references[0][: 4 if power in (1.0, 1.3) else 3]], [references]

    monkeypatch.setattr(trainer, "_write", write)
    trainer._choose_length_power()
    assert trainer.average.config.length_power == 1.0


def test_lower_layers_of_a_given_cnn_may_stay_as_they_are(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "cnn.safetensors"
    options = {"cnn_epochs": 1, "cnn_weights": str(weights), "naming": 1.0}
    state = Encoder("small", (32, 32)).net.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, weights)
    more = {**options, "cnn_fixed": "stage3"}
    trainer = _Trainer(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    trainer.run_epoch()
    own = trainer.average.encoder.net.state_dict()
    changed = {name.split(".")[0] for name, value in state.items() if not own[name].equal(value)}
    assert changed == {"stage4"}
    assert (trainer.naming.weight < 0).any()  # its channels may speak against words
    with pytest.raises(ValueError, match="layer 'stage9' of small: unknown; near: stage"):
        _Trainer(Training(**_options(data, tmp_path / "b", **options, cnn_fixed="stage9")))  # type: ignore[arg-type]


def test_other_options_are_not_continued(data: Path, tmp_path: Path) -> None:
    train(Training(**_options(data, tmp_path / "a", cnn_epochs=1, epochs=0)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other options"):
        train(Training(**_options(data, tmp_path / "a", cnn_epochs=2, epochs=0)))  # type: ignore[arg-type]


def test_a_cnn_that_detects_words_in_half_precision_also_continues(
    data: Path, tmp_path: Path
) -> None:
    # Seven photos are trained on, so one is left over by batches of three.
    more = {"naming": 0.1, "first_size": 16, "precision": "bfloat16", "cnn_batch": 3}
    more |= {"cnn_epochs": 2, "epochs": 0}
    report = train(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    state = load_file(tmp_path / "a" / STATE)
    assert state["naming.weight"].any()  # starts at zero
    trainer = _Trainer(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    assert np.array_equal(trainer.naming.weight.detach().numpy(), state["naming.weight"])
    assert trainer.epoch == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first_size": 64}, "--first-size 64: must be 1 to --size, 32"),
        ({"precision": "half"}, "--precision half: must be float32 or bfloat16"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "naming": 1.0}, "with --cnn-epochs"),
        ({"cnn_fixed": "stage3"}, "--cnn-fixed is about training a CNN given with --cnn-weights"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "cnn_fixed": "stage3"}, "--cnn-fixed is about"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "first_size": 8}, "with --cnn-epochs"),
        ({"cnn_epochs": 0, "epochs": 0, "cnn_weights": "w"}, "nothing to train"),
        ({"cnn_epochs": -1}, "--cnn-epochs -1: must be at least 0"),
        ({"image_decay": -1.0}, "--image-decay -1.0: must be at least 0"),
        ({"smoothing": 1.0}, "--smoothing 1.0: must be at least 0 and less than 1"),
        ({"reward_epochs": 1, "beams": 1}, "with --beams of at least 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    data: Path, tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Training(**{**_options(data, tmp_path, cnn_epochs=1), **wrong})  # type: ignore[arg-type]


def test_words_are_detected_by_their_strongest_cells() -> None:
    vocabulary = Vocabulary(("cat", "dog", "UNK"))
    detector = WordDetector(2, [[[1], [1, 2]], [[1]]], vocabulary)
    with torch.no_grad():
        detector.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    often = torch.tensor([1e-4, 1 - 1e-4, 0.5, 1e-4]).logit()
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 1, 2, 0] = 5.0
    maps[0, 0] = 1.0
    assert torch.allclose(detector(maps)[0], often)  # no channel speaks against a word
    maps[0, 0] = 0.0
    with torch.no_grad():
        detector.weight[2, 1] = 3.0  # dog: the second channel
    slow = np.log(np.mean([np.exp(4 * 15.0), *[1.0] * 8])) / 4
    assert detector(maps)[0, 2].item() == pytest.approx(slow)
    chance = detector(maps).detach().double().sigmoid()[0]
    assert detector.loss(maps, [[[1]]]).item() == pytest.approx(
        -float(chance[1].log() + sum((1 - chance[i]).log() for i in (0, 2, 3))), rel=1e-4
    )


def test_a_pretrained_cnns_channels_may_speak_against_words_and_half_are_looked_at() -> None:
    vocabulary = Vocabulary(("cat", "UNK"))
    detector = WordDetector(64, [[[1]], [[2]]], vocabulary, pretrained=True)
    maps = torch.ones(1, 64, 2, 2)
    assert torch.equal(detector(maps)[0], detector.bias)  # knows nothing yet
    with torch.no_grad():
        detector.weight[1] = -1.0
    torch.manual_seed(0)
    seen = [(detector.bias - detector(maps)[0])[1].item() / 2 for _ in range(100)]
    assert all(round(count) == pytest.approx(count, abs=1e-4) for count in seen)  # whole channels
    assert 30 < np.mean(seen) < 34
    assert (detector.eval()(maps)[0] - detector.bias)[1].item() == pytest.approx(-64)


def test_a_frozen_random_cnn_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cnn-weights"):
        Training(str(data), str(tmp_path))
