"""Any ``nn.Module``, cut at a named layer while it runs: the adapter for models without a seam."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapter import Adapter, FeatureMaps, Prompt
from vlcam.cells import derive
from vlcam.geometry import Grid, Placement
from vlcam.preprocess import Preprocess
from vlcam.untouched import untouched

Score = Callable[[nn.Module, Tensor, Sequence[Prompt]], Tensor]
"""``score(module, pixels (N, 3, H, W), prompts) -> scores (N, S)``, row n of both its own."""


class ModuleAdapter(Adapter):
    """A module, the name of the layer to explain, and a function that runs it to scores.

    The layer's output is taken, and later replaced, during the forward pass. Same results as an
    adapter with a seam; the price is that ``decode`` runs the part before the layer again for every
    row (its result is dropped), so T targets cost about T forward passes, in memory-bound chunks.

    Args:
        module: left as it was; a compiled one is unwrapped, and compiled parts of one run as they
            are written, as everywhere in vlcam.
        layer: dotted name, as in ``module.named_modules()``. Its output must be (B, K, u, v).
        score: runs the module; see :data:`Score`.
        preprocess: how a photo becomes pixels.
        example: a prompt ``score`` can be run under where only the layer's output is wanted, which
            must not depend on it.
        grid: where the layer's cells lie in the input; derived from the layers where None.

    Raises:
        ValueError: no such layer (names the nearest); while explaining: a layer that runs not
            exactly once in a forward pass, or whose output is not one (B, K, u, v) tensor.
    """

    def __init__(
        self,
        module: nn.Module,
        layer: str,
        score: Score,
        preprocess: Preprocess | None = None,
        example: Prompt = None,
        grid: Grid | None = None,
        name: str | None = None,
    ) -> None:
        self.module = getattr(module, "_orig_mod", module)
        layers = dict(self.module.named_modules(remove_duplicate=False))
        if layer not in layers or not layer:
            near = get_close_matches(layer, layers, n=3) or [n for n in layers if n][-3:]
            raise ValueError(f"no layer {layer!r}; there are, among others: {', '.join(near)}")
        self.layer = layer
        self.name = name or type(self.module).__name__
        self._score = score
        self._preprocess = preprocess or Preprocess()
        self._example = example
        self._grid = grid

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess(photo)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        return FeatureMaps(self._run_to_layer(pixels.clone()), {"pixels": pixels})

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        with _hooked(self.module, self.layer, features.maps) as calls:
            scores = self._score(self.module, features.rest["pixels"], prompts)
        calls.output()
        return scores

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if self._grid is None:
            kind = next((p.dtype for p in self.module.parameters()), torch.float32)
            blank = torch.empty(1, 3, *input_size, dtype=kind)
            with untouched(self.module):
                self._grid = derive(self._run_to_layer, blank)
        return self._grid

    def _run_to_layer(self, pixels: Tensor) -> Tensor:
        with _hooked(self.module, self.layer, None) as calls, suppress(_LayerReachedError):
            self._score(self.module, pixels, [self._example] * len(pixels))
        return calls.output()


_hooking = threading.Lock()


class _LayerReachedError(BaseException):
    """Ends a forward pass of which only the layer's output is wanted."""


class _Calls:
    """What the layer put out while it was watched."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.outputs: list[Tensor] = []

    def add(self, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {self.layer} gives {shape}; expected one tensor (B, K, u, v)")
        if self.outputs:
            raise ValueError(
                f"layer {self.layer} runs more than once in a forward pass; choose another"
            )
        self.outputs.append(output)

    def output(self) -> Tensor:
        if not self.outputs:
            raise ValueError(f"layer {self.layer} did not run in the forward pass")
        return self.outputs[0]


@contextmanager
def _hooked(module: nn.Module, layer: str, replacement: Tensor | None) -> Iterator[_Calls]:
    """Watch a layer, in this thread: replace its output, or end the run where it has it."""
    calls, thread = _Calls(layer), threading.get_ident()

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread:
            return None
        calls.add(output)
        if replacement is None:
            raise _LayerReachedError
        if output.shape != replacement.shape:
            raise ValueError(
                f"layer {layer} gives {tuple(output.shape)} where {tuple(replacement.shape)} is"
                " explained; the score function must run the pixels it is given, row by row"
            )
        calls.outputs = [replacement]  # frees the graph of the part before the layer
        return replacement

    with _hooking:  # PyTorch numbers its hooks without a lock
        handle = module.get_submodule(layer).register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
