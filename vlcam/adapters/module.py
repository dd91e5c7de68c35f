"""Any ``nn.Module``, cut at a named layer while it runs: the adapter for models without a seam."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.scores import checked
from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Grid, Placement
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.functions import check_takes
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import described, expect, kind_of
from vlcam.utils.messages.nearest import hint
from vlcam.utils.untouched import untouched

Score = Callable[[nn.Module, Tensor, Sequence[Prompt]], Tensor]
"""``score(module, pixels (N, 3, H, W), prompts) -> scores (N, S)``, row n of both its own."""


_LONGEST = 200  # characters of what went wrong


@dataclass(frozen=True)
class Tokens:
    """Where the cells are among the tokens (B, L, K) that a transformer's layer gives.

    Attributes:
        patch: side of a patch in input pixels; an input of H x W has H // patch rows of
            W // patch tokens, row by row.
        skip: how many tokens before them are no patches (a class token, registers).

    Raises:
        ValueError: a patch below 1 or a negative skip.
    """

    patch: int
    skip: int = 0

    def __post_init__(self) -> None:
        whole = all(type(number) is int for number in (self.patch, self.skip))
        if not whole or self.patch < 1 or self.skip < 0:
            raise ValueError(
                f"patch {described(self.patch)} and skip {described(self.skip)}: no layout of"
                " tokens; expected whole numbers, patch at least 1 and skip at least 0"
            )

    def cells(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of cells of an input of (height, width)."""
        return input_size[0] // self.patch, input_size[1] // self.patch


