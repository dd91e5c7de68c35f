"""Vision encoders and text decoders of transformers: tiny random models of every kind known."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    BertConfig,
    RobertaConfig,
    TrOCRConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTImageProcessor,
)

import vlcam
from captioning.models.vision_encoder_decoder import VisionEncoderDecoder, _default_processor, load
from tests.samples.captioning.vision_encoder_decoder import (
    _SQUARE,
    ENCODERS,
    SIZE,
    gpt2,
    make,
    save,
)
from tests.samples.pretrained import (
    END,
    VOCABULARY,
    byte_level,
    log_probabilities,
    photo,
    word_pieces,
)
from vlcam.adapters.image_processor import ImageProcessor
from vlcam.adapters.pretrained import Pretrained
from vlcam.adapters.vision_encoders import _NORMALISED
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Grid

_BERT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "is_decoder": True, "add_cross_attention": True, "max_position_embeddings": 40,
}  # fmt: skip
_BYTES = len(byte_level("<s>"))


def adapter(layer: str | None = None, tokenizer: Any = None, **made: Any) -> VisionEncoderDecoder:
    """Of a model in memory, in float64."""
    module = make(**made).double().requires_grad_(False)
    processor = ImageProcessor(_default_processor(module))
    name = made.get("encoder", "tiny")
    return VisionEncoderDecoder(
        Pretrained(name, module, tokenizer or byte_level(), processor), layer
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("ved") / "tiny")


def look(model: VisionEncoderDecoder, dtype: torch.dtype = torch.float64) -> Tensor:
    return model.prepare(photo(50, 40))[0][None].to(dtype)


def own_scores(model: VisionEncoderDecoder, pixels: Tensor, labels: list[int]) -> Tensor:
    """log p of each label, by the model's own forward."""
    found = model.module(pixel_values=pixels, labels=torch.tensor([labels]))
    return log_probabilities(found.logits[0], labels)


def scores(model: VisionEncoderDecoder, pixels: Tensor, tokens: list[int]) -> Tensor:
    with torch.no_grad():
        return model.decode(encode(model, pixels), [tuple(tokens)])[0]


def test_every_known_encoder_is_tested() -> None:
    assert set(ENCODERS) == set(_NORMALISED)


@pytest.mark.parametrize("kind", ENCODERS)
def test_log_probabilities_and_maps_with_every_encoder(kind: str) -> None:
    """At the last layer and the first, against the whole model cut open by a hook."""
    first = adapter(encoder=kind).vision.layers[0]
    for layer in (None, first):
        model = adapter(layer, encoder=kind)
        pixels = look(model)
        reading = model.read("a photos, running")
        tokens = list(reading.prompt)  # type: ignore[call-overload]
        features = encode(model, pixels)
        grid = model.grid((pixels.shape[2], pixels.shape[3]))
        assert tuple(features.maps.shape[2:]) == grid.size
        torch.testing.assert_close(
            scores(model, pixels, [*tokens, 0]), own_scores(model, pixels, [*tokens, 0])
        )
        _, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
        words = [unit.scores for unit in reading.units]
        expected = slow_maps(model, model.module, pixels, tokens, words)
        torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-9)
        assert maps.amax() > 0


