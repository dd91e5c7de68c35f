"""NeuralTalk2's checkpoints, as Lua Torch7 writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.samples.torch7_files import save
from vlcam.formats.torch7 import LuaObject

WORDS = ["a", "dog", "on", "grass", "red", "UNK"]
V, E, H, LONGEST = len(WORDS), 11, 8, 6
WIDTHS = ((3,), (4,), (4,), (3, 4), (4, 3))
Weights = dict[str, np.ndarray]


def weights(seed: int = 0, layers: int = 1, widths: Any = WIDTHS, cells: int = 49) -> Weights:
    """Random ones of the sizes that a checkpoint may have, by names of the test's own."""
    random = np.random.default_rng(seed)
    found: Weights = {}

    def add(name: str, *shape: int, scale: float = 1.0) -> None:
        spread = scale * np.prod(shape[1:]) ** -0.5
        found[f"{name}.weight"] = random.normal(0, spread, shape).astype(np.float32)
        found[f"{name}.bias"] = random.normal(0.1, 0.1, shape[0]).astype(np.float32)

    inputs = 3
    for block, convolutions in enumerate(widths, 1):
        for place, out in enumerate(convolutions, 1):
            add(f"conv{block}_{place}", out, inputs, 3, 3, scale=1.6 if inputs > 3 else 0.02)
            inputs = out
    add("fc6", 16, inputs * cells, scale=2)
    add("fc7", 15, 16, scale=2)
    add("embed", E, 15, scale=2)
    for layer in range(1, layers + 1):
        add(f"i2h_{layer}", 4 * H, E if layer == 1 else H, scale=2)
        add(f"h2h_{layer}", 4 * H, H)
    add("decoder", V + 1, H, scale=4)
    found["lookup_table.weight"] = random.normal(0, 1, (V + 1, E)).astype(np.float32)
    return found


def checkpoint(w: Weights, layers: int = 1, backend: str = "nn", matrices: bool = False) -> Any:
    """The table that NeuralTalk2's training saves.

    Args:
        backend: whose classes the CNN's layers are.
        matrices: convolutions' weights are (out, in * height * width), as some classes keep them.
    """

    def module(kind: str, name: str = "", **fields: Any) -> LuaObject:
        own = {k: w[f"{name}.{k}"] for k in ("weight", "bias") if f"{name}.{k}" in w}
        return LuaObject(kind, {"_type": "torch.FloatTensor", "name": name, **own, **fields})

    cnn: list[LuaObject] = []
    blocks = sorted({name[4] for name in w if name.startswith("conv")})
    for block in blocks:
        place = 0
        while f"conv{block}_{place + 1}.weight" in w:
            place += 1
            name = f"conv{block}_{place}"
            kernel = w[f"{name}.weight"]
            sizes = {"nInputPlane": kernel.shape[1], "kW": 3, "kH": 3, "dW": 1, "dH": 1}
            made = module(f"{backend}.SpatialConvolution", name, padW=1, padH=1, **sizes)
            if matrices:
                made.kind = "nn.SpatialConvolutionMM"
                made.fields["weight"] = kernel.reshape(len(kernel), -1)
            cnn += [made, module(f"{backend}.ReLU", inplace=True)]
        cnn.append(module(f"{backend}.SpatialMaxPooling", kW=2, kH=2, dW=2, dH=2, ceil_mode=True))
    cnn.append(module("nn.View", numInputDims=3))
    for name in ("fc6", "fc7", "embed"):
        cnn += [module("nn.Linear", name), module(f"{backend}.ReLU")]
        cnn += [module("nn.Dropout", p=0.5)] if name != "embed" else []

    lstm = [f"{kind}_{layer}" for layer in range(1, layers + 1) for kind in ("i2h", "h2h")]
    linear = [module("nn.Linear", name) for name in [*lstm, "decoder"]]
    nodes = [
        LuaObject("nngraph.Node", {"data": {"annotations": {"name": name}, "module": one}})
        for name, one in zip([*lstm, "decoder"], linear, strict=True)
    ]
    nodes.insert(1, LuaObject("nngraph.Node", {"data": {"annotations": {}, "selectindex": 2}}))
    core = LuaObject("nn.gModule", {"modules": numbered(linear), "forwardnodes": numbered(nodes)})
    sizes = {"vocab_size": V, "input_encoding_size": E, "rnn_size": H, "seq_length": LONGEST}
    lookup = LuaObject("nn.LookupTable", {"weight": w["lookup_table.weight"]})
    lm = {"core": core, "lookup_table": lookup, "num_layers": layers, **sizes}
    return {
        "opt": {"id": "tiny", "backend": "cudnn", "gpuid": 0},
        "iter": 2500,
        "loss_history": {0: 3.2, 25: 2.9},
        "vocab": {str(i): word for i, word in enumerate(WORDS, 1)},
        "protos": {
            "cnn": LuaObject("nn.Sequential", {"modules": numbered(cnn)}),
            "lm": LuaObject("nn.LanguageModel", lm),
        },
    }


def numbered(values: list[Any]) -> dict[int, Any]:
    return dict(enumerate(values, 1))


def write_checkpoint(folder: Path, widths: Any = WIDTHS) -> Path:
    folder.mkdir(exist_ok=True)
    save(folder / "model_idtiny.t7", checkpoint(weights(widths=widths)))
    return folder / "model_idtiny.t7"
