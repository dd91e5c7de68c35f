"""yunjey's captioner: two files of weights and a pickled vocabulary."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from tests.samples.foreign import module_of, small_resnet

MARKS = ["<pad>", "<start>", "<end>", "<unk>"]
WORDS = [*MARKS, "a", "dog", "on", "grass", "red", "."]
EMBED, HIDDEN, FEATURE = 5, 7, 8
NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def write_checkpoint(
    folder: Path,
    step: str = "5-3000",
    suffix: str = ".ckpt",
    layers: int = 1,
    seed: int = 0,
    first_version: bool = False,
) -> Path:
    """A random model as the project's training script saves one."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    encoder = {f"resnet.{name}": value for name, value in small_resnet(seed).items()}
    linear = "linear"
    if first_version:
        linear = "resnet.fc"
        trunk = [(k.split(".")[1:], v) for k, v in encoder.items()]
        encoder = {f"resnet.{NAMES[k]}.{'.'.join(rest)}": v for (k, *rest), v in trunk}
    encoder |= {f"{linear}.weight": random(EMBED, FEATURE), f"{linear}.bias": random(EMBED)}
    encoder |= {
        "bn.weight": random(EMBED).abs() + 0.5,
        "bn.bias": random(EMBED) * 0.2,
        "bn.running_mean": random(EMBED),
        "bn.running_var": random(EMBED).abs() + 2,
        "bn.num_batches_tracked": torch.tensor(9),
    }
    decoder = {"embed.weight": random(len(WORDS), EMBED) * 2}
    for layer in range(layers):
        inputs = HIDDEN if layer else EMBED
        decoder[f"lstm.weight_ih_l{layer}"] = random(4 * HIDDEN, inputs)
        decoder[f"lstm.weight_hh_l{layer}"] = random(4 * HIDDEN, HIDDEN)
        decoder[f"lstm.bias_ih_l{layer}"] = random(4 * HIDDEN)
        decoder[f"lstm.bias_hh_l{layer}"] = random(4 * HIDDEN)
    decoder |= {"linear.weight": random(len(WORDS), HIDDEN) * 2, "linear.bias": random(len(WORDS))}
    folder.mkdir(exist_ok=True)
    torch.save(encoder, folder / f"encoder-{step}{suffix}")
    torch.save(decoder, folder / f"decoder-{step}{suffix}")
    write_vocabulary(folder / "vocab.pkl")
    return folder


def write_vocabulary(path: Path, module: str = "build_vocab", protocol: int = 4) -> None:
    class Vocabulary:
        def __init__(self) -> None:
            self.word2idx = {word: i for i, word in enumerate(WORDS)}
            self.idx2word = dict(enumerate(WORDS))
            self.idx = len(WORDS)

    with module_of(module, Vocabulary):
        path.write_bytes(pickle.dumps(Vocabulary(), protocol))
