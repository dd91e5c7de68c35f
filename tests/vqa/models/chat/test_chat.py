"""Chat models: tiny random ones of each family, beside transformers' own processors and passes."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers
from torch import Tensor, nn
from transformers import (
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

import vlcam
from tests.samples.chat_models import FAMILIES, IMAGES, QWEN_TEMPLATE, photo, save
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.subwords import Subwords
from vlcam.adapters.teacher_forcing import padded
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import units, whole
from vlcam.geometry.grid import Placement
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.chat.chat import ChatModel
from vqa.models.chat.llava import Llava
from vqa.models.chat.smolvlm import SmolVLM

KINDS = list(FAMILIES)
UNLIKE = ["llava", "qwen2_5_vl", "qwen3_vl", "smolvlm"]
"""One of each of those that share their code."""
LAYERS = {
    "llava": [f"model.vision_tower.encoder.layers.{i}" for i in range(3)]
    + ["model.multi_modal_projector"],
    "qwen": [f"model.visual.blocks.{i}" for i in range(3)] + ["model.visual.merger"],
    "smolvlm": [f"model.vision_model.encoder.layers.{i}" for i in range(3)] + ["model.connector"],
}
QUESTION, ANSWER = "is the dog red?", "a red dog"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("chat")
    return {kind: save(top / kind, kind) for kind in KINDS}


@lru_cache
def loaded(folder: Path, layer: str | None = None) -> ChatModel:
    model = vlcam.load(folder, layer)
    assert isinstance(model, ChatModel)
    return model


def seen(model: ChatModel, picture: Image.Image | None = None) -> FeatureMaps:
    pixels, _ = model.prepare(picture or photo())
    return encode(model, pixels[None])


def original_inputs(kind: str, model: ChatModel, question: str = QUESTION) -> dict[str, Tensor]:
    """What transformers' own processor makes of the photo and the question."""
    words, eyes = model._parts.tokenizer, model._parts.processor
    if kind == "llava":
        own: Any = LlavaProcessor(
            eyes, words, patch_size=8, vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )  # fmt: skip
    elif FAMILIES[kind] == "qwen":
        own = Qwen2VLProcessor(eyes, words, Qwen2VLVideoProcessor())
        if kind == "qwen3_vl":
            own = Qwen3VLProcessor(eyes, words, Qwen3VLVideoProcessor())
    else:  # SmolVLM's needs a package, and does the same
        cut = Idefics3ImageProcessor(size={"longest_edge": 48}, max_image_size={"longest_edge": 16})
        own = Idefics3Processor(cut, words, image_seq_len=4)
    own.chat_template = model._parts.template
    shown = [{"type": "image", "image": photo()}, {"type": "text", "text": question}]
    return own.apply_chat_template(
        [{"role": "user", "content": shown}], add_generation_prompt=True, tokenize=True,
        return_dict=True, return_tensors="pt",
    )  # fmt: skip


def original_scores(kind: str, model: ChatModel, tokens: tuple[int, ...]) -> Tensor:
    """log p of each token of an answer by the model's own forward pass."""
    inputs = dict(original_inputs(kind, model))
    start = inputs["input_ids"].shape[1]
    longer = torch.tensor([tokens])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], longer], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        types = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(longer)], 1)
    with torch.no_grad():
        logits = model.module(**inputs).logits
    steps = logits[0, start - 1 : -1].log_softmax(-1)
    return steps.gather(1, longer[0][:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_models_own_at_every_layer(kind: str, folders: dict[str, Path]) -> None:
    names = LAYERS[FAMILIES[kind]]
    if kind == "smolvlm":
        names = [*names, *(f"{name}/overview" for name in names)]
    expected, parts = None, loaded(folders[kind])._parts
    for name in names:
        model: ChatModel = type(loaded(folders[kind]))(parts, name)  # type: ignore[arg-type]
        answer = model.read_answer(model.understand(QUESTION), ANSWER)
        if expected is None:
            expected = original_scores(kind, model, answer.prompt.answer)  # type: ignore[attr-defined]
            assert model.kept_bytes(seen(model)) > 0
        with torch.no_grad():
            found = model.decode(seen(model), [answer.prompt])
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_equal_the_processors(kind: str, folders: dict[str, Path]) -> None:
    model = loaded(folders[kind])
    asked = model.prompt_ids(model.understand(QUESTION), seen(model))
    assert asked == original_inputs(kind, model)["input_ids"][0].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 3])
