"""One small model in float64 for each kind of adapter, for tests that every adapter must pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from captioning.language.captioner import Captioner, padded
from captioning.models import blip, vision_encoder_decoder
from captioning.models import show_attend_tell as show_attend_tell_
from captioning.models import tutorial_captioner as tutorial_captioner_
from captioning.models.im2txt import files as im2txt
from captioning.models.neuraltalk import neuraltalk2_pytorch
from captioning.models.neuraltalk import neuraltalk2_torch7 as neuraltalk2_torch7_
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk, NeuralTalkCaptioner
from captioning.models.neuraltalk.neuraltalk2 import NeuralTalk2Captioner
from tests.samples.captioning import blip as blip_files
from tests.samples.captioning import im2txt as im2txt_files
from tests.samples.captioning import neuraltalk2_pytorch as neuraltalk2_pytorch_files
from tests.samples.captioning import neuraltalk2_torch7 as neuraltalk2_torch7_files
from tests.samples.captioning import pix2struct as pix2struct_files
from tests.samples.captioning import show_attend_tell as show_attend_tell_files
from tests.samples.captioning import tutorial_captioner as tutorial_captioner_files
from tests.samples.captioning import vision_encoder_decoder as vision_encoder_decoder_files
from tests.samples.pretrained import photo
from tests.samples.tiny import CAPTION, WORDS, TinyCaptioner
from tests.samples.vqa import basic_vqa as basic_vqa_files
from tests.samples.vqa import blip as blip_vqa_files
from tests.samples.vqa import chat as chat_files
from tests.samples.vqa import git as git_files
from tests.samples.vqa import hiecoatt_torch7 as hiecoatt_torch7_files
from tests.samples.vqa import lstm_cnn_torch7 as lstm_cnn_torch7_files
from tests.samples.vqa import lxmert as lxmert_files
from tests.samples.vqa import skyol5_pytorch as skyol5_pytorch_files
from tests.samples.vqa import vilt as vilt_files
from tests.samples.vqa import vqa_pytorch as vqa_pytorch_files
from vlcam import Adapter, ModuleAdapter, Preprocess
from vlcam.adapters.adapter import Prompt, Reading
from vlcam.attribution import targets
from vlcam.attribution.targets import Target
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.vgg import CaffeVgg
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.answering.writing_answerer import WritingAnswerer
from vqa.models import basic_vqa as basic_vqa_
from vqa.models import blip as blip_vqa_
from vqa.models import git, vilt
from vqa.models.chat import llava, qwen_vl, smolvlm
from vqa.models.chat.chat import ChatModel
from vqa.models.coattention import hiecoatt_torch7 as hiecoatt_torch7_
from vqa.models.coattention import skyol5_pytorch as coattention_pytorch_
from vqa.models.coattention.model import CoAttention, CoAttentionAnswerer
from vqa.models.coattention.model import Config as CoAttentionConfig
from vqa.models.glimpses import Config as GlimpsesConfig
from vqa.models.glimpses import Glimpses
from vqa.models.lstm_cnn import torch7 as lstm_cnn_torch7_
from vqa.models.lstm_cnn.model import Config as LstmCnnConfig
from vqa.models.lstm_cnn.model import LstmCnn
from vqa.models.lxmert import lxmert
from vqa.models.vqa_pytorch import files as vqa_pytorch_


@dataclass(frozen=True)
class Case:
    """A model, pixels (1, 3, H, W) for it, and captions as it reads them (the second: shorter).

    ``eye``: its module that sees the pixels first; None: the first convolution. ``eye_rows``: rows
    of what that is given that one image has.
    """

    adapter: Adapter
    pixels: Tensor
    long: Reading
    short: Reading
    eye: nn.Module | None = None
    eye_rows: int = 1

    @property
    def prompts(self) -> list[Prompt] | None:
        """What ``encode`` needs beside the pixels: nothing, but for a single-stream model."""
        return [self.long.prompt] if self.adapter.encode_reads_prompt else None

    def asked(self) -> list[Target]:
        """Each word, a whole caption, a contrast of words of two captions, a negation."""
        words = targets.units(self.long)
        other = targets.units(self.short)[-1]
        return [*words, targets.whole(self.long), words[2] - other, -words[1]]


def caption_scores(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """log p of each token of each row's caption, of a module called with pixels and tokens."""
    tokens = padded(prompts)
    return net(pixels, tokens).log_softmax(-1).gather(2, tokens[:, :, None]).squeeze(2)