def slow_maps(
    model: VisionEncoderDecoder, module: Any, pixels: Tensor, tokens: list[int], words: Any
) -> Tensor:
    """One word at a time, through the whole model, whose layer's output is a leaf."""
    u, v = model.grid((pixels.shape[2], pixels.shape[3])).size
    kept: dict[str, Tensor] = {}

    def cut(_: Any, __: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        others = tensor.shape[1] - u * v
        kept["patches"] = tensor[:, others:].detach().requires_grad_()
        new = torch.cat([tensor[:, :others].detach(), kept["patches"]], 1)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = module.get_submodule(model.layer).register_forward_hook(cut)
    maps = []
    for columns in words:
        value = own_scores(model, pixels, tokens)[list(columns)].sum()
        (gradient,) = torch.autograd.grad(value, kept["patches"])
        cam = (gradient.mean(1, keepdim=True) * kept["patches"]).sum(2).clamp(min=0)
        maps.append(cam.detach().reshape(u, v))
    handle.remove()
    return torch.stack(maps)


@pytest.mark.parametrize("kind", ENCODERS)
def test_cells_are_where_the_patches_are(kind: str) -> None:
    """Where patches have not looked around yet, the one that changes is the one that moves."""
    model = adapter(encoder=kind)
    size = SIZE if isinstance(model.module.encoder.config.image_size, tuple | list) else (32, 32)
    side = ENCODERS[kind][1]
    rows, columns = size[0] // side, size[1] // side
    middle, stride = (side - 1) / 2, float(side)
    assert model.grid(size) == Grid((rows, columns), (middle, middle), (stride, stride))
    embedded = model.vision._embed
    plain = torch.zeros(1, 3, *size, dtype=torch.float64)
    patch = model.vision._patch[0]
    changed = plain.clone()
    changed[:, :, patch : 2 * patch, 2 * patch : 3 * patch] = 3.0  # row 1, column 2
    moved = (embedded(changed) - embedded(plain)).abs().sum(2)[0]
    place = int(moved.argmax()) - model.vision._others
    assert place == size[1] // patch + 2
    assert int((moved > 0).sum()) == 1


def test_swins_stages_and_blocks() -> None:
    sides = {}
    for layer in (
        "encoder.encoder.layers.0.blocks.0",
        "encoder.encoder.layers.0",
        "encoder.encoder.layers.1",
        "encoder.encoder.layers.2",
    ):
        model = adapter(layer, encoder="swin")
        features = encode(model, look(model))
        grid = model.grid(SIZE)
        assert grid.size == tuple(features.maps.shape[2:]) and model.layer == layer
        sides[layer] = grid.stride[0]
        torch.testing.assert_close(
            model.decode(features, [(65, 66)])[0], own_scores(model, look(model), [65, 66])
        )
    assert list(sides.values()) == [4, 8, 16, 16]


def test_layers_that_are_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no layer 'layer4'; known: encoder\.layers\.0 \.\.\. "):
        vlcam.load(folder, "layer4")


def bert() -> Any:
    return BertConfig(**_BERT, vocab_size=len(VOCABULARY), pad_token_id=0)


def roberta() -> Any:
    return RobertaConfig(**_BERT, vocab_size=_BYTES, pad_token_id=1, bos_token_id=1)


def trocr() -> Any:
    return TrOCRConfig(
        vocab_size=_BYTES, d_model=16, decoder_layers=2, decoder_attention_heads=2,
        decoder_ffn_dim=16, max_position_embeddings=40, pad_token_id=0, bos_token_id=1,
        decoder_start_token_id=0, eos_token_id=0,
    )  # fmt: skip


DECODERS: dict[str, tuple[Callable[[], Any], Any, dict[str, int]]] = {
    "bert": (bert, word_pieces(), {"start": 2, "end": 3}),
    "roberta": (roberta, byte_level("<s>"), {"start": 1, "end": 0}),
    "trocr": (trocr, byte_level("<s>"), {"start": 0, "end": 0}),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_captions_are_read_as_labels_are_made(kind: str) -> None:
    """With what the tokenizer puts before a text, which is not explained."""
    config, tokenizer, ends = DECODERS[kind]
    model = adapter(None, tokenizer, decoder=config(), **ends)
    pixels = look(model)
    reading = model.read("a dog photo")
    labels = model.tokenizer("a dog photo")["input_ids"]
    assert list(reading.prompt) == labels[:-1]  # type: ignore[call-overload]
    assert [unit.text for unit in reading.units] == ["a", "dog", "photo"]
    assert reading.units[0].scores == (1,)
    torch.testing.assert_close(scores(model, pixels, labels), own_scores(model, pixels, labels))
    longest = "a " * 60
    with pytest.raises(ValueError, match="tokens; tiny reads at most"):
        model.read(longest)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"num_beams": 4, "max_length": 9, "no_repeat_ngram_size": 2, "length_penalty": 2.0},
    {"min_length": 6, "repetition_penalty": 1.7, "max_new_tokens": 8, "early_stopping": True},
    {"forced_bos_token_id": 70, "forced_eos_token_id": 0, "max_length": 7},
    {"eos_token_id": [0, 104], "bad_words_ids": [[72]]},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_captions_equal_generate(settings: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Under settings as they are published: transformers itself would not write some of them."""
    other = shutil.copytree(folder, tmp_path / "tiny")
    file = other / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    model = load(other)
    pixels = look(model, torch.float32)
    ends = settings.get("eos_token_id", [0])
    for beam in (1, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its default length is a default
            own = model.module.generate(pixel_values=pixels, num_beams=beam, do_sample=False)
        expected = own[0, 1:].tolist()
        cut = next((i for i, token in enumerate(expected) if token in ends), len(expected))
        written = model.write(encode(model, pixels), beam)
        assert list(written.prompt) == expected[:cut]  # type: ignore[call-overload]


# What published folders are like.


OLD = [
    ("encoder.layers.", "encoder.encoder.layer."),
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
]


def old_names(folder: Path) -> None:
    """Names and buffers of transformers 4.15, which published models were written by."""
    state = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("encoder."):
            for new, old in OLD:
                name = name.replace(new, old)
        renamed[name] = tensor
    for i in range(2):
        for part in ("attn", "crossattention"):
            place = f"decoder.transformer.h.{i}.{part}"
            renamed[f"{place}.bias"] = torch.ones(1, 1, 24, 24).tril()
            renamed[f"{place}.masked_bias"] = torch.tensor(-1e4)
    (folder / "model.safetensors").unlink()
    torch.save(renamed, folder / "pytorch_model.bin")


def pytorch_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder: Path) -> None:
    model = VisionEncoderDecoderModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def no_pooler(folder: Path) -> None:
    """As of TrOCR: the part of the encoder that is never run has no weights."""
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "pooler" not in name}
    assert len(kept) == len(state) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def no_generation_settings(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def old_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    merges = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").unlink()


def padding_token(folder: Path) -> None:
    """Added to the tokenizer, but not to the model."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)


PUBLISHED = [
    old_names, pytorch_bin, sharded, no_pooler, no_generation_settings, old_tokenizer,
    padding_token,
]  # fmt: skip


@pytest.fixture(scope="module")
def explained(folder: Path) -> tuple[vlcam.Explanation, str]:
    """A caption and the model's own, of the folder as it is."""
    model = load(folder)
    own = vlcam.explain(model, photo(50, 40)).caption
    return vlcam.explain(model, photo(50, 40), "a photos dogs"), own


@pytest.mark.parametrize("change", PUBLISHED)
def test_folders_as_they_are_published(
    change: Callable[[Path], None],
    folder: Path,
    explained: tuple[vlcam.Explanation, str],
    tmp_path: Path,
) -> None:
    change(shutil.copytree(folder, tmp_path / "tiny"))
    model = load(tmp_path / "tiny")
    found = vlcam.explain(model, photo(50, 40), "a photos dogs")
    assert [w.text for w in found.words] == ["a", "photos", "dogs"]
    assert found.words == explained[0].words and torch.equal(found.maps, explained[0].maps)
    assert vlcam.explain(model, photo(50, 40)).caption == explained[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_folder_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    """It is run in its own precision; maps and scores are float32, and close."""
    half = load(save(tmp_path / "half", dtype=dtype))
    assert {p.dtype for p in half.module.parameters()} == {dtype}
    rough = vlcam.explain(half, photo(50, 40), "a photos dog")
    half.module.float()
    exact = vlcam.explain(half, photo(50, 40), "a photos dog")
    assert rough.maps.dtype == torch.float32 and rough.maps.isfinite().all()
    for a, b in zip(exact.words, rough.words, strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, abs=0.3)
    cosines = torch.cosine_similarity(rough.maps.flatten(1), exact.maps.flatten(1))
    assert cosines.min() > 0.95
    half.module.to(dtype)
    assert vlcam.explain(half, photo(50, 40)).caption


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(folder, tmp_path / "kept")
    settings = {"height": SIZE[0], "width": SIZE[1]}
    ViTImageProcessor(size=settings, image_mean=[0.1, 0.2, 0.3], resample=3).save_pretrained(kept)
    model = load(kept, "encoder.layers.1")
    model.save(tmp_path / "again")
    again = vlcam.load(tmp_path / "again", "encoder.layers.1")
    assert isinstance(again, VisionEncoderDecoder)
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name])
    a, b = (vlcam.explain(m, photo(50, 40), beam=2) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps)
    pixels = [m.prepare(photo(50, 40))[0] for m in (model, again, load(folder))]
    assert torch.equal(pixels[0], pixels[1]) and not torch.equal(pixels[0], pixels[2])


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            part, _, key = name.partition("__")
            (config[part] if key else config)[key or part] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _processor(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))

    return change


