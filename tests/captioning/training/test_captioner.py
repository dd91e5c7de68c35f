"""Training on a few tiny photos: same seed, same weights; also after a kill."""

from __future__ import annotations

import re
import signal
import time
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file

import vlcam
from captioning.models.neuraltalk import neuraltalk
from captioning.models.neuraltalk.neuraltalk import load_module
from captioning.training.captioner import (
    LENGTH_POWERS,
    OFTEN,
    Training,
    _Trainer,
    train,
    unfinished,
)
from captioning.training.phases import MAX_WORDS
from captioning.training.recalled import RECALLED
from tests.samples.transformers_cnns import model_of
from vlcam.formats.vocabulary import Vocabulary
from vlcam.geometry.grid import Grid
from vlcam.networks.encoder import Encoder
from vlcam.training.photo_trainer import _named
from vlcam.training.precision import PRECISIONS
from vlcam.training.trainer import STATE


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
    # Not the faster one, which might be another each time.
    return {"data": str(data), "out": str(out), "precision": "float32", **sizes, **more}


def _train(options: dict[str, Any]) -> None:
    train(Training(**options))


def _begun(options: dict[str, object]) -> ForkServerProcess:
    """A training in a process of its own: where the memory of one that has done other things lies
    moves the last bits of some sums. What all of them import is imported once."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo", "torchvision", "nltk.translate"])
    process = context.Process(target=_train, args=(options,))
    process.start()
    return process


def _ended(process: ForkServerProcess) -> int | None:
    process.join()
    return process.exitcode


@pytest.mark.parametrize("phases", [(4, 0, 0), (1, 1, 2)])
def test_a_killed_training_continues_to_the_same_weights(
    data: Path, tmp_path: Path, phases: tuple[int, int, int]
) -> None:
    epochs = dict(zip(("cnn_epochs", "epochs", "reward_epochs"), phases, strict=True))
    whole, killed = (_options(data, tmp_path / name, **epochs) for name in "ab")
    assert _ended(_begun(whole)) == 0
    process = _begun(killed)
    state = tmp_path / "b" / STATE
    deadline = time.monotonic() + 120
    while not state.is_file() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert _ended(process) == -signal.SIGKILL
    assert state.is_file() and not (tmp_path / "b" / "report.json").is_file()
    assert _ended(_begun(killed)) == 0
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


def test_a_network_of_timm_is_trained_and_explained(data: Path, tmp_path: Path) -> None:
    more = {"cnn": "timm:test_resnet", "cnn_epochs": 1, "epochs": 0, "half": True}
    train(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    explanation = vlcam.explain(vlcam.load(tmp_path / "a"), data / "Images" / "0.png", caption="a")
    assert explanation.layer == "layer4"
    more |= {"cnn": "timm:skresnet18"}  # it stacks maps: where their cells lie is not followed
    with pytest.raises(ValueError, match="no known place in the input: it was lost in stack"):
        _Trainer(Training(**_options(data, tmp_path / "b", **more)))  # type: ignore[arg-type]


def test_a_cnn_whose_weights_come_in_a_package_needs_no_file(data: Path, tmp_path: Path) -> None:
    more = {"cnn": "efficientnet_lite2", "cnn_epochs": 1, "cnn_fixed": "blocks.6", "epochs": 1}
    how = Training(**_options(data, tmp_path / "a", **more))  # type: ignore[arg-type]
    assert how.pretrained and how.preprocess.mean == (127.0,) * 3
    train(how)
    model = load_module(tmp_path / "a")
    assert model.config.preprocess == how.preprocess
    given = Encoder("efficientnet_lite2", (32, 32))
    given.load_published()
    was, now = given.net.state_dict(), model.encoder.net.state_dict()
    changed = {name.partition(".")[0] for name in was if not torch.equal(was[name], now[name])}
    assert changed == {"conv_head", "bn2"}


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


def test_the_length_power_that_writes_best_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _Trainer(Training(**_options(data, tmp_path, cnn_epochs=1)))  # type: ignore[arg-type]
    reference, other = ["a", "red", "square", "indeed"], ["an", "old", "green", "circle"]
    right = {0.75: 90, 0.8: 99, 0.9: 100, 1.0: 100}  # of a hundred captions

    def write(split: str, beams: int) -> tuple[list[list[str]], list[list[list[str]]]]:
        count = right.get(trainer.average.config.length_power, 50)
        return [reference] * count + [other] * (100 - count), [[reference]] * 100

    monkeypatch.setattr(trainer, "_write", write)
    trainer._choose_length_power()
    config = trainer.average.config
    assert config.length_power == 0.8  # the shortest of those as good
    assert trainer.model.config.beams == 1 and config.beams == trainer.how.beams == 5


def test_words_that_captions_do_not_end_with() -> None:
    known = Vocabulary(("a", "dog", "runs", "UNK"))
    a, dog, runs, unknown = 1, 2, 3, 4
    captions = [[[a, dog, runs, a, dog]]] * (4 * OFTEN) + [[[unknown, runs]]] * OFTEN
    assert unfinished(captions, known) == ("a", "dog runs")
    assert unfinished([*captions, [[dog, a]]], known) == ("a", "dog runs")  # seldom
    assert unfinished([*captions, *[[[dog, a]]] * 3], known) == ("dog runs", "runs a")
    assert unfinished([[[a, dog]]] * (OFTEN - 1), known) == ()  # too few to tell
    cut = [[a] * MAX_WORDS]
    longest = [*captions, *[cut] * 9]  # whose end is not the people's
    assert unfinished(longest, known) == ("a", "dog runs")


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
    assert (trainer.naming.evidence.weight < 0).any()  # its channels may speak against words
    with pytest.raises(ValueError, match="layer 'stage9' of small: unknown; did you mean stage"):
        _Trainer(Training(**_options(data, tmp_path / "b", **options, cnn_fixed="stage9")))  # type: ignore[arg-type]


def test_other_options_are_not_continued(data: Path, tmp_path: Path) -> None:
    train(Training(**_options(data, tmp_path / "a", cnn_epochs=1, epochs=0)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other options"):
        train(Training(**_options(data, tmp_path / "a", cnn_epochs=2, epochs=0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_state_is_told_of_in_one_line(data: Path, tmp_path: Path, damage: str) -> None:
    options = _options(data, tmp_path / "a", cnn_epochs=1, epochs=0)
    train(Training(**options))  # type: ignore[arg-type]
    state = tmp_path / "a" / STATE
    if damage == "other":
        save_file({"a": torch.zeros(1)}, state)
    else:
        state.write_bytes(state.read_bytes()[: 1000 if damage == "cut" else 0])
    told = f"^{re.escape(str(state))}: not the state of a training, or a damaged one .*start anew$"
    with pytest.raises(ValueError, match=told):
        train(Training(**options))  # type: ignore[arg-type]


def test_what_is_trained_may_be_read_by_those_who_may_read_the_folder(
    data: Path, tmp_path: Path
) -> None:
    train(Training(**_options(data, tmp_path / "a", cnn_epochs=1, epochs=0)))  # type: ignore[arg-type]
    modes = {
        path.name: path.stat().st_mode for path in (tmp_path / "a").iterdir() if path.is_file()
    }
    assert {"model.safetensors", "config.json", STATE} <= modes.keys()
    assert set(modes.values()) == {modes["config.json"]}


def test_photos_in_a_folder_of_an_odd_name_are_called_by_what_can_be_shown() -> None:
    assert _named(Path("/a\x1bb\udcff")) == "photos of a b "


def test_what_auto_chose_is_recorded_and_kept(data: Path, tmp_path: Path) -> None:
    """Also where the other precision has become the faster one since."""
    more = {"cnn_epochs": 2, "epochs": 0, "precision": "auto"}
    chosen = _Trainer(Training(**_options(data, tmp_path / "a", **more))).how.precision  # type: ignore[arg-type]
    assert chosen in PRECISIONS
    for begun in PRECISIONS:
        options = _options(data, tmp_path / begun, **more)
        _Trainer(Training(**(options | {"precision": begun}))).run_epoch()  # type: ignore[arg-type]
        other = next(name for name in PRECISIONS if name != begun)
        with pytest.raises(ValueError, match=r"other options \(precision\)"):
            train(Training(**(options | {"precision": other})))  # type: ignore[arg-type]
        report = train(Training(**options))  # type: ignore[arg-type]
        assert report["training"]["precision"] == begun
        assert report["processor"] == torch.backends.cpu.get_cpu_capability()


def test_a_cnn_that_detects_words_in_half_precision_also_continues(
    data: Path, tmp_path: Path
) -> None:
    # Seven photos are trained on, so one is left over by batches of three.
    more = {"naming": 0.1, "first_size": 16, "precision": "bfloat16", "cnn_batch": 3}
    more |= {"cnn_epochs": 2, "epochs": 0}
    report = train(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    state = load_file(tmp_path / "a" / STATE)
    assert state["naming.evidence.weight"].any()  # starts at zero
    trainer = _Trainer(Training(**_options(data, tmp_path / "a", **more)))  # type: ignore[arg-type]
    weight = trainer.naming.evidence.weight.detach().numpy()
    assert np.array_equal(weight, state["naming.evidence.weight"])
    assert trainer.epoch == 2


def test_a_captioner_that_reads_which_words_are_detected(data: Path, tmp_path: Path) -> None:
    more = {"cnn": "efficientnet_lite2", "cnn_fixed": "blocks.6", "detected": 3, "naming": 1.0}
    more |= {"cnn_epochs": 1, "epochs": 1, "reward_epochs": 1, "views": 3}
    options = _options(data, tmp_path / "a", **more)
    trainer = _Trainer(Training(**options))  # type: ignore[arg-type]
    detected = trainer.model.config.detected
    photos = [{w for c in example.captions for w in c} for example in trainer.examples["train"]]
    assert all(sum(word in words for words in photos) >= 3 for word in detected) and detected
    trainer.run_epoch()
    # The maps that stay as they are are kept, and give what the photos give.
    own, plain = trainer.features["train", 0], trainer.photos["train"]
    encoder = trainer.model.encoder
    batch = plain.batch(range(len(plain)), 0, np.random.default_rng(0))
    with torch.no_grad():
        assert torch.allclose(own, encoder(batch), atol=2e-2 * float(own.abs().max()))
    assert own.shape[1] == 1280 + len(detected)
    assert encoder.get_submodule("words").get_parameter("weight").any()  # it began with zeros
    del trainer
    train(Training(**options))  # type: ignore[arg-type]  # the epochs that are left
    model = neuraltalk.load(tmp_path / "a")
    assert model.module.config.detected == detected
    names = [layer.name for layer in model.module.encoder.layers]
    assert names[-1] == model.layer == "act2" and "blocks.6" in names
    photo = vlcam.look(model, plain._paths[0])
    with torch.no_grad():
        whole = model.module.encoder(model.prepare(Image.open(plain._paths[0]))[0][None])
        assert torch.allclose(model.image_features(photo.features), whole, atol=1e-5)


def test_words_that_imagenet_knows_are_detected_too(data: Path, tmp_path: Path) -> None:
    more = {"cnn": "efficientnet_lite2", "cnn_fixed": "blocks.6", "detected": 3, "naming": 1.0}
    more |= {"cnn_epochs": 1, "epochs": 1, "recalled": 10.0}
    options = _options(data, tmp_path / "a", **more)
    trainer = _Trainer(Training(**options))  # type: ignore[arg-type]
    begun = trainer.model.encoder.get_submodule("words").state_dict()
    recalled = begun["weight"][-len(RECALLED) :].clone()
    del trainer
    train(Training(**options))  # type: ignore[arg-type]
    module = neuraltalk.load_module(tmp_path / "a")
    detected = module.config.detected
    assert detected[-len(RECALLED) :] == tuple(RECALLED)
    assert "square" in detected[: -len(RECALLED)]  # of the captions
    kept = module.encoder.get_submodule("words").get_parameter("weight")[-len(RECALLED) :]
    assert torch.nn.functional.cosine_similarity(kept, recalled).min() > 0.9999  # AdamW decays it
    model = neuraltalk.load(tmp_path / "a")
    found = vlcam.explain(model, data / "Images" / "0.png", caption="a toilet")
    assert found.words[1].text == "toilet"
    assert not found.unknown  # though no caption has it


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first_size": 64}, "--first-size 64: must be 1 to --size, 32"),
        ({"precision": "half"}, "unknown --precision 'half'; known: auto, float32, bfloat16"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "naming": 1.0}, "with --cnn-epochs"),
        ({"cnn_fixed": "stage3"}, "--cnn-fixed is about training a CNN given with --cnn-weights"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "cnn_fixed": "stage3"}, "--cnn-fixed is about"),
        ({"cnn_epochs": 0, "cnn_weights": "w", "first_size": 8}, "with --cnn-epochs"),
        ({"cnn_epochs": 0, "epochs": 0, "cnn_weights": "w"}, "nothing to train"),
        ({"cnn_epochs": -1}, "--cnn-epochs -1: must be at least 0"),
        ({"world": " "}, "--world is empty"),
        ({"world": "a\x1bb"}, "--world is no line"),
        ({"image_decay": -1.0}, "--image-decay -1.0: must be at least 0"),
        ({"smoothing": 1.0}, "--smoothing 1.0: must be at least 0 and less than 1"),
        ({"reward_epochs": 1, "beams": 1}, "with --beams of at least 2"),
        ({"recalled": -1.0}, "--recalled -1.0: must be at least 0"),
        ({"recalled": 1.0}, "--recalled adds words to those of --detected: give both"),
        (
            {"recalled": 1.0, "detected": 1, "naming": 1.0, "cnn_weights": "w"},
            "--recalled is of a CNN as it was published: with --cnn efficientnet_lite2, say, and"
            " without --cnn-weights of a file",
        ),
        (
            {"recalled": 1.0, "detected": 1, "naming": 1.0, "cnn": "small"},
            "--recalled is of a CNN as it was published: with --cnn efficientnet_lite2",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    data: Path, tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Training(**{**_options(data, tmp_path, cnn_epochs=1), **wrong})  # type: ignore[arg-type]


def test_words_to_detect_that_nobody_uses_are_refused(data: Path, tmp_path: Path) -> None:
    options = _options(data, tmp_path / "a", cnn_epochs=1, naming=1.0, detected=9)
    with pytest.raises(ValueError, match="--detected 9: no word is in the captions of so many"):
        train(Training(**options))  # type: ignore[arg-type]


def test_a_frozen_random_cnn_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cnn-weights"):
        Training(str(data), str(tmp_path))


def test_a_captioner_is_trained_on_one_and_loaded_without_its_folder(
    data: Path, tmp_path: Path
) -> None:
    folder, model = tmp_path / "cnn", model_of("resnet", classifier=True)
    model.save_pretrained(folder)
    sizes: dict[str, Any] = {"size": 32, "embedding": 8, "hidden": 16, "batch": 4, "epochs": 1}
    how = Training(data=str(data), out=str(tmp_path / "out"), cnn=str(folder), **sizes)
    assert how.cnn.startswith("transformers:resnet {") and how.cnn_weights == str(folder)
    train(how)
    for file in folder.iterdir():
        file.unlink()
    captioner: Any = vlcam.load(tmp_path / "out")
    state = captioner.module.encoder.net.state_dict()
    for name, value in model.resnet.state_dict().items():
        assert torch.equal(state[name], value)
    explained = vlcam.explain(captioner, data / "Images" / "0.png", "a red square")
    assert explained.grid == Grid((4, 4), (0, 0), (8, 8))
    again = Training(data=str(data), out=str(tmp_path / "b"), cnn=how.cnn, cnn_epochs=1, **sizes)
    assert again.cnn == how.cnn and again.cnn_weights is None
    Encoder(how.cnn, (32, 32)).load_weights(tmp_path / "out")  # the CNN of a model of ours