def tiny(_: Path) -> Case:
    return _case(TinyCaptioner(), CAPTION, "a red cat")


def module(_: Path) -> Case:
    seam = TinyCaptioner()
    adapter = ModuleAdapter(seam.module, "before.3", caption_scores, example=(1,))
    return Case(adapter, noise(32), seam.read(CAPTION), seam.read("a red cat"))


def neuraltalk(_: Path) -> Case:
    vocabulary = Vocabulary((*WORDS, "UNK"))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = NeuralTalk(
            Config(
                cnn="small",
                vocabulary=vocabulary,
                preprocess=Preprocess(size=(32, 32)),
                embedding=8,
                hidden=16,
            )
        )
        nn.init.normal_(model.logits.weight)
        nn.init.normal_(model.embed_word.weight)
    adapter = NeuralTalkCaptioner(model.double().eval(), "neuraltalk", "stage2")
    return _case(adapter, CAPTION, "a red cat")


def fc(folder: Path) -> Case:
    """The FC model of neuraltalk2.pytorch, with more than one stage of its CNN behind the layer."""
    checkpoint = neuraltalk2_pytorch_files.write_checkpoint(folder / "fc", "fc", "model-cnn.pth")
    adapter = neuraltalk2_pytorch.load(checkpoint, "5")
    adapter.module.double()
    return _case(adapter, "a dog on red grass", "red dog", size=64)


def neuraltalk2_torch7(folder: Path) -> Case:
    """NeuralTalk2 as Torch7 wrote it, with a block of VGG behind the layer; of smaller photos."""
    widths = ((8,), (8,), (12,), (12, 12), (16, 16))
    checkpoint = neuraltalk2_torch7_files.write_checkpoint(folder / "nt2", widths)
    model = neuraltalk2_torch7_.load(checkpoint).module
    for_small_photos(model.encoder)
    adapter = NeuralTalk2Captioner(model.double(), "neuraltalk2", "relu4_1")
    long, short = adapter.read("a dog on red grass"), adapter.read("red dog")
    return Case(adapter, 20 * noise(32), long, short)


def for_small_photos(vgg: CaffeVgg) -> None:
    """Make a VGG one of inputs of 32 x 32 pixels, of which one cell is left at its end."""
    wide = vgg.fc6
    assert isinstance(wide, nn.Linear)
    weight = wide.weight.detach().unflatten(1, (-1, 7, 7)).sum((2, 3))
    narrow = nn.Linear(weight.shape[1], len(weight))
    narrow.weight.data, narrow.bias.data = weight, wide.bias.detach().clone()
    vgg.fc6 = narrow.eval().requires_grad_(False)


def tutorial_captioner(folder: Path) -> Case:
    """yunjey's captioner with an LSTM of two layers, at a block within the CNN."""
    checkpoint = tutorial_captioner_files.write_checkpoint(folder / "tutorial", layers=2, seed=4)
    adapter = tutorial_captioner_.load(checkpoint, "resnet.5.0")
    adapter.module.double()
    return _case(adapter, "a dog on red grass", "red dog", size=48)


def show_attend_tell(folder: Path) -> Case:
    """Show, Attend and Tell, with a stage of the CNN and the pooling behind the layer."""
    checkpoint = show_attend_tell_files.write_checkpoint(folder / "attend", cells=3, seed=4)
    adapter = show_attend_tell_.load(checkpoint, "resnet.6")
    adapter.module.double()
    return _case(adapter, "a dog on red grass", "red dog", size=48)


def tiny_blip(folder: Path) -> Case:
    """BLIP of two words in sub-words; its vision model with ReLUs, so that rules have some."""
    adapter = blip.load(blip_files.save(folder / "blip"), "vision_model.encoder.layers.0")
    for layer in adapter.module.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    return _case(adapter, "a photographers dogs running", "a photo of grass")


def tiny_vision_encoder_decoder(folder: Path) -> Case:
    """ViT and GPT-2, with two blocks behind the layer."""
    path = vision_encoder_decoder_files.save(folder / "vit-gpt2", hidden_act="relu")
    adapter = vision_encoder_decoder.load(path, "encoder.layers.0")
    adapter.module.double()
    return _case(adapter, "a photos dogs running", "a red dog", vision_encoder_decoder_files.SIZE)