def _fewer_tokens(folder: Path) -> None:
    byte_level("<s>").save_pretrained(folder)


def _slow_tokenizer(folder: Path) -> None:
    old_tokenizer(folder)
    settings = {"tokenizer_class": "CTRLTokenizer", "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


PROBLEMS: dict[str, Callable[[Path], None]] = {
    "CTRLTokenizer is no fast tokenizer; expected tokenizer.json": _slow_tokenizer,
    "no tokenizer; expected tokenizer.json": lambda f: (f / "tokenizer.json").unlink(),
    "the tokenizer has token 269, the model only 269": _fewer_tokens,
    "has shape (7, 12)": lambda f: _replaced(f, "encoder.embeddings.position_embeddings"),
    "missing encoder.layernorm.weight": lambda f: _replaced(f, "encoder.layernorm.weight", None),
    "image processor makes inputs of 64 x 64, the model takes 32 x 48": _processor(
        image_processor_type="ViTImageProcessor", size={"height": 64, "width": 64}
    ),
    "as the photo's shape has it": _processor(
        image_processor_type="CLIPImageProcessor", size={"shortest_edge": 64}, do_center_crop=False
    ),
    "DonutImageProcessor prepares photos with steps": _processor(
        image_processor_type="DonutImageProcessor"
    ),
    "image processor: ": _processor(image_processor_type="NoSuchProcessor"),
}


def _replaced(folder: Path, name: str, tensor: Tensor | None = torch.zeros(7, 12)) -> None:  # noqa: B008
    state = load_file(folder / "model.safetensors")
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_folders_are_named_in_one_line(folder: Path, tmp_path: Path, message: str) -> None:
    bad = shutil.copytree(folder, tmp_path / "bad")
    PROBLEMS[message](bad)
    with pytest.raises(ValueError) as error:
        vlcam.load(bad)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "bad" in str(error.value)


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        AutoConfig.for_model("vit_mae", **_SQUARE), gpt2(), decoder_start_token_id=0
    )
    VisionEncoderDecoderModel(config).save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its photos go through vit_mae; only vit, deit"):
        load(tmp_path)


