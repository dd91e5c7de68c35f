"""Which files of a repository are fetched: the texts, and one whole set of weights."""

from __future__ import annotations

import pytest

from vlcam.formats.hub.files import texts, weights

PARTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["pytorch_model.bin", "model.safetensors", "tf_model.h5"], ["model.safetensors"]),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        ([*PARTS, "model.safetensors.index.json"], PARTS),
        ([*PARTS, "model.safetensors"], ["model.safetensors"]),
        ([PARTS[0], "adapter_model.safetensors"], []),  # a part is missing
        ([PARTS[0], "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["other.safetensors"], ["other.safetensors"]),
        (["onnx/model.safetensors", "model.gguf"], []),
    ],
)
def test_one_whole_set_of_weights(there: list[str], expected: list[str]) -> None:
    assert weights(there) == expected


def test_texts() -> None:
    there = ["config.json", "onnx/config.json", "vocab.txt", "README.md", "chat_template.jinja"]
    assert texts(there) == ["chat_template.jinja", "config.json", "vocab.txt"]