class ModuleAdapter(Adapter):
    """A module, the name of the layer to explain, and a function that runs it to scores.

    The layer's output is taken, and later replaced, during the forward pass. The results are those
    of an adapter with a seam; the price is that ``decode`` runs the part before the layer again for
    every row (and drops its result), so that T targets cost about T forward passes, in chunks of
    bounded memory.

    Args:
        module: left as it was; a compiled one is unwrapped, and compiled parts of it run
            uncompiled, as everywhere in vlcam.
        layer: dotted name, as in ``module.named_modules()``. Its output (or the first of several)
            must be (B, K, u, v), or (B, L, K) with ``tokens``.
        score: runs the module; see :data:`Score`.
        preprocess: how a photo becomes pixels; None: 224 x 224, ImageNet's mean and deviation.
        example: a prompt to run ``score`` under where only the layer's output is wanted, which
            must not depend on it.
        grid: where the layer's cells lie in the input; None: derived from the layers before it.
        name: as results carry it; None: the module's class.
        tokens: where the cells are among the tokens, of a layer that gives tokens.

    Raises:
        ValueError: there is no such layer (the nearest are named), or it lies in a scripted
            module; ``score`` or ``preprocess`` does not take what it will be given, or another
            argument is of another kind; while explaining: ``score`` or ``preprocess`` fails, the
            layer does not run exactly once in a forward pass, its output is not of that form, or
            the scores are no tensor (N, S) of real numbers.
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
        tokens: Tokens | None = None,
    ) -> None:
        self.module = getattr(module, "_orig_mod", module)
        check_takes(score, "score", "module", "pixels", "prompts")
        _check_preprocess(preprocess)
        if name is not None:
            expect(name, str, "name", "a text")
        if grid is not None:
            expect(grid, Grid, "grid", "a vlcam.geometry.grid.Grid")
        refuse_unhashable(example, "example")
        self.name = name or type(self.module).__name__
        self._score = score
        self._preprocess = Preprocess() if preprocess is None else preprocess
        self._preprocess_given = preprocess is not None
        self._example = example
        self._tokens = tokens
        self.cut_at(layer)
        self._grid = grid

    def cut_at(self, layer: str | None) -> None:
        """As of an :class:`Adapter`; a grid that was given is that of the layer before."""
        layers = dict(self.module.named_modules(remove_duplicate=False))
        if not layer or layer not in layers:
            names = [name for name in layers if name]
            raise ValueError(f"no layer {layer!r}; {hint(layer or '', names, names[-3:])}")
        _refuse_scripted(layers, layer)
        self.layer = layer
        self._grid = None

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        try:
            found: Any = self._preprocess(photo)
        except Exception as error:
            if isinstance(self._preprocess, Preprocess):
                raise  # an error of ours
            raise ValueError(
                f"{self.name}: preprocess failed on a photo, which is given as a PIL image"
                f" ({_told(error)})"
            ) from error
        pair = isinstance(found, tuple) and len(found) == 2
        if not (pair and isinstance(found[0], Tensor) and isinstance(found[1], Placement)):
            raise ValueError(
                f"{self.name}: preprocess gave {kind_of(found)}; expected pixels (3, H, W)"
                " and their Placement, as vlcam.Preprocess(size=(H, W)) gives"
            )
        pixels, placement = found
        if pixels.ndim != 3 or len(pixels) != 3 or not pixels.is_floating_point():
            raise ValueError(
                f"{self.name}: preprocess gave pixels {tuple(pixels.shape)} of {pixels.dtype};"
                " expected floating point (3, H, W)"
            )
        return pixels, placement

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        prompts = [self._example] * len(pixels) if prompts is None else prompts
        with self._failures(pixels):
            maps = self._run_to_layer(pixels.clone(), prompts)
        return FeatureMaps(maps, {"pixels": pixels})

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        pixels = features.rest["pixels"]
        with self._failures(pixels), self._watched(pixels, features.maps) as calls:
            scores = self._score(self.module, pixels, prompts)
        calls.output()
        return checked(scores, f"{self.name}: score", len(prompts))

    def describe(self) -> dict[str, Any]:
        if self._preprocess_given:
            return {}
        return {"assumed": ["preprocess: 224 x 224 pixels, ImageNet's mean and deviation"]}

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if self._tokens is not None:
            return self._grid or Grid.patches(input_size, self._tokens.patch)
        if self._grid is None:
            kind = next((p.dtype for p in self.module.parameters()), torch.float32)
            blank = torch.empty(1, 3, *input_size, dtype=kind)
            with untouched(self.module):
                self._grid = derive(
                    lambda pixels: self._run_to_layer(pixels, [self._example]), blank
                )
        return self._grid

    def _run_to_layer(self, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        with self._watched(pixels, None) as calls, suppress(_LayerReachedError):
            self._score(self.module, pixels, prompts)
        return calls.output()

    @contextmanager
    def _failures(self, pixels: Tensor) -> Iterator[None]:
        """What the user's function raises becomes one line that names the cure. Not where gradients
        are taken: who takes them tells by its kind what an error means."""
        try:
            yield
        except (LayerError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            if torch.is_grad_enabled():
                raise
            cure = "preprocess must give the pixels that score takes"
            if not self._preprocess_given:
                cure = (
                    "no preprocess was given, so this is ImageNet's: say what the module takes,"
                    " preprocess=vlcam.Preprocess(size=(H, W))"
                )
            raise ValueError(
                f"{self.name}: score failed on pixels {tuple(pixels.shape)} ({_told(error)});"
                f" {cure}"
            ) from error

    def _watched(
        self, pixels: Tensor, replacement: Tensor | None
    ) -> AbstractContextManager[_Calls]:
        size = (pixels.shape[2], pixels.shape[3])
        return _hooked(self.module, _Calls(self.layer, self._tokens, size), replacement)


def _check_preprocess(preprocess: Any) -> None:
    """Raises ValueError for what makes no pixels of a photo."""
    if preprocess is None or isinstance(preprocess, Preprocess):
        return
    if isinstance(preprocess, type) or not callable(preprocess):
        kind = f"the class {preprocess.__name__}" if isinstance(preprocess, type) else None
        raise ValueError(
            f"preprocess is {kind or described(preprocess)}, expected a"
            " vlcam.Preprocess(size=(H, W)), or a function that gives what it does"
        )
    check_takes(preprocess, "preprocess", "photo")


def refuse_unhashable(prompt: Prompt, what: str) -> None:
    """Raises ValueError for a prompt that cannot be one."""
    try:
        hash(prompt)
    except TypeError:
        raise ValueError(
            f"{what} is {described(prompt)}, which cannot be hashed; a prompt can be a tuple, a"
            " text or a number"
        ) from None


def _told(error: Exception) -> str:
    """An error's kind and message, in one line of bounded length."""
    return f"{type(error).__name__}: {one_line(error)[:_LONGEST]}"