def test_captions_that_are_too_long(folder: Path) -> None:
    with pytest.raises(ValueError, match="has 25 tokens; tiny reads at most 24"):
        load(folder).read("a" * 25)


def test_attention_is_followed_through_the_decoders_own_layers(tmp_path: Path) -> None:
    """BART's configuration counts its encoder's layers; it has none here."""
    for layers, kind in ((1, "bart"), (3, "bart"), (1, "mbart")):
        sizes = {"d_model": 12, "decoder_layers": layers, "decoder_attention_heads": 2}
        decoder = AutoConfig.for_model(
            kind, vocab_size=len(byte_level()), encoder_layers=2, encoder_attention_heads=2,
            decoder_ffn_dim=8, is_decoder=True, add_cross_attention=True,
            max_position_embeddings=24, cross_attention_hidden_size=12, **sizes,
        )  # fmt: skip
        model = load(save(tmp_path / f"{kind}-{layers}", decoder=decoder))
        found = vlcam.explain(model, photo(50, 40), "a dog", method="attention-rollout")
        assert not any(word.degenerate for word in found.words)


@pytest.mark.parametrize("kind", ["swin", "swinv2", "donut-swin"])
def test_a_photo_that_swins_patches_do_not_fill(kind: str, tmp_path: Path) -> None:
    """Swin fills it up: the last row of patches lies partly outside."""
    config = AutoConfig.for_model(kind, **ENCODERS[kind][0] | {"image_size": (30, 46)})
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        config, gpt2(), decoder_start_token_id=0, pad_token_id=0, eos_token_id=0
    )
    VisionEncoderDecoderModel(both).save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    for layer, size in (("encoder.encoder.layers.0.blocks.0", (8, 12)), (None, (2, 3))):
        model = load(tmp_path, layer)
        pixels, _ = model.prepare(photo(50, 40))
        assert pixels.shape == (3, 30, 46) and model.grid((30, 46)).size == size
        assert model.encode(pixels[None]).maps.shape[2:] == size
        assert vlcam.explain(model, photo(50, 40), "a dog").maps.shape[1:] == size
