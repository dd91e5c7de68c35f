"""Chat models of each family, tiny and random, beside transformers' own processors and passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

import vlcam
from tests.samples.vqa.chat import (
    ANSWER,
    FAMILIES,
    IMAGES,
    KINDS,
    LAYERS,
    QUESTION,
    QWEN_TEMPLATE,
    UNLIKE,
    loaded,
    photo,
    save,
    seen,
)
from vlcam.adapters.teacher_forcing import padded
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import units, whole
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.chat.chat import ChatModel


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


def test_where_the_folder_says_nothing_of_photos(tmp_path: Path) -> None:
    for kind in ("llava", "qwen2_vl", "idefics3"):
        folder = save(tmp_path / kind, kind)
        (folder / "preprocessor_config.json").unlink()
        pixels, _ = loaded(folder).prepare(photo())
        assert pixels.shape[0] == 3 and min(pixels.shape[1:]) >= 16


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
        ("llava", "processor_config.json", b"\xff\xfe", "not UTF-8"),
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
    assert model._in_rows([[1, 2], [3]]).tolist() == padded([[1, 2], [3]]).tolist()
