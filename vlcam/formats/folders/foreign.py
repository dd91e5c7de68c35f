"""Files of weights that are not read, and what they are. Light to import."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

ADAPTER = "adapter_config.json"
"""What an adapter of peft is known by."""

_FOREIGN = {
    "tf_model.h5": "TensorFlow",
    "*.h5": "Keras",
    "flax_model.msgpack": "Flax",
    "*.msgpack": "Flax",
    "*.gguf": "GGUF",
    "*.onnx": "ONNX",
    "openvino_model.*": "OpenVINO",
    "*.tflite": "TensorFlow Lite",
    "*.mlmodel": "Core ML",
    "*.mlpackage": "Core ML",
    "*.engine": "TensorRT",
    "*.npz": "NumPy",
    "adapter_model.*": "an adapter of peft",
    "consolidated*": "the original project's",
    "model.bin": "CTranslate2",
    "model.*.safetensors": "a variant",
    "pytorch_model.*.bin": "a variant",
}
"""Weights that are not read, by their files' names."""


def foreign(path: Path) -> list[str]:
    """What there is in a folder, or the file itself, of weights that are not read: each with its
    kind."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    kinds = {file.name: _kind(file.name) for file in files}
    return [f"{name} ({kind})" for name, kind in kinds.items() if kind]


def _kind(name: str) -> str:
    return next((kind for pattern, kind in _FOREIGN.items() if fnmatch(name, pattern)), "")
