"""Every function run a second time, in a graph that nothing cuts.

A model computes its score in autograd's graph, which ``detach``, ``.data``, ``no_grad`` and
``autograd.Function`` cut or bend. Beside it, every function that reads something made of the
feature maps is run again on mirrored tensors, with gradients switched on and without those cuts.
The mirrored score has the same value, and its gradient is the derivative; where the score's own
gradient differs, something on the way lets no gradient through, or a false one.

Where a mirror cannot help (operations without a derivative), the output becomes a leaf of its own:
if the score has a gradient there, it depends on what cannot be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils._pytree import tree_map

from vlcam.attribution.derivative.suspects import (
    CUTS,
    HOOKS,
    Suspect,
    differentiates,
    has_surrogate,
    is_escape,
    is_foreign,
    is_real,
    is_rounding,
    is_transformed,
    lacks_derivative,
    made_by_hand,
    suspect,
    tensors_in,
)
from vlcam.utils.exact_backward import is_exact
from vlcam.utils.torch_calls import TorchCalls


@dataclass(frozen=True)
class Found:
    """A call on the way from the feature maps to the score, its output and that of the mirror."""

    call: Suspect
    output: Tensor
    mirrored: Tensor

    @property
    def what(self) -> Suspect:
        """To blame: of what an ``autograd.Function`` gave, that."""
        name = made_by_hand(self.output)
        return self.call if name is None else replace(self.call, name=name)


class Mirror(TorchCalls):
    """Active in this thread while a model runs.

    Attributes:
        cuts: calls that autograd does not follow, though it could.
        lost: calls of what has no derivative (or a false one); mirrored as leaves.
        unseen: calls of which only differences can tell whether a gradient gets lost.
        escapes: calls that take values out of autograd's sight; the same of them, where a score
            uses these.
        rounded: calls that round.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[Found] = []
        self.lost: list[Found] = []
        self.unseen: list[Suspect] = []
        self.escapes: list[Suspect] = []
        self.rounded: list[Suspect] = []
        # By id: the tensor, which has to live as long as the number stands for it, and its mirror
        # image; or what hides the value in it (a quantised tensor).
        self._images: dict[int, tuple[Tensor, Tensor | Suspect]] = {}
        self._places: dict[object, Tensor] = {}  # the same, by where in memory they lie

    def follow(self, tensor: Tensor, image: Tensor) -> None:
        """From now on, ``image`` mirrors ``tensor``."""
        self._images[id(tensor)] = (tensor, image)
        self._places[_place(tensor)] = tensor

    def of(self, tensor: Tensor) -> Tensor:
        """The mirror image of a tensor; itself, where nothing of it is mirrored."""
        image = self._image(tensor)
        return image if isinstance(image, Tensor) else tensor

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        seen = [t for t in tensors_in(args, kwargs) if self._image(t) is not None]
        if not seen:
            self._look_at_unseen(func, args)
            return func(*args, **kwargs)
        if func in HOOKS:
            self.cuts.append(Found(suspect(func), args[0], self.of(args[0])))
        if func == _SET_DATA:
            self.cuts.append(Found(suspect(func), args[0], self.of(args[1])))
            self.follow(args[0], self.of(args[1]))
            return func(*args, **kwargs)
        if is_escape(func) and any(map(is_real, seen)) and not is_exact():
            rounds = is_rounding(func, kwargs, None)
            (self.rounded if rounds else self.escapes).append(suspect(func))
        return self._run(func, args, kwargs, seen)

    def _run(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        seen: Sequence[Tensor],
    ) -> Any:
        writes = _writes(func)
        if writes and isinstance(args[0], Tensor):
            self._own_image(args[0])
        images = tree_map(self._as_argument, (args, kwargs))
        images[1].pop("out", None)  # autograd refuses it, and what it returns is followed
        hidden = [image for image in map(self._image, seen) if isinstance(image, Suspect)]
        followed = torch.is_grad_enabled() and any(t.requires_grad for t in seen)
        was_followed = any(t.requires_grad for t in seen)
        random = _random_state(seen)
        result = func(*args, **kwargs)
        outputs = [args[0]] if writes else list(tensors_in(result))
        if not outputs:
            if is_foreign(func):
                self.unseen.append(suspect(func))
            return result
        with _random_numbers(seen, random), _graph():
            mirrored = _as_reflected(func)(*images[0], **images[1])
        reflected = [images[0][0]] if writes else list(tensors_in(mirrored))
        for output, image in zip(outputs, reflected, strict=True):
            self._pair(func, args, kwargs, output, image, hidden=hidden, images=images)
            goes_on = followed and output.requires_grad
            cut = is_real(output) and was_followed and not goes_on and not is_exact()
            if cut and self._follows(output):
                self.cuts.append(Found(suspect(func), output, self.of(output)))
        return result

    def _pair(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Tensor,
        image: Tensor,
        *,
        hidden: Sequence[Suspect],
        images: Any,
    ) -> None:
        """Follow an output, or find that it cannot be followed."""
        if is_rounding(func, kwargs, output) and not is_exact():
            self.rounded.append(suspect(func))
        elif is_foreign(func) and not is_real(output):
            self.unseen.append(suspect(func))
        if output.is_quantized:
            self._images[id(output)] = (output, hidden[0] if hidden else suspect(func))
        elif not is_real(output):
            return
        elif has_surrogate(func, args, kwargs) or _has_no_derivative(image):
            if hidden or _depends(func, images, image):
                self._lose(hidden[0] if hidden else suspect(func), output, image)
        else:
            self.follow(output, image)
            if is_foreign(func):
                self._check_formula(func, output, image)

    def _check_formula(self, func: Callable[..., Any], output: Tensor, image: Tensor) -> None:
        """Of an operation of a library: whether a derivative was registered for it. If so, nobody
        knows whether it is right."""
        assert image.grad_fn is not None
        edges = [GradientEdge(node, n) for node, n in image.grad_fn.next_functions if node]
        try:
            torch.autograd.grad(
                image, edges, torch.zeros_like(image), retain_graph=True, allow_unused=True
            )
        except RuntimeError:  # what PyTorch raises where there is none
            self._lose(suspect(func), output, image)
        else:
            self.unseen.append(suspect(func))

    def _lose(self, what: Suspect, output: Tensor, image: Tensor) -> None:
        leaf = image.detach().clone().requires_grad_()
        self.lost.append(Found(what, output, leaf))
        with torch.enable_grad():
            self.follow(output, leaf.clone())

    def _look_at_unseen(self, func: Callable[..., Any], args: Sequence[Any]) -> None:
        """A tensor that an ``autograd.Function`` made of which no function was seen; or a cut
        within a transform."""
        for tensor in tensors_in(args):
            cut = func in CUTS or not torch.is_grad_enabled()
            if made_by_hand(tensor) is not None or (cut and is_transformed(tensor)):
                self.unseen.append(suspect(func, [tensor]))

    def _follows(self, tensor: Tensor) -> bool:
        image = self._image(tensor)
        return isinstance(image, Tensor) and image.requires_grad

    def _image(self, tensor: Tensor) -> Tensor | Suspect | None:
        if id(tensor) in self._images:
            return self._images[id(tensor)][1]
        base = tensor._base
        if base is None:
            return self._of_the_same_memory(tensor)
        if id(base) not in self._images:
            return None
        image = self._images[id(base)][1]
        if not isinstance(image, Tensor) or image.stride() != base.stride():
            return None
        return _same_view(tensor, base, image)

    def _of_the_same_memory(self, tensor: Tensor) -> Tensor | Suspect | None:
        """The image of a tensor that was wrapped without a function that is seen: as a
        ``Variable``, a ``Parameter``, a subclass."""
        found = None if tensor.grad_fn is not None else self._places.get(_place(tensor))
        return None if found is None else self._images[id(found)][1]

    def _own_image(self, tensor: Tensor) -> None:
        """Something made of the feature maps will be written into it: what has no image gets
        one."""
        if self._image(tensor) is not None:
            return
        whole = tensor if tensor._base is None else tensor._base
        self.follow(whole, whole.detach().clone())

    def _as_argument(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        image = self._image(value)
        if isinstance(image, Tensor):
            return image
        # Parameters are constants here.
        return value.detach() if value.is_leaf and value.requires_grad else value


_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
_STAYS = {Tensor.detach_, torch.detach_, Tensor.requires_grad_}


def _as_reflected(func: Callable[..., Any]) -> Callable[..., Any]:
    """What the mirror does in its place: nothing cuts."""
    if func in _STAYS:
        return lambda image, *_: image
    if func in CUTS:
        return lambda image, *_: image.view_as(image)
    return func


def _writes(func: Callable[..., Any]) -> bool:
    """Whether it writes into its first argument."""
    name = getattr(func, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE


_IN_PLACE = {
    f"__{name}__"
    for name in (
        *("setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
        *("iand", "ior", "ixor", "ilshift", "irshift", "imatmul"),
    )
}


def _has_no_derivative(image: Tensor) -> bool:
    return image.grad_fn is None or lacks_derivative(image)


def _depends(func: Callable[..., Any], images: Any, image: Tensor) -> bool:
    """Whether an output depends on the values that are followed (that of ``zeros_like`` does
    not)."""
    if differentiates(func):  # of a graph that there is only once
        return True
    generator = torch.Generator().manual_seed(0)

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor) or not is_real(value):
            return value
        if not value.requires_grad:
            return value.clone()
        factor = 1 + 0.2 * torch.rand(value.shape, generator=generator)
        return value.detach() * factor.to(value.device, value.dtype) + 0.01

    args, kwargs = tree_map(moved, images)
    with torch.no_grad():
        again = func(*args, **kwargs)
    outputs = [args[0]] if _writes(func) else tensors_in(again)
    return not any(
        t.shape == image.shape and torch.equal(t, image) for t in outputs if t.dtype == image.dtype
    )


def _place(tensor: Tensor) -> object:
    """What alone a tensor shares that lies in the same memory in the same way."""
    if not torch._C._has_storage(tensor) or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _same_view(tensor: Tensor, base: Tensor, image: Tensor) -> Tensor:
    """What ``tensor`` is of ``base``, of the image of ``base``."""
    with torch.enable_grad():
        offset = tensor.storage_offset() - base.storage_offset() + image.storage_offset()
        return image.as_strided(tensor.shape, tensor.stride(), offset)


@contextmanager
def _graph() -> Iterator[None]:
    """Gradients on, whatever the model switched off; its hooks on saved tensors are not called."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(_itself, _itself),
    ):
        yield


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _random_state(seen: Sequence[Tensor]) -> list[Tensor]:
    device = seen[0].device
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextmanager
def _random_numbers(seen: Sequence[Tensor], states: Sequence[Tensor]) -> Iterator[None]:
    """Draws the same random numbers again."""
    after = _random_state(seen)
    _set_random(seen, states)
    try:
        yield
    finally:
        _set_random(seen, after)


def _set_random(seen: Sequence[Tensor], states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], seen[0].device)
