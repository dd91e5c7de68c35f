"""A small model for each kind of adapter whose files are read by further packages (PyYAML,
google-crc32c)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captioning.models.im2txt import files as im2txt
from tests.samples.captioning import im2txt as im2txt_files
from tests.samples.families.case import Case, case_of, noise
from tests.samples.vqa import vqa_pytorch as vqa_pytorch_files
from vqa.models.vqa_pytorch import files as vqa_pytorch_


def tiny_im2txt(folder: Path) -> Case:
    """im2txt's Inception v3, with blocks of it behind the layer."""
    checkpoint = im2txt_files.write_checkpoint(folder / "im2txt")
    adapter = im2txt.load(checkpoint, "Mixed_6d")
    adapter.module.double()
    return case_of(adapter, "a dog on red grass", "a red dog", size=75)


def vqa_pytorch(folder: Path) -> Case:
    """MUTAN with attention of vqa.pytorch, with two stages of its CNN behind the layer."""
    checkpoint = vqa_pytorch_files.write_checkpoint(folder / "mutan", "MutanAtt")
    adapter = vqa_pytorch_.load(checkpoint, "layer2")
    adapter.module.double()
    long, short = (adapter.understand(text) for text in ("what is the red dog on", "dog"))
    return Case(adapter, noise(64), adapter.read(long), adapter.read(short))


ADAPTERS: dict[str, Callable[[Path], Case]] = {
    "vqa-pytorch": vqa_pytorch,
    "im2txt": tiny_im2txt,
}
"""By name; the families registered under ``vlcam.models`` by theirs."""
