"""sgrvinod's Show, Attend and Tell: modules pickled whole, or their weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.samples.foreign import module_of, small_resnet

WORDS = ["a", "dog", "on", "grass", "red", "<unk>", "<start>", "<end>"]
COUNT, EMBED, HIDDEN, WIDTH, CHANNELS = 9, 4, 6, 5, 8
START, END = 7, 8
CHECKPOINT = "BEST_checkpoint_tiny_5_cap.pth.tar"
WORD_MAP = "WORDMAP_tiny_5_cap.json"


class Encoder(nn.Module):
    pass


class DecoderWithAttention(nn.Module):
    pass


def filled(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The module with these parameters and buffers, within modules as their names say."""
    for name, value in state.items():
        *path, last = name.split(".")
        inner = module
        for part in path:
            if part not in inner._modules:
                inner.add_module(part, nn.Module())
            inner = inner.get_submodule(part)
        if last in ("running_mean", "running_var", "num_batches_tracked"):
            inner.register_buffer(last, value)
        else:
            inner.register_parameter(last, nn.Parameter(value))
    return module


def random_states(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of an encoder and a decoder."""
    generator = torch.Generator().manual_seed(seed)

    def linear(name: str, out: int, inputs: int, scale: float = 1.0) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(out, inputs, generator=generator) * scale,
            f"{name}.bias": torch.randn(out, generator=generator) * 0.5,
        }

    decoder = {
        **linear("attention.encoder_att", WIDTH, CHANNELS),
        **linear("attention.decoder_att", WIDTH, HIDDEN, 2),
        **linear("attention.full_att", 1, WIDTH),
        "embedding.weight": torch.randn(COUNT, EMBED, generator=generator) * 2,
        **linear("init_h", HIDDEN, CHANNELS, 0.3),
        **linear("init_c", HIDDEN, CHANNELS, 0.3),
        **linear("f_beta", CHANNELS, HIDDEN),
        **linear("fc", COUNT, HIDDEN, 2),
    }
    for kind, width in (("ih", EMBED + CHANNELS), ("hh", HIDDEN)):
        part = linear("x", 4 * HIDDEN, width, 0.5)
        decoder[f"decode_step.weight_{kind}"] = part["x.weight"]
        decoder[f"decode_step.bias_{kind}"] = part["x.bias"]
    return {f"resnet.{name}": value for name, value in small_resnet(seed).items()}, decoder


def write_checkpoint(
    folder: Path,
    form: str = "modules",
    cells: int = 14,
    seed: int = 0,
    name: str = CHECKPOINT,
    layout: str = "archive",
    end: float = 0.0,
) -> Path:
    """A random model as the project's training script saves one, or in another form.

    Args:
        end: added to the logit of <end>.
    """
    encoder, decoder = random_states(seed)
    decoder["fc.bias"][END] += end
    data: dict[str, Any] = {"epoch": 3, "epochs_since_improvement": 0, "bleu-4": 0.24}
    if form in ("modules", "parallel"):
        modules = [filled(Encoder(), encoder), filled(DecoderWithAttention(), decoder)]
        modules[0].enc_image_size = cells
        optimizer = torch.optim.Adam(modules[1].parameters())
        if form == "parallel":
            modules = [nn.DataParallel(module) for module in modules]
        data |= {"encoder": modules[0], "decoder": modules[1]}
        data |= {"encoder_optimizer": None, "decoder_optimizer": optimizer}
    else:
        data |= {f"encoder{form}": encoder, f"decoder{form}": decoder}
    folder.mkdir(exist_ok=True)
    with module_of("models", Encoder, DecoderWithAttention), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a source that cannot be found
        torch.save(data, folder / name, _use_new_zipfile_serialization=layout == "archive")
    tokens = {word: i for i, word in enumerate(WORDS, 1)} | {"<pad>": 0}
    (folder / WORD_MAP).write_text(json.dumps(tokens))
    return folder
