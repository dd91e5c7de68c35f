"""A small model for each kind of adapter of transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from captioning.models import blip, vision_encoder_decoder
from tests.samples.captioning import blip as blip_files
from tests.samples.captioning import pix2struct as pix2struct_files
from tests.samples.captioning import vision_encoder_decoder as vision_encoder_decoder_files
from tests.samples.families.case import Case, case_of, noise
from tests.samples.pretrained import photo
from tests.samples.vqa import blip as blip_vqa_files
from tests.samples.vqa import chat as chat_files
from tests.samples.vqa import clip as clip_files
from tests.samples.vqa import git as git_files
from tests.samples.vqa import lxmert as lxmert_files
from tests.samples.vqa import vilt as vilt_files
from vqa.answering.writing_answerer import WritingAnswerer
from vqa.models import blip as blip_vqa_
from vqa.models import clip, git, vilt
from vqa.models.chat import llava, qwen_vl, smolvlm
from vqa.models.chat.chat import ChatModel
from vqa.models.lxmert import lxmert


def tiny_blip(folder: Path) -> Case:
    """BLIP of two words in sub-words; its vision model with ReLUs, so that rules have some."""
    adapter = blip.load(blip_files.save(folder / "blip"), "vision_model.encoder.layers.0")
    for layer in adapter.module.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    return case_of(adapter, "a photographers dogs running", "a photo of grass")


def tiny_vision_encoder_decoder(folder: Path) -> Case:
    """ViT and GPT-2, with two blocks behind the layer."""
    path = vision_encoder_decoder_files.save(folder / "vit-gpt2", hidden_act="relu")
    adapter = vision_encoder_decoder.load(path, "encoder.layers.0")
    adapter.module.double()
    return case_of(adapter, "a photos dogs running", "a red dog", vision_encoder_decoder_files.SIZE)


def tiny_pix2struct(folder: Path) -> Case:
    """Pix2Struct of a photo that is no square, with two blocks behind the layer."""
    adapter = pix2struct_files.exact(
        pix2struct_files.save(folder / "p2s"), "encoder.encoder.layer.0"
    )
    made = case_of(adapter, "a photographers dogs, running", "a dog", (12, 20))
    return replace(made, eye=adapter.module.encoder.embeddings.patch_projection)


def tiny_vilt(folder: Path) -> Case:
    """ViLT, whose feature maps depend on the question: two sets of answers to one question."""
    adapter = vilt.load(vilt_files.save(folder / "vilt"), "vilt.encoder.layer.0")
    for layer in adapter.module.vilt.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.ReLU()
    adapter.module.double()
    question = adapter.understand("a photographers dogs")
    answers = adapter.answers[:2]
    return Case(adapter, noise(32), adapter.read(question), adapter.read(question, answers))


def tiny_lxmert(folder: Path) -> Case:
    """LXMERT, which sees no pixels: six regions' features and boxes stand in their place."""
    adapter = lxmert.load(lxmert_files.save(folder / "lxmert"), "lxmert.encoder.r_layers.0")
    encoder = adapter.module.lxmert.encoder
    for layer in encoder.r_layers:
        layer.intermediate.intermediate_act_fn = nn.ReLU()
    adapter.module.double()
    pixels = adapter.prepare_regions(photo(), lxmert_files.regions())[0]
    question = adapter.understand("a photographers dogs")
    long, short = adapter.read(question), adapter.read(question, adapter.answers[:2])
    return Case(adapter, pixels[None].double(), long, short, encoder.visn_fc.visn_fc)


def tiny_blip_vqa(folder: Path) -> Case:
    """BLIP VQA, with two blocks behind the layer: two answers to questions of unlike length."""
    path = blip_vqa_files.save(folder / "blip-vqa")
    adapter = blip_vqa_.load(path, "vision_model.encoder.layers.0")
    for layer in adapter.module.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    return _two_answers(adapter)


def tiny_clip(folder: Path) -> Case:
    """CLIP, with two blocks behind the layer: three texts, and two."""
    adapter = clip.load(clip_files.save(folder / "clip"), "vision_model.encoder.layers.0")
    for layer in adapter.module.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    question = adapter.understand(adapter.question)
    texts = ["a photographers dogs", "grass", "a dog running"]
    return Case(
        adapter, noise(32), adapter.read(question, texts), adapter.read(question, texts[:2])
    )


def tiny_git(folder: Path) -> Case:
    """GIT, with two blocks behind the layer: two answers to questions of unlike length. Its vision
    model's attention is in float32 in parts, unless torch's own is asked for."""
    vision = "git.image_encoder.vision_model.encoder.layers"
    adapter = git.load(git_files.save(folder / "git"), f"{vision}.0")
    adapter.module.config.vision_config._attn_implementation = "sdpa"
    for layer in adapter.module.get_submodule(vision):
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    return _two_answers(adapter)


def _two_answers(adapter: WritingAnswerer) -> Case:
    questions = (adapter.understand(text) for text in ("a photographers dogs?", "dog?"))
    long, short = (
        adapter.read_answer(question, answer)
        for question, answer in zip(questions, ("a photographers dogs", "a photo"), strict=True)
    )
    return Case(adapter, noise(32), long, short)


def tiny_llava(folder: Path) -> Case:
    """LLaVA with blocks of its tower behind the layer: two answers to two questions."""
    path = chat_files.save(folder / "llava", "llava", std=0.3)
    adapter = llava.load(path, "model.vision_tower.encoder.layers.0")
    for layer in adapter.module.model.vision_tower.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    return _answered(adapter)


def tiny_qwen_vl(folder: Path) -> Case:
    """Qwen2.5-VL, at its last block: the others are in float32 in parts; without the normalisation
    behind it, which makes HiResCAM's maps zero."""
    adapter = qwen_vl.load(chat_files.save(folder / "qwen", "qwen2_5_vl", std=0.3))
    visual = adapter.module.model.visual
    visual.merger.mlp[1], visual.merger.ln_q = nn.ReLU(), nn.Identity()
    return replace(_answered(adapter), eye=visual.patch_embed, eye_rows=64)


def tiny_smolvlm(folder: Path) -> Case:
    """SmolVLM of 2 x 2 tiles and an overview, with blocks behind the layer."""
    path = chat_files.save(folder / "smolvlm", "smolvlm", std=0.3)
    adapter = smolvlm.load(path, "model.vision_model.encoder.layers.0")
    for layer in adapter.module.model.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    return replace(_answered(adapter), eye_rows=5)


def _answered(adapter: ChatModel) -> Case:
    chat_files.make_exact(adapter.module.double())
    questions = (adapter.understand(text) for text in ("is the dog red?", "a?"))
    long, short = (
        adapter.read_answer(question, answer)
        for question, answer in zip(questions, ("a red dog, is it", "red dog"), strict=True)
    )
    return Case(adapter, noise(32), long, short)


ADAPTERS: dict[str, Callable[[Path], Case]] = {
    "blip": tiny_blip,
    "vision-encoder-decoder": tiny_vision_encoder_decoder,
    "pix2struct": tiny_pix2struct,
    "vilt": tiny_vilt,
    "lxmert": tiny_lxmert,
    "blip-vqa": tiny_blip_vqa,
    "clip": tiny_clip,
    "git": tiny_git,
    "llava": tiny_llava,
    "qwen-vl": tiny_qwen_vl,
    "smolvlm": tiny_smolvlm,
}
"""By name; the families registered under ``vlcam.models`` by theirs."""