def test_answers_equal_generate(kind: str, beam: int, folders: dict[str, Path]) -> None:
    model = loaded(folders[kind])
    inputs = original_inputs(kind, model)
    settings = {"num_beams": beam, "do_sample": False, "max_new_tokens": 7}
    notes = model.module.model.__dict__.copy()
    longest, model.longest = model.longest, 7
    written = model.write_answer(seen(model), model.understand(QUESTION), beam)
    model.longest = longest
    assert model.module.model.__dict__ == notes
    original = model.module.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
    tokens = original.tolist()
    tokens = tokens[: tokens.index(0)] if 0 in tokens else tokens
    assert list(written.prompt.answer) == tokens  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", UNLIKE)
def test_cells_lie_where_their_patches_do(kind: str, folders: dict[str, Path]) -> None:
    """Blocks that do not look around: what changes with a patch of the input is its cell alone."""
    for name in (LAYERS[FAMILIES[kind]][0], LAYERS[FAMILIES[kind]][-1]):
        model = vlcam.load(folders[kind], name)
        for parameter_name, parameter in model.module.named_parameters():
            if "attn.out_proj" in parameter_name or "attn.proj" in parameter_name:
                nn.init.zeros_(parameter)
        pixels, _ = model.prepare(photo())
        size = (pixels.shape[1], pixels.shape[2])
        grid, before = model.grid(size), model.encode(pixels[None]).maps
        assert before.shape[2:] == grid.size
        for cell in ((0, 0), (1, 2), (grid.size[0] - 1, grid.size[1] - 2)):
            y, x = (round(at) for at in grid.center(*cell))
            spot = pixels.clone()
            spot[:, y, x] += 0.5
            change = (model.encode(spot[None]).maps - before).abs().amax(1)[0]
            (where,) = (change > 1e-4).nonzero().tolist()
            assert tuple(where) == cell


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "smolvlm"])
def test_maps_equal_those_of_a_hook(kind: str, folders: dict[str, Path]) -> None:
    model = vlcam.load(folders[kind])
    assert isinstance(model, ChatModel)
    answer = model.read_answer(model.understand(QUESTION), ANSWER)
    _, maps = explain_at_layer(model, seen(model), [whole(answer)], METHODS["grad-cam"])
    kept: list[Tensor] = []
    block = model.module.get_submodule(model.layer)
    handle = block.register_forward_hook(lambda _, __, out: kept.append(out.requires_grad_()))
    inputs = dict(original_inputs(kind, model))
    tokens = torch.tensor([answer.prompt.answer])  # type: ignore[attr-defined]
    start = inputs["input_ids"].shape[1]
    for name, more in (("input_ids", tokens), ("mm_token_type_ids", torch.zeros_like(tokens))):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], more], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    steps = model.module(**inputs).logits[0, start - 1 : -1].log_softmax(-1)
    handle.remove()
    (gradient,) = torch.autograd.grad(steps.gather(1, tokens[0][:, None]).sum(), kept)
    tokens_at, slopes = kept[0].detach(), gradient
    u, v = maps.shape[1:]
    if kind == "llava":
        laid = [some[0, 1:].reshape(u, v, -1) for some in (tokens_at, slopes)]
    elif kind == "qwen2_vl":
        order = torch.arange(u * v).view(u // 2, v // 2, 2, 2).permute(0, 2, 1, 3).flatten()
        laid = [some[order].reshape(u, v, -1) for some in (tokens_at, slopes)]
    else:
        laid = [
            torch.cat([torch.cat(list(some[3 * r : 3 * r + 3].unflatten(1, (4, 4))), 1)
                       for r in range(3)])
            for some in (tokens_at, slopes)
        ]  # fmt: skip
    expected = (laid[0] * laid[1].mean((0, 1))).sum(-1).relu()
    torch.testing.assert_close(maps[0], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("kind", UNLIKE)
def test_rows_do_not_influence_each_other(kind: str, folders: dict[str, Path]) -> None:
    model = loaded(folders[kind])
    features = seen(model)
    asked = [
        model.read_answer(model.understand(question), answer).prompt
        for question, answer in ((QUESTION, "red"), ("a?", "a dog is red, is it?"), ("is it?", "a"))
    ]
    rows = torch.tensor([0, 0, 0])
    with torch.no_grad():
        together = model.decode(features.rows(rows), asked)
        for row, prompt in enumerate(asked):
            assert isinstance(prompt, AnswerPrompt)
            alone = model.decode(features.rows(rows[:1]), [prompt])
            length = len(prompt.answer)
            torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", UNLIKE)
def test_saved_and_loaded_again(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model = loaded(folders[kind])
    model.save(tmp_path / "again")
    again = vlcam.load(tmp_path / "again")
    assert isinstance(again, type(model)) and again.layer == model.layer
    pixels, placement = again.prepare(photo(70, 31))
    assert torch.equal(pixels, model.prepare(photo(70, 31))[0])
    assert placement == model.prepare(photo(70, 31))[1]
    prompt = model.read_answer(model.understand(QUESTION), ANSWER).prompt
    assert prompt == again.read_answer(again.understand(QUESTION), ANSWER).prompt
    with torch.no_grad():
        found = [each.decode(seen(each), [prompt]) for each in (model, again)]
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", UNLIKE)
def test_half_precision(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """A model that was saved so is loaded so; scores and maps are float32 all the same."""
    half = vlcam.load(folders[kind])
    half.module.to(torch.bfloat16)
    half.save(tmp_path / "half")
    model = vlcam.load(tmp_path / "half")
    assert next(model.module.parameters()).dtype == torch.bfloat16
    explanation = vlcam.explain(model, photo(), question=QUESTION, answers=["red", "a dog"])
    exact = vlcam.explain(
        loaded(folders[kind]), photo(), question=QUESTION, answers=["red", "a dog"]
    )
    assert explanation.maps.dtype == torch.float32 and explanation.maps.isfinite().all()
    for ours, theirs in zip(explanation.answers, exact.answers, strict=True):
        assert ours.logit == pytest.approx(theirs.logit, abs=0.1 * abs(theirs.logit) + 0.5)


@pytest.mark.parametrize("kind", UNLIKE)
def test_photos_of_all_shapes_are_placed(kind: str, folders: dict[str, Path]) -> None:
    """A dark photo with one bright block: the block is found where its placement says."""
    model = loaded(folders[kind])
    for width, height in ((40, 40), (90, 30), (33, 71), (9, 8)):
        dark = Image.new("RGB", (width, height))
        low = (height // 2 - 2, width // 2 - 2)
        for y in range(4):
            for x in range(4):
                dark.putpixel((low[1] + x, low[0] + y), (255, 255, 255))
        pixels, placement = model.prepare(dark)
        light = pixels.sum(0) - pixels.sum(0).amin()
        assert placement.input_size == pixels.shape[1:]
        size = (pixels.shape[1], pixels.shape[2])
        for axis in (0, 1):
            at = (light.sum(1 - axis) * torch.arange(size[axis])).sum() / light.sum()
            expected = placement.scale[axis] * (low[axis] + 1.5) + placement.shift[axis]
            assert float(at) == pytest.approx(expected, abs=0.35)


def test_words_are_those_of_the_text(folders: dict[str, Path]) -> None:
    model = loaded(folders["llava"])
    answer = model.read_answer(model.understand(QUESTION), " a redder dog,\n\nis it?")
    assert [unit.text for unit in answer.units] == ["a", "redder", "dog,", "is", "it?"]
    tokens = answer.prompt.answer  # type: ignore[attr-defined]
    assert model._tokenizer.decode(tokens) == " a redder dog,\n\nis it?"
    # The first newline is a token of no word: what follows is read in its light, all the same.
    newline = model._tokenizer.convert_ids_to_tokens(tokens).index("Ċ")
    columns = [column for unit in answer.units for column in unit.scores]
    assert columns == [place for place in range(len(tokens)) if place != newline]


def test_an_explained_caption_is_the_answer_to_what_is_asked(folders: dict[str, Path]) -> None:
    model = loaded(folders["smolvlm"])
    model.longest = 6
    own = vlcam.explain(model, photo())
    answer = model.write_answer(seen(model), model.understand("Describe the image."))
    assert own.caption == answer.text and own.question is None
    given = vlcam.explain(model, photo(), "a red dog")
    assert [word.text for word in given.words] == ["a", "red", "dog"]
    assert len(given.maps) == 3 and given.maps.shape[1:] == (12, 12)
    assert given.details["ask"] == "Describe the image."
    asked = vlcam.explain(model, photo(), question=QUESTION)
    assert asked.question == QUESTION and asked.words


@pytest.mark.parametrize("kind", UNLIKE)
def test_many_words_in_little_memory(kind: str, folders: dict[str, Path]) -> None:
    model = loaded(folders[kind])
    answer = model.read_answer(model.understand(QUESTION), "a dog is a red dog is a dog")
    features = seen(model)
    found = [
        explain_at_layer(model, features, units(answer), METHODS["grad-cam"], memory=memory)
        for memory in (1, 2**30)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        score(model, features, units(answer)), found[0][0], rtol=1e-4, atol=1e-5
    )


def test_tiles_that_patches_do_not_fill(tmp_path: Path) -> None:
    folder = save(tmp_path / "gaps", "smolvlm")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"size": {"longest_edge": 38}, "max_image_size": {"longest_edge": 19}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in (LAYERS["smolvlm"][0], "model.connector"):
        model = vlcam.load(folder, name)
        pixels, _ = model.prepare(photo(40, 40))
        assert pixels.shape == (3, 38, 38)
        grid, step = model.grid((38, 38)), 8 if name == "model.connector" else 4
        inside = [(step - 1) / 2 + step * i for i in range(16 // step)]
        expected = tuple([*inside, *(19 + at for at in inside)])
        assert grid.centres == (expected, expected)
        assert grid.center(1, 0) == (expected[1], expected[0])


def test_an_overview_spans_the_whole_photo(folders: dict[str, Path]) -> None:
    model = loaded(folders["smolvlm"], "model.connector/overview")
    pixels, _ = model.prepare(photo(60, 30))
    assert pixels.shape == (3, 32, 48)
    grid = model.grid((32, 48))
    assert grid.size == (2, 2) and grid.stride == (16.0, 24.0)
    assert grid.offset == (7.5, 11.5)
    assert model.encode(pixels[None]).maps.shape[2:] == (2, 2)


def test_the_overview_has_the_gradient_of_its_filter(folders: dict[str, Path]) -> None:
    model = loaded(folders["smolvlm"])
    assert isinstance(model, SmolVLM)
    pixels = model.prepare(photo())[0][None]
    made = model._processed([[photo()]])["pixel_values"][0, -1]
    leaf = pixels.clone().requires_grad_()
    overview = model._overview(leaf)
    assert torch.equal(model._overview(pixels)[0], made)
    torch.testing.assert_close(overview[0].detach(), made, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(overview[0, 1, 5, 6], leaf)
    picture = torch.zeros(48, 48)
    picture[17, 20] = 1
    pressed = Image.fromarray(picture.numpy()).resize((16, 16), Image.Resampling.LANCZOS)
    assert float(slope[0, 1, 17, 20]) == pytest.approx(pressed.getpixel((6, 5)), abs=1e-6)
    assert slope[0, 0].abs().max() == 0


def test_a_photo_that_is_not_cut(tmp_path: Path) -> None:
    folder = save(tmp_path / "whole", "smolvlm")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["do_image_splitting"] = False
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    scores = []
    for name in ("model.connector", "model.connector/overview"):
        model = vlcam.load(folder, name)
        assert isinstance(model, ChatModel)
        pixels, placement = model.prepare(photo())
        assert pixels.shape == (3, 16, 16) and placement == Placement.resized((36, 50), (16, 16))
        assert model.grid((16, 16)).size == (2, 2) and model.grid((16, 16)).stride == (8.0, 8.0)
        answer = model.read_answer(model.understand(QUESTION), ANSWER)
        assert model.image_text(seen(model)).count("<image>") == 4
        scores.append(score(model, seen(model), [whole(answer)]))
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    ("layers", "strategy"), [(-1, "default"), (2, "full"), ([-2, 1], "default"), ([-1, -3], "full")]
)
def test_llava_reads_any_layers(layers: int | list[int], strategy: str, tmp_path: Path) -> None:
    folder = save(
        tmp_path / "llava", "llava",
        vision_feature_layer=layers, vision_feature_select_strategy=strategy,
    )  # fmt: skip
    last = max(i % 5 for i in (layers if isinstance(layers, list) else [layers]))
    parts = loaded(folder)._parts
    pixels = loaded(folder).prepare(photo())[0][None]
    for name in [*(f"model.vision_tower.encoder.layers.{i}" for i in range(last)), None]:
        model = Llava(parts, name)
        if name is None:
            assert model.layer == f"model.vision_tower.encoder.layers.{last - 1}"
        prompt = model.read_answer(model.understand(QUESTION), ANSWER).prompt
        features = encode(model, pixels)
        assert isinstance(prompt, AnswerPrompt)
        asked = model.prompt_ids(model.understand(QUESTION), features)
        line = torch.tensor([[*asked, *prompt.answer]])
        with torch.no_grad():
            logits = model.module(input_ids=line, pixel_values=pixels).logits.log_softmax(-1)
            found = model.decode(features, [prompt])[0]
        steps = range(line.shape[1] - len(prompt.answer) - 1, line.shape[1] - 1)
        torch.testing.assert_close(found, logits[0, steps, prompt.answer], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no layer"):
        Llava(parts, f"model.vision_tower.encoder.layers.{last}")


def test_llava_with_siglip(tmp_path: Path) -> None:
    siglip = {"model_type": "siglip_vision_model", "vision_use_head": False}
    folder = save(
        tmp_path / "siglip", "llava", vision=siglip,
        vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    model = loaded(folder)
    assert model.layer == "model.vision_tower.encoder.layers.3"
    assert model.image_text(seen(model)).count("<image>") == 16
    assert not seen(model).rest
    dropping = save(tmp_path / "dropping", "llava", vision=siglip)
    assert loaded(dropping).image_text(seen(loaded(dropping))).count("<image>") == 15
    with pytest.raises(ValueError, match=r"no layer 'model\.multi_modal_projector'"):
        vlcam.load(dropping, "model.multi_modal_projector")


def test_llava_pads_and_stretches(tmp_path: Path) -> None:
    folder = save(tmp_path / "padded", "llava")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    padding = settings | {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
    file.write_text(json.dumps(padding))
    model = vlcam.load(folder)
    _, placement = model.prepare(photo(64, 32))
    assert placement.scale == (0.5, 0.5) and placement.shift == (7.75, -0.25)
    # Of the processor as a whole, which says nothing of photos.
    (folder / "processor_config.json").write_text(json.dumps({"patch_size": 8}))
    assert vlcam.load(folder).prepare(photo(64, 32))[1] == placement
    stretched = settings | {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    file.write_text(json.dumps(stretched))
    _, placement = vlcam.load(folder).prepare(photo(64, 32))
    assert placement == Placement.resized((32, 64), (32, 32))


def test_where_the_folder_says_nothing_of_photos(tmp_path: Path) -> None:
    for kind in ("llava", "qwen2_vl", "idefics3"):
        folder = save(tmp_path / kind, kind)
        (folder / "preprocessor_config.json").unlink()
        pixels, _ = loaded(folder).prepare(photo())
        assert pixels.shape[0] == 3 and min(pixels.shape[1:]) >= 16


def test_the_least_and_most_pixels_as_qwen2_says_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "qwen", "qwen2_vl")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    del settings["size"]
    file.write_text(json.dumps(settings | {"min_pixels": 64, "max_pixels": 64 * 9}))
    assert vlcam.load(folder).prepare(photo(500, 500))[0].shape == (3, 24, 24)


def test_templates_lie_in_several_places(tmp_path: Path) -> None:
    folder = save(tmp_path / "qwen", "qwen2_vl")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template; expected"):
        vlcam.load(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": QWEN_TEMPLATE}))
    model = vlcam.load(folder)
    assert isinstance(model, ChatModel)
    assert str(model.understand("a?").prompt).startswith("<|im_start|>user")
    other = QWEN_TEMPLATE.replace("assistant", "robot")
    (folder / "processor_config.json").write_text(json.dumps({"chat_template": other}))
    model = vlcam.load(folder)
    assert isinstance(model, ChatModel)
    assert str(model.understand("a?").prompt).endswith("robot\n")


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        ("qwen2_vl", "chat_template.jinja", "{{ 1 / 0 }}", "the chat template cannot be used"),
        ("qwen2_vl", "chat_template.jinja", "{{ messages[0]['content'][1]['text'] }}", "0 places"),
        ("llava", "chat_template.json", "[1", "not JSON"),
        ("llava", "chat_template.json", "[1]", "not an object"),
        ("llava", "processor_config.json", b"\xff\xfe", "no text"),
        ("llava", "preprocessor_config.json", {"image_processor_type": "Nothing"}, "cannot be"),
        ("llava", "preprocessor_config.json", {"crop_size": 24}, "takes 32 x 32"),
        ("llava", "preprocessor_config.json", {"size": {"longest_edge": 4}}, "llava"),
        ("llava", "config.json", {"image_token_index": 9999}, "no token 9999"),
        ("llava", "config.json", {"vision_feature_layer": 9}, "vision_feature_layer 9 of 4"),
        ("qwen2_vl", "preprocessor_config.json", {"merge_size": 4}, "merge_size is 4"),
        (
            "qwen3_vl",
            "preprocessor_config.json",
            {"image_processor_type": "CLIPImageProcessor"},
            "CLIPImageProcessor without patch_size, not a Qwen2VL",
        ),
        (
            "smolvlm",
            "preprocessor_config.json",
            {"max_image_size": {"longest_edge": 12}},
            "3 x 3 patches",
        ),
    ],
)
def test_damaged_folders(kind: str, name: str, change: Any, message: str, tmp_path: Path) -> None:
    folder = save(tmp_path / kind, kind)
    if isinstance(change, dict):
        known = json.loads((folder / name).read_text())
        change = json.dumps(known | change)
    if isinstance(change, bytes):
        (folder / name).write_bytes(change)
    else:
        (folder / name).write_text(change)
    with pytest.raises(ValueError, match=message) as caught:
        vlcam.load(folder)
    assert "\n" not in str(caught.value) and kind in str(caught.value)


@pytest.mark.parametrize("kind", UNLIKE)
def test_no_such_layer(kind: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"no layer 'model\.lm'.*known: model"):
        vlcam.load(folders[kind], "model.lm")


def test_a_vision_tower_of_another_kind(tmp_path: Path) -> None:
    vision = {"model_type": "pixtral", "head_dim": 4}
    with pytest.raises(ValueError, match="its vision tower is a pixtral"):
        vlcam.load(save(tmp_path / "pixtral", "llava", vision=vision))


@pytest.mark.parametrize("family", ["llava", "smolvlm"])
def test_what_cannot_be_asked(family: str, folders: dict[str, Path]) -> None:
    model, image = loaded(folders[family]), IMAGES[family]
    with pytest.raises(ValueError, match="no word"):
        model.understand("  ")
    with pytest.raises(ValueError, match=f"the question holds {image}"):
        model.understand(f"what is {image}?")
    question = model.understand(QUESTION)
    with pytest.raises(ValueError, match="no word"):
        model.read_answer(question, " ")
    with pytest.raises(ValueError, match=f"the answer holds {image}"):
        model.read_answer(question, f"an {image}")
    endless = model.read_answer(model.understand("red " * 600), "a")
    with pytest.raises(ValueError, match="reads at most 512"):
        score(model, seen(model), [whole(endless)])


def test_a_photo_too_elongated(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"cannot be shown this photo: .*aspect ratio"):
        loaded(folders["qwen2_vl"]).prepare(photo(900, 2))


def test_one_pass_of_the_vision_model_for_many_questions(folders: dict[str, Path]) -> None:
    for kind in UNLIKE:
        model, passes = loaded(folders[kind]), list[int]()
        first = next(m for m in model.module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
        handle = first.register_forward_hook(lambda *_: passes.append(1))  # noqa: B023
        looked = vlcam.look(model, photo())
        vlcam.explain(model, looked, question=QUESTION, answers=["red", "a dog"])
        vlcam.explain(model, looked, question="a?", answers=["red"])
        handle.remove()
        assert len(passes) == 1


def test_padding_is_no_photo(folders: dict[str, Path]) -> None:
    model = loaded(folders["llava"])
    assert model._in_lines([[1, 2], [3]]).tolist() == padded([[1, 2], [3]]).tolist()


def test_an_answer_is_split_as_it_stands_behind_the_prompt() -> None:
    """SentencePiece puts a blank before every text, but not in the midst of one."""
    pieces = ["<unk>", "▁", "a", ":", "▁a", "A", "▁A"]
    bpe = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [("▁", "a"), ("▁", "A")]))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    subwords = Subwords(PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>"))
    (alone,) = subwords.read("a")
    first, second = subwords.read(" a a", before="A:")
    assert alone.tokens == first.tokens == second.tokens == (4,)
    assert first.text == second.text == "a"
    (odd,) = subwords.read("a", before="A: ")  # the token of the blank and the word spans both
    assert odd.tokens == (4,)
