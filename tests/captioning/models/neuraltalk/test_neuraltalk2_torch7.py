"""NeuralTalk2's checkpoints of Torch7: tiny ones in its own layout against slow plain loops."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vlcam
from captioning.models.neuraltalk import neuraltalk2_torch7
from captioning.models.neuraltalk.neuraltalk2 import NeuralTalk2Captioner
from captioning.models.neuraltalk.neuraltalk2_torch7 import load
from tests.samples.captioning.neuraltalk2_torch7 import (
    LONGEST,
    WORDS,
    E,
    H,
    V,
    Weights,
    checkpoint,
    weights,
    write_checkpoint,
)
from tests.samples.torch7_files import Writer, save
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.targets import Target, Term, units, whole
from vlcam.formats.torch7 import LuaObject

MEAN = np.float32([123.68, 116.779, 103.939])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


# --- the model once more, one step after the other


def slow_cnn(w: Weights, x: Tensor, guided: bool = False) -> tuple[Tensor, Tensor]:
    """RGB pixels (3, 224, 224) less their mean to the last convolution's rectified maps (leaf of
    what follows, unless guided) and the embedding (E,)."""

    def t(name: str) -> Tensor:
        return torch.from_numpy(w[name]).double()

    def relu(x: Tensor) -> Tensor:
        result = x.clamp(min=0)
        if guided:
            result.register_hook(lambda gradient: gradient.clamp(min=0))
        return result

    blocks = sorted({name[4] for name in w if name.startswith("conv")})
    for block in blocks:
        place = 1
        while f"conv{block}_{place}.weight" in w:
            name = f"conv{block}_{place}"
            x = relu(torch.conv2d(x, t(f"{name}.weight"), t(f"{name}.bias"), padding=1))
            place += 1
        if block == blocks[-1] and not guided:
            x = x.detach().requires_grad_()
        maps, x = x, torch.max_pool2d(x[None], 2, ceil_mode=True)[0]
    x = x.flatten()
    for name in ("fc6", "fc7", "embed"):
        x = relu(t(f"{name}.weight") @ x + t(f"{name}.bias"))
    return maps, x


def slow_log_probabilities(w: Weights, layers: int, image: Tensor, words: list[int]) -> Tensor:
    """Rows l: log-probabilities (V + 1,) of word l (1 ... V) and the end (V + 1), at index - 1."""

    def linear(name: str, x: Tensor) -> Tensor:
        weight, bias = (torch.from_numpy(w[f"{name}.{k}"]).double() for k in ("weight", "bias"))
        return weight @ x + bias

    table = torch.from_numpy(w["lookup_table.weight"]).double()
    c = [torch.zeros(H, dtype=torch.float64) for _ in range(layers)]
    h = list(c)
    rows = []
    for x in [image, *(table[word - 1] for word in [V + 1, *words])]:
        for k in range(layers):
            sums = linear(f"i2h_{k + 1}", x) + linear(f"h2h_{k + 1}", h[k])
            write, forget, show = (sums[i * H : (i + 1) * H].sigmoid() for i in range(3))
            c[k] = forget * c[k] + write * sums[3 * H :].tanh()
            x = h[k] = show * c[k].tanh()
        y = linear("decoder", x)
        rows.append(y - y.exp().sum().log())
    return torch.stack(rows[1:])


def slow_caption(w: Weights, image: Tensor, beams: int) -> list[int]:
    """Greedy or beam search over whole captions, each scored anew from the start."""

    def next_(words: list[int]) -> list[float]:
        return slow_log_probabilities(w, 1, image, words)[-1].tolist()

    if beams == 1:
        words: list[int] = []
        for _ in range(LONGEST):
            scores = next_(words)
            words.append(1 + scores.index(max(scores)))
    else:
        kept, done = [(0.0, list[int]())], []
        for length in range(1, LONGEST + 1):
            found = [
                (total + score, [*words, word])
                for total, words in kept
                for word, score in enumerate(next_(words), 1)
            ]
            kept = sorted(found, reverse=True)[:beams]
            done += [one for one in kept if one[1][-1] == V + 1 or length == LONGEST]
        words = max(done)[1]
    return words[: words.index(V + 1)] if V + 1 in words else words


def photo(width: int = 300, height: int = 200, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height))


# --- what the model says


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_log_probabilities_and_maps_are_those_of_slow_loops(tmp_path: Path, layers: int) -> None:
    w = weights(layers=layers)
    save(tmp_path / "a.t7", checkpoint(w, layers))
    model = load(tmp_path / "a.t7")
    assert model.layer == "relu5_2" and model.name == "a"
    model.module.double()
    pixels, _ = model.prepare(photo())
    features = encode(model, pixels[None].double())
    maps, image = slow_cnn(w, pixels.double())
    torch.testing.assert_close(features.maps[0], maps.detach())
    reading = model.read("A dog, on zebra grass!")
    assert reading.prompt == (1, 2, 3, 6, 4)
    assert [unit.unknown for unit in reading.units] == [False, False, False, True, False]
    scores, found = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    slow = slow_log_probabilities(w, layers, image, [1, 2, 3, 6, 4])
    for k, (place, word) in enumerate([(0, 1), (1, 2), (2, 3), (4, 4)]):
        value = slow[place, word - 1]
        assert float(scores[k]) == pytest.approx(value.item(), abs=1e-9)
        (gradient,) = torch.autograd.grad(value, maps, retain_graph=True)
        cam = (gradient.mean((1, 2))[:, None, None] * maps).sum(0).clamp(min=0)
        torch.testing.assert_close(found[k], cam.detach())
    assert found.amax() > 0
    with torch.no_grad():  # the end is scored as a word is: token 0 behind the last
        ended = model.decode(features, [(1, 2, 0)])[0, 2]
    assert float(ended) == pytest.approx(slow[2, V].item(), abs=1e-9)


def test_captions_are_those_of_slow_search(tmp_path: Path) -> None:
    written = set()
    for seed in range(4):
        w = weights(seed)
        save(tmp_path / "a.t7", checkpoint(w))
        model = load(tmp_path / "a.t7")
        model.module.double()
        pixels, _ = model.prepare(photo(seed=seed))
        _, image = slow_cnn(w, pixels.double())
        features = encode(model, pixels[None].double())
        for beam in (1, 2, 3, 5):
            words = model.generate(features, beam)
            expected = slow_caption(w, image, beam)
            assert [word.tokens for word in words] == [(word,) for word in expected], (seed, beam)
            assert [word.text for word in words] == [WORDS[word - 1] for word in expected]
            written.add(tuple(expected))
    assert len(written) > 3 and len({len(words) for words in written}) > 1
    with pytest.raises(ValueError, match="too few words to search with 9 beams"):
        model.generate(features, 9)


@pytest.mark.parametrize(
    ("float_", "backend", "matrices"),
    [("Cuda", "cudnn", False), ("Float", "nn", True), ("Double", "nn", False)],
)
def test_other_spellings_are_the_same_model(
    path: Path, float_: str, backend: str, matrices: bool
) -> None:
    w = weights()
    if float_ == "Double":
        w = {name: value.astype(np.float64) for name, value in w.items()}
    other = path.with_name("other.t7")
    save(other, checkpoint(w, 1, backend, matrices), float_)
    expected = load(path).module.state_dict()
    for name, value in load(other).module.state_dict().items():
        assert torch.equal(value, expected[name]) and value.dtype == torch.float32


def test_a_graph_without_names_is_read_in_its_order(path: Path) -> None:
    table = checkpoint(weights())
    for node in table["protos"]["lm"].fields["core"].fields["forwardnodes"].values():
        del node.fields["data"]["annotations"]
    save(path.with_name("other.t7"), table)
    expected = load(path).module.state_dict()
    for name, value in load(path.with_name("other.t7")).module.state_dict().items():
        assert torch.equal(value, expected[name])


def test_functions_and_cycles_in_the_graph_are_read_past(path: Path) -> None:
    writer = Writer()
    table = checkpoint(weights())
    writer.ints(3, writer.number(), len(table) + 3)
    for kind in (6, 7, 8):
        writer.value(f"function {kind}").ints(kind)
        if kind != 6:
            writer.ints(writer.number())
        writer.text("\x1bLJ bytecode")
        writer.value({1: {"name": "self", "value": 1}})
    for key, value in table.items():
        writer.value(key).value(value)
    path.write_bytes(writer.data)
    assert vlcam.load(path).read("dog").prompt == (2,)


def test_guided_gradients_pass_the_rectified_embedding_but_not_the_lstm(path: Path) -> None:
    w = weights()
    model = load(path)
    model.module.double()
    pixels, _ = model.prepare(photo())
    target = whole(model.read("a dog on grass"))
    leaf = pixels.double().requires_grad_()
    _, image = slow_cnn(w, leaf.clone(), guided=True)
    arriving: list[Tensor] = []
    image.register_hook(arriving.append)
    slow = slow_log_probabilities(w, 1, image, [1, 2, 3, 4])
    value = torch.stack([slow[k, word - 1] for k, word in enumerate([1, 2, 3, 4])]).sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    method = methods.get("guided-backprop")
    _, maps = explain_at_pixels(model, pixels[None].double(), [target], method)
    torch.testing.assert_close(maps[0], gradient.abs().amax(0))
    assert maps.amax() > 0 and arriving[0][image > 0].amin() == 0


# --- photos and captions


def test_photos_are_prepared_as_neuraltalk2_does(path: Path) -> None:
    picture = np.asarray(photo(256, 256))  # as large as it is stretched to, so only cut
    pixels, placement = load(path).prepare(Image.fromarray(picture))
    expected = picture[15:239, 15:239].astype(np.float32) - MEAN
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)
    assert placement.to_photo(0, 0) == (15, 15)
    _, placement = load(path).prepare(photo(512, 128))
    assert placement.to_photo(223, 223)[1] == 2 * 238.5 - 0.5
    assert placement.to_photo(0, 0)[0] == pytest.approx(15 * 127 / 255)  # it grows: ends on ends


def test_the_papers_script_reads_photos_and_captions_its_own_way(path: Path) -> None:
    own, script = load(path), load(path, paper_script=True)
    picture = photo(224, 224)
    pixels, placement = script.prepare(picture)
    values = np.asarray(picture).astype(np.float32) - MEAN
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), values, atol=2e-5)
    assert placement.to_photo(0, 0) == (0, 0)
    maps = own.encode(pixels[None].flip(1)).maps  # what was trained with RGB is fed with BGR
    torch.testing.assert_close(script.encode(pixels[None]).maps, maps, rtol=1e-4, atol=1e-4)
    for model, prompt in ((own, (1, 6, 6)), (script, (6, 2, 6, 6))):
        assert model.read("A dog's nose").prompt == prompt
    assert script.describe()["paper_script"] is True and "paper_script" not in own.describe()


def test_longer_captions_than_it_was_trained_with_are_cut_with_a_warning(path: Path) -> None:
    model = load(path)
    with pytest.warns(UserWarning, match="has 8 words, model_idtiny knows captions of 6"):
        reading = model.read("a dog on a dog on a dog")
    assert [unit.text for unit in reading.units] == ["a", "dog", "on", "a", "dog", "on"]


def test_cells_are_centred_and_sizes_fixed(path: Path) -> None:
    model = load(path, "pool4")
    grid = model.grid((224, 224))
    assert (grid.size, grid.offset, grid.stride) == ((14, 14), (7.5, 7.5), (16, 16))
    with pytest.raises(ValueError, match="at its own size only"):
        model.resize((448, 448))
    with pytest.raises(ValueError, match="layer 'relu9' of this CNN: unknown"):
        load(path, "relu9")


def test_a_photo_is_explained_with_one_look(path: Path) -> None:
    model = vlcam.load(path)
    assert isinstance(model, NeuralTalk2Captioner)
    calls = []
    handle = model.module.encoder.conv1_1.register_forward_hook(
        lambda _, inputs, __: calls.append(inputs[0].device.type)
    )
    explanation = vlcam.explain(model, photo(), "a dog on zebra grass")
    handle.remove()
    assert calls.count("cpu") == 1  # and one of shapes alone, for the places of the cells
    assert [word.text for word in explanation.words] == ["a", "dog", "on", "grass"]
    assert explanation.unknown == ("zebra",)
    assert explanation.maps.shape[1:] == (14, 14)


# --- files


@pytest.mark.parametrize("paper_script", [False, True])
def test_what_is_saved_is_the_same_model(path: Path, tmp_path: Path, paper_script: bool) -> None:
    model = load(path, paper_script=paper_script)
    model.save(tmp_path / "saved")
    again = vlcam.load(tmp_path / "saved")
    assert isinstance(again, NeuralTalk2Captioner) and again.name == "saved"
    assert again.module.config == model.module.config
    expected = model.module.state_dict()
    for name, value in again.module.state_dict().items():
        assert torch.equal(value, expected[name])
    pixels, _ = again.prepare(photo())
    assert torch.equal(pixels, model.prepare(photo())[0])
    assert torch.equal(again.encode(pixels[None]).maps, model.encode(pixels[None]).maps)
    # Asked for once more, the script's way is not taken twice.
    script = load(tmp_path / "saved", paper_script=True)
    first = "encoder.conv1_1.weight"
    other = load(path, paper_script=True).module.state_dict()[first]
    assert torch.equal(script.module.state_dict()[first], other)


def test_it_is_found_by_file_or_folder(path: Path, tmp_path: Path) -> None:
    for place in (path, path.parent):
        assert neuraltalk2_torch7.recognises(place)
        assert isinstance(vlcam.load(place), NeuralTalk2Captioner)
    save(path.with_name("of_others.t7"), {"vectors": np.ones(3, np.float32)})
    assert isinstance(vlcam.load(path.parent), NeuralTalk2Captioner)
    save(path.with_name("second.t7"), checkpoint(weights(1)))
    with pytest.raises(ValueError, match=r"found model_idtiny\.t7, second\.t7; give the file"):
        vlcam.load(path.parent)
    (tmp_path / "empty").touch()
    (tmp_path / "text.t7").write_text("nn.LanguageModel protos")
    language = LuaObject("nn.LanguageModel", {})
    save(tmp_path / "densecap.t7", {"model": LuaObject("DenseCapModel", {"lm": language})})
    for name in ("empty", "text.t7", "densecap.t7", "none", "."):
        assert name == "." or not neuraltalk2_torch7.recognises(tmp_path / name)


def test_what_breaks_off_is_told_of(path: Path) -> None:
    whole_ = path.read_bytes()
    path.write_bytes(whole_[:-10])
    assert neuraltalk2_torch7.recognises(path)
    with pytest.raises(ValueError, match=r"model_idtiny\.t7: not a readable Torch7 file \(it ends"):
        vlcam.load(path)
    for length in range(0, len(whole_), 509):
        path.write_bytes(whole_[:length])
        neuraltalk2_torch7.recognises(path)
        with pytest.raises(ValueError, match="model_idtiny"):
            load(path)


def _lm(table: Any) -> dict[str, Any]:
    fields: dict[str, Any] = table["protos"]["lm"].fields
    return fields


def _layer(table: Any, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = table["protos"]["cnn"].fields["modules"][number].fields
    return fields


def _named(table: Any, name: str) -> dict[str, Any]:
    for module in _lm(table)["core"].fields["modules"].values():
        if module.fields["name"] == name:
            fields: dict[str, Any] = module.fields
    return fields


def _replaced(table: Any, number: int, kind: str) -> None:
    table["protos"]["cnn"].fields["modules"][number].kind = kind


PROBLEMS: dict[str, Callable[[Any], Any]] = {
    "vocab is None, expected a table of words": lambda t: t.pop("vocab"),
    "vocab has 5 words, but no word '3'": lambda t: t["vocab"].pop("3"),
    "the vocabulary has 5 words, embed_word 6": lambda t: t["vocab"].pop("6"),
    "words must be a list of texts": lambda t: t["vocab"].update({"2": 7}),
    "longest is None": lambda t: _lm(t).pop("seq_length"),
    "longest is a dictionary of 1": lambda t: _lm(t).update(seq_length={1: {1: {1: "a"}}}),
    "vocab has 7 words, but no word '7'": lambda t: t["vocab"].update({2.5: "half"}),
    "it has 1 layers of LSTM, num_layers is 2": lambda t: _lm(t).update(num_layers=2),
    "no protos.lm of class nn.LanguageModel": lambda t: t["protos"].pop("lm"),
    "no tensor weight of lookup_table": lambda t: _lm(t).pop("lookup_table"),
    "no tensor bias of h2h_1": lambda t: _named(t, "h2h_1").pop("bias"),
    "no tensor weight of decoder": lambda t: _named(t, "decoder").update(weight=np.ones(3)),
    "i2h_1 has 31 rows, not those of four gates": lambda t: _named(t, "i2h_1").update(
        weight=np.ones((31, E))
    ),
    "rnn.weight_ih_l0 has shape (32, 6), expected (32, 11)": lambda t: _named(t, "i2h_1").update(
        weight=np.ones((32, 6))
    ),
    "rnn.bias_hh_l0 holds numbers that are not finite": lambda t: _named(t, "h2h_1").update(
        bias=np.full(32, np.nan)
    ),
    "its CNN is no VGG": lambda t: _replaced(t, 2, "nn.Dropout"),
    "its CNN has a layer of class 'SpatialAveragePooling'": lambda t: _replaced(
        t, 3, "nn.SpatialAveragePooling"
    ),
    "layer 1 of its CNN has dW 2, expected 1": lambda t: _layer(t, 1).update(dW=2),
    "layer 3 of its CNN has kW 3, expected 2": lambda t: _layer(t, 3).update(kW=3),
    "no tensor weight of layer 1 of its CNN": lambda t: _layer(t, 1).pop("weight"),
    "weight of layer 1 of its CNN has shape (3, 26)": lambda t: _layer(t, 1).update(
        weight=np.ones((3, 26))
    ),
    "layer 1 of its CNN has kernels of 2 x 2": lambda t: _layer(t, 1).update(
        weight=np.ones((3, 3, 2, 2))
    ),
    "fc6 takes 148 numbers, the layers before it make 147": lambda t: _layer(t, 21).update(
        weight=np.ones((16, 148))
    ),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    table = checkpoint(weights())
    PROBLEMS[message](table)
    path = tmp_path / "bad.t7"
    save(path, table)
    with pytest.raises(ValueError) as error:
        load(path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: not a checkpoint of NeuralTalk2: ")


def test_a_saved_folder_that_was_spoilt(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    load(path).save(folder)
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"longest": 0}, "longest is 0"),
        ({"words": ["a", 3]}, "words must be a list of texts"),
        ({"words": ["a"]}, "the vocabulary has 1 words, embed_word 6"),
        ({"paper_script": 1}, "paper_script is 1"),
        ({"preprocess": {"size": [96, 96]}}, "photos are prepared to"),
        ({"preprocess": config["preprocess"] | {"corner": [40, 0]}}, r"corner \(40, 0\)"),
        ({"more": 1}, "not a captioner's configuration"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message) as error:
            vlcam.load(folder)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_nothing_but_tables_ends_soon(tmp_path: Path) -> None:
    data = b"".join(struct.pack("<iiiid", 3, i, 1, 1, 1.0) for i in range(1, 300_000))
    (tmp_path / "deep.t7").write_bytes(data)
    assert not neuraltalk2_torch7.recognises(tmp_path / "deep.t7")


def test_rows_of_one_image_need_one_look_behind_the_layer(path: Path) -> None:
    model = load(path)
    pixels, _ = model.prepare(photo())
    features = encode(model, pixels[None])
    prompts = [(1, 2), (3, 4, 5)]
    rows = FeatureMaps(features.maps.repeat(2, 1, 1, 1), {}, torch.tensor([0, 0]))
    with torch.no_grad():
        together = model.decode(rows, prompts)
        for row, prompt in enumerate(prompts):
            alone = model.decode(features, [prompt])[0]
            torch.testing.assert_close(together[row, : len(prompt)], alone)
    term = Term(1.0, (1, 2), (0, 1))
    _, maps = explain_at_layer(model, features, [Target("", (term,))] * 2, methods.get("grad-cam"))
    torch.testing.assert_close(maps[0], maps[1])