def _refuse_scripted(layers: dict[str, nn.Module], layer: str) -> None:
    """Raises ValueError where the layer is scripted, or inside something scripted: there are no
    hooks."""
    parts = layer.split(".")
    around = [".".join(parts[:n]) for n in range(len(parts) + 1)]
    for name in around:
        if isinstance(layers[name], torch.jit.ScriptModule):
            raise ValueError(
                f"layer {layer!r} lies in a scripted part ({name or 'the whole model'}), whose"
                " outputs cannot be taken; wrap the module that was scripted or traced"
            )


def _first(output: Any) -> Any:
    """Of several outputs (hidden states, attentions, ...) the first."""
    return output[0] if isinstance(output, tuple | list) and output else output


_hooking = threading.Lock()


class LayerError(ValueError):
    """The layer gives no feature maps that can be explained. The message says how."""


class _LayerReachedError(BaseException):
    """Ends a forward pass once the layer has given its output, where no more is wanted."""


class _Calls:
    """What the layer gave in a forward pass, as feature maps."""

    def __init__(self, layer: str, tokens: Tokens | None, input_size: tuple[int, int]) -> None:
        self.layer = layer
        self.outputs: list[Tensor] = []
        self._tokens = tokens
        self._cells = tokens.cells(input_size) if tokens else None

    def add(self, output: Any) -> Tensor:
        """The feature maps in the layer's output."""
        if self.outputs:
            raise LayerError(
                f"layer {self.layer} runs more than once in a forward pass; choose another"
            )
        self.outputs.append(self._maps(output))
        return self.outputs[0]

    def _maps(self, output: Any) -> Tensor:
        first = _first(output)
        shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        if self._tokens is None or self._cells is None:
            if not isinstance(first, Tensor) or first.ndim != 4:
                tokens = isinstance(first, Tensor) and first.ndim == 3
                cure = "say how: patch=..., skip=..." if tokens else "choose another layer"
                raise LayerError(
                    f"layer {self.layer} gives {shape}; expected a tensor (B, K, u, v), or tokens"
                    f" (B, L, K) and how they are laid out: {cure}"
                )
            return first
        count = self._tokens.skip + self._cells[0] * self._cells[1]
        if not isinstance(first, Tensor) or first.ndim != 3 or first.shape[1] != count:
            rows, columns = self._cells
            raise LayerError(
                f"layer {self.layer} gives {shape}; expected tokens (B, {count}, K):"
                f" {self._tokens.skip} and {rows} x {columns} patches"
            )
        return first[:, self._tokens.skip :].transpose(1, 2).unflatten(2, self._cells)

    def replaced(self, output: Any, maps: Tensor) -> Any:
        """The layer's output with other feature maps in it."""
        self.outputs = [maps]  # frees the graph of the part before the layer
        first = maps
        if self._tokens is not None:
            others = _first(output)[:, : self._tokens.skip]
            first = torch.cat([others, maps.flatten(2).transpose(1, 2)], 1)
        return first if isinstance(output, Tensor) else type(output)([first, *output[1:]])

    def output(self) -> Tensor:
        """The feature maps; ValueError where the layer did not run."""
        if not self.outputs:
            raise LayerError(f"layer {self.layer} did not run in the forward pass")
        return self.outputs[0]


@contextmanager
def _hooked(module: nn.Module, calls: _Calls, replacement: Tensor | None) -> Iterator[_Calls]:
    """Inside, in this thread, the layer's output is replaced; without a replacement the forward
    pass ends there."""
    thread = threading.get_ident()

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if threading.get_ident() != thread:
            return None
        maps = calls.add(output)
        if replacement is None:
            raise _LayerReachedError
        if maps.shape != replacement.shape:
            raise LayerError(
                f"layer {calls.layer} gives {tuple(maps.shape)} where {tuple(replacement.shape)} is"
                " explained; the score function must run the pixels it is given, row by row"
            )
        return calls.replaced(output, replacement)

    with _hooking:  # PyTorch numbers its hooks without a lock
        layer = dict(module.named_modules(remove_duplicate=False))[calls.layer]
        handle = layer.register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
