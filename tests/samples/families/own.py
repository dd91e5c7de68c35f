"""A small model for each kind of adapter that needs nothing but PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from captioning.models import show_attend_tell as show_attend_tell_
from captioning.models import tutorial_captioner as tutorial_captioner_
from captioning.models.neuraltalk import neuraltalk2_pytorch
from captioning.models.neuraltalk import neuraltalk2_torch7 as neuraltalk2_torch7_
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk, NeuralTalkCaptioner
from captioning.models.neuraltalk.neuraltalk2 import NeuralTalk2Captioner
from tests.samples.captioning import neuraltalk2_pytorch as neuraltalk2_pytorch_files
from tests.samples.captioning import neuraltalk2_torch7 as neuraltalk2_torch7_files
from tests.samples.captioning import show_attend_tell as show_attend_tell_files
from tests.samples.captioning import tutorial_captioner as tutorial_captioner_files
from tests.samples.families.case import Case, asked_case, caption_scores, case_of, noise
from tests.samples.tiny import CAPTION, WORDS, TinyCaptioner
from tests.samples.vqa import basic_vqa as basic_vqa_files
from tests.samples.vqa import hiecoatt_torch7 as hiecoatt_torch7_files
from tests.samples.vqa import lstm_cnn_torch7 as lstm_cnn_torch7_files
from tests.samples.vqa import skyol5_pytorch as skyol5_pytorch_files
from vlcam import ModuleAdapter, Preprocess
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.vgg import CaffeVgg
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models import basic_vqa as basic_vqa_
from vqa.models.coattention import hiecoatt_torch7 as hiecoatt_torch7_
from vqa.models.coattention import skyol5_pytorch as coattention_pytorch_
from vqa.models.coattention.model import CoAttention, CoAttentionAnswerer
from vqa.models.coattention.model import Config as CoAttentionConfig
from vqa.models.glimpses import Config as GlimpsesConfig
from vqa.models.glimpses import Glimpses
from vqa.models.lstm_cnn import torch7 as lstm_cnn_torch7_
from vqa.models.lstm_cnn.model import Config as LstmCnnConfig
from vqa.models.lstm_cnn.model import LstmCnn


def tiny(_: Path) -> Case:
    return case_of(TinyCaptioner(), CAPTION, "a red cat")


def module(_: Path) -> Case:
    seam = TinyCaptioner()
    adapter = ModuleAdapter(seam.module, "before.3", caption_scores, example=(1,))
    return Case(adapter, noise(32), seam.read(CAPTION), seam.read("a red cat"))


def neuraltalk(_: Path) -> Case:
    return _neuraltalk(())


def neuraltalk_words(_: Path) -> Case:
    """One that reads which words its last maps show."""
    return _neuraltalk(tuple(WORDS[1:4]))


def _neuraltalk(detected: tuple[str, ...]) -> Case:
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
                detected=detected,
            )
        )
        nn.init.normal_(
            next(model.logits.parameters())
        )  # of the LSTM's outputs, or what reads them
        nn.init.normal_(model.embed_word.weight)
    adapter = NeuralTalkCaptioner(model.double().eval(), "neuraltalk", "stage2")
    return case_of(adapter, CAPTION, "a red cat")


def fc(folder: Path) -> Case:
    """The FC model of neuraltalk2.pytorch, with more than one stage of its CNN behind the layer."""
    checkpoint = neuraltalk2_pytorch_files.write_checkpoint(folder / "fc", "fc", "model-cnn.pth")
    adapter = neuraltalk2_pytorch.load(checkpoint, "5")
    adapter.module.double()
    return case_of(adapter, "a dog on red grass", "red dog", size=64)


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
    return case_of(adapter, "a dog on red grass", "red dog", size=48)


def show_attend_tell(folder: Path) -> Case:
    """Show, Attend and Tell, with a stage of the CNN and the pooling behind the layer."""
    checkpoint = show_attend_tell_files.write_checkpoint(folder / "attend", cells=3, seed=4)
    adapter = show_attend_tell_.load(checkpoint, "resnet.6")
    adapter.module.double()
    return case_of(adapter, "a dog on red grass", "red dog", size=48)


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
    return asked_case(adapter, 32, "is the dog red ?", "dog", 1)


def hiecoatt_torch7(folder: Path) -> Case:
    """HieCoAtt as Torch7 wrote it, with two blocks of VGG behind the layer; of smaller photos."""
    checkpoint = hiecoatt_torch7_files.write_checkpoint(folder / "hiecoatt", "Parallel")
    return asked_case(
        hiecoatt_torch7_.load(checkpoint, "conv4_1"), 64, "is the dog red ?", "dog", 60
    )


def hiecoatt_residual(folder: Path) -> Case:
    """HieCoAtt behind a pre-activation ResNet of Torch7, cut within a stage; of smaller photos."""
    checkpoint = hiecoatt_torch7_files.write_residual(folder / "hiecoatt-residual")
    return asked_case(hiecoatt_torch7_.load(checkpoint, "5.1"), 64, "is the dog red ?", "dog", 1)


def coattention_pytorch(folder: Path) -> Case:
    """SkyOL5's co-attention, with a stage of ResNet behind the layer; of smaller photos."""
    checkpoint = skyol5_pytorch_files.write_checkpoint(folder / "coattention")
    adapter = coattention_pytorch_.load(checkpoint, "6")
    return asked_case(adapter, 64, "is the dog red?", "dog?", 1)


ADAPTERS: dict[str, Callable[[Path], Case]] = {
    "tiny": tiny,
    "module": module,
    "neuraltalk": neuraltalk,
    "neuraltalk_words": neuraltalk_words,
    "neuraltalk2-pytorch": fc,
    "neuraltalk2-torch7": neuraltalk2_torch7,
    "tutorial-captioner": tutorial_captioner,
    "show-attend-tell": show_attend_tell,
    "lstm-cnn": lstm_cnn,
    "lstm-cnn-torch7": lstm_cnn_torch7,
    "coattention": coattention("alternating"),
    "coattention-parallel": coattention("parallel"),
    "glimpses": glimpses_at_cnn,
    "basic-vqa": basic_vqa,
    "hiecoatt-torch7": hiecoatt_torch7,
    "hiecoatt-torch7-residual": hiecoatt_residual,
    "coattention-pytorch": coattention_pytorch,
}
"""By name; the families registered under ``vlcam.models`` by theirs."""