def tiny_pix2struct(folder: Path) -> Case:
    """Pix2Struct of a photo that is no square, with two blocks behind the layer."""
    adapter = pix2struct_files.exact(
        pix2struct_files.save(folder / "p2s"), "encoder.encoder.layer.0"
    )
    made = _case(adapter, "a photographers dogs, running", "a dog", (12, 20))
    return replace(made, eye=adapter.module.encoder.embeddings.patch_projection)


def tiny_im2txt(folder: Path) -> Case:
    """im2txt's Inception v3, with blocks of it behind the layer."""
    checkpoint = im2txt_files.write_checkpoint(folder / "im2txt")
    adapter = im2txt.load(checkpoint, "Mixed_6d")
    adapter.module.double()
    return _case(adapter, "a dog on red grass", "a red dog", size=75)


def lstm_cnn(_: Path) -> Case:
    """The deeper LSTM question + normalised image model: answers to two questions."""
    vocabulary, answers = Vocabulary((*WORDS, "UNK")), ("red", "yellow", "red and yellow", "two")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = LstmCnnConfig(
            "small", vocabulary, answers, Preprocess(size=(32, 32)), embedding=8, hidden=16
        )
        model = LstmCnn(config)
        for layer in (model.image, model.question, model.answer):
            nn.init.normal_(layer.weight)
    adapter = CnnAnswerer(model.double().eval(), "lstm-cnn", "stage2")
    long, short = (adapter.understand(text) for text in ("the red dog sees a cat", "a cat"))
    return Case(adapter, noise(32), adapter.read(long), adapter.read(short))


def coattention(attention: str) -> Callable[[Path], Case]:
    """Hierarchical co-attention: answers to two questions of unlike length."""

    def make(_: Path) -> Case:
        vocabulary, answers = Vocabulary((*WORDS, "UNK")), ("red", "yellow", "two", "dog")
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            config = CoAttentionConfig(
                "small",
                vocabulary,
                answers,
                Preprocess(size=(32, 32)),
                hidden=8,
                common=12,
                attention=attention,  # type: ignore[arg-type]
            )
            model = CoAttention(config)
            for layer in model.modules():
                if isinstance(layer, nn.Linear):  # far from indifferent
                    nn.init.normal_(layer.weight, std=0.5)
        adapter = CoAttentionAnswerer(model.double().eval(), f"coattention-{attention}", "stage2")
        long, short = (adapter.understand(text) for text in ("the red dog sees a cat", "a cat"))
        return Case(adapter, noise(32), adapter.read(long), adapter.read(short))

    return make


def glimpses_at_cnn(_: Path) -> Case:
    """Sums over glimpses at a layer of the CNN: answers to two questions of unlike length."""
    adapter = CnnAnswerer(tiny_glimpses(), "glimpses", "stage2")
    long, short = (adapter.understand(text) for text in ("the red dog sees a cat", "a cat"))
    return Case(adapter, noise(32), adapter.read(long), adapter.read(short))


def tiny_glimpses() -> Glimpses:
    vocabulary, answers = Vocabulary((*WORDS, "UNK")), ("red", "yellow", "two", "dog")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = GlimpsesConfig(
            "small",
            vocabulary,
            answers,
            Preprocess(size=(32, 32)),
            embedding=8,
            hidden=8,
            common=12,
            glimpses=2,
        )
        model = Glimpses(config)
        for layer in (model.match, model.place, model.answer, model.gate):
            nn.init.normal_(layer.weight)
    return model.double().eval()


def lstm_cnn_torch7(folder: Path) -> Case:
    """VQA_LSTM_CNN as Torch7 wrote it, with a block of VGG behind the layer."""
    checkpoint = lstm_cnn_torch7_files.write_checkpoint(folder / "torch7")
    model = lstm_cnn_torch7_.load(checkpoint).module
    for_small_photos(model.encoder)
    adapter = CnnAnswerer(model.double(), "torch7", "conv4_1")
    long, short = (adapter.understand(text) for text in ("is the dog red ?", "dog"))
    return Case(adapter, 60 * noise(32), adapter.read(long), adapter.read(short))


def basic_vqa(folder: Path) -> Case:
    """tbmoon's basic_vqa, with three ReLUs behind the layer; of smaller photos."""
    checkpoint = basic_vqa_files.write_checkpoint(folder / "basic")
    adapter = basic_vqa_.load(checkpoint, "features.9")
    return _asked(adapter, 32, "is the dog red ?", "dog", 1)


def hiecoatt_torch7(folder: Path) -> Case:
    """HieCoAtt as Torch7 wrote it, with two blocks of VGG behind the layer; of smaller photos."""
    checkpoint = hiecoatt_torch7_files.write_checkpoint(folder / "hiecoatt", "Parallel")
    return _asked(hiecoatt_torch7_.load(checkpoint, "conv4_1"), 64, "is the dog red ?", "dog", 60)


def hiecoatt_residual(folder: Path) -> Case:
    """HieCoAtt behind a pre-activation ResNet of Torch7, cut within a stage; of smaller photos."""
    checkpoint = hiecoatt_torch7_files.write_residual(folder / "hiecoatt-residual")
    return _asked(hiecoatt_torch7_.load(checkpoint, "5.1"), 64, "is the dog red ?", "dog", 1)


def coattention_pytorch(folder: Path) -> Case:
    """SkyOL5's co-attention, with a stage of ResNet behind the layer; of smaller photos."""
    checkpoint = skyol5_pytorch_files.write_checkpoint(folder / "coattention")
    adapter = coattention_pytorch_.load(checkpoint, "6")
    return _asked(adapter, 64, "is the dog red?", "dog?", 1)


def _asked(adapter: CnnAnswerer, size: int, long: str, short: str, scale: float) -> Case:
    """Answers to two questions of unlike length."""
    adapter.module.double()
    questions = (adapter.understand(text) for text in (long, short))
    return Case(adapter, scale * noise(size), *map(adapter.read, questions))


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


def vqa_pytorch(folder: Path) -> Case:
    """MUTAN with attention of vqa.pytorch, with two stages of its CNN behind the layer."""
    checkpoint = vqa_pytorch_files.write_checkpoint(folder / "mutan", "MutanAtt")
    adapter = vqa_pytorch_.load(checkpoint, "layer2")
    adapter.module.double()
    long, short = (adapter.understand(text) for text in ("what is the red dog on", "dog"))
    return Case(adapter, noise(64), adapter.read(long), adapter.read(short))


def tiny_blip_vqa(folder: Path) -> Case:
    """BLIP VQA, with two blocks behind the layer: two answers to questions of unlike length."""
    path = blip_vqa_files.save(folder / "blip-vqa")
    adapter = blip_vqa_.load(path, "vision_model.encoder.layers.0")
    for layer in adapter.module.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.ReLU()
    adapter.module.double()
    return _two_answers(adapter)


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
    "vqa-pytorch": vqa_pytorch,
    "tiny": tiny,
    "module": module,
    "neuraltalk": neuraltalk,
    "neuraltalk2-pytorch": fc,
    "neuraltalk2-torch7": neuraltalk2_torch7,
    "tutorial-captioner": tutorial_captioner,
    "show-attend-tell": show_attend_tell,
    "blip": tiny_blip,
    "vision-encoder-decoder": tiny_vision_encoder_decoder,
    "pix2struct": tiny_pix2struct,
    "im2txt": tiny_im2txt,
    "lstm-cnn": lstm_cnn,
    "lstm-cnn-torch7": lstm_cnn_torch7,
    "coattention": coattention("alternating"),
    "coattention-parallel": coattention("parallel"),
    "glimpses": glimpses_at_cnn,
    "basic-vqa": basic_vqa,
    "hiecoatt-torch7": hiecoatt_torch7,
    "hiecoatt-torch7-residual": hiecoatt_residual,
    "coattention-pytorch": coattention_pytorch,
    "vilt": tiny_vilt,
    "lxmert": tiny_lxmert,
    "blip-vqa": tiny_blip_vqa,
    "git": tiny_git,
    "llava": tiny_llava,
    "qwen-vl": tiny_qwen_vl,
    "smolvlm": tiny_smolvlm,
}
"""By name; the families registered under ``vlcam.models`` by theirs."""

ASKED = {
    "vqa-pytorch",
    "lstm-cnn",
    "lstm-cnn-torch7",
    "coattention",
    "coattention-parallel",
    "glimpses",
    "basic-vqa",
    "hiecoatt-torch7",
    "hiecoatt-torch7-residual",
    "coattention-pytorch",
    "vilt",
    "lxmert",
    "blip-vqa",
    "git",
    "llava",
    "qwen-vl",
    "smolvlm",
}
"""Those whose prompts are questions."""

CAPTIONED = sorted(set(ADAPTERS) - ASKED)
"""Those whose prompts are captions."""


def noise(size: int | tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)


def _case(adapter: Captioner, long: str, short: str, size: int | tuple[int, int] = 32) -> Case:
    return Case(adapter, noise(size), adapter.read(long), adapter.read(short))
