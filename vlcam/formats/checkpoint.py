"""A trained model as a folder: its configuration in ``config.json``, its weights in safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from torch import Tensor, nn

from vlcam.formats.extent import Extent, no_larger_than
from vlcam.formats.packaged import KEY, filled_in, read_packaged, without_packaged
from vlcam.formats.state_dict import CNN_PREFIX, WEIGHTS, load_exactly, read_state_dict
from vlcam.formats.tensors import save_tensors
from vlcam.formats.world import WORLD, read_world
from vlcam.utils.files.atomic import folder_written, recover, written
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import described

CONFIG = "config.json"

_LAST_LAYERS = 2**28
"""Numbers of layers that are built and thrown away: of VGG-16 they are most."""

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")


def to_json(config: Any, architecture: str) -> dict[str, Any]:
    """A configuration (a data class) as in ``config.json``, with the architecture's name.

    A field whose value has ``to_json`` is written by that.
    """
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    plain = {n: v.to_json() if hasattr(v, "to_json") else v for n, v in values.items()}
    return {"architecture": architecture, **plain}


def from_json(kind: type[Config], data: Any, architecture: str, what: str) -> Config:
    """Inverse of :func:`to_json`; a field whose type has ``from_json`` is read by that.

    Args:
        kind: the data class.
        data: the content of ``config.json``.
        what: the kind of model, for errors: "captioner".

    Raises:
        ValueError: it is of another architecture, or no configuration of that kind.
    """
    found = data.get("architecture") if isinstance(data, dict) else None
    if found != architecture:
        raise ValueError(f"architecture is {described(found)}, expected {architecture!r}")
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
    del values["architecture"]
    try:
        for name, type_ in get_type_hints(kind).items():
            if (read := getattr(type_, "from_json", None)) is not None:
                values[name] = read(values[name])
        return kind(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a {what}'s configuration ({error})") from error


def save_folder(model: nn.Module, config: dict[str, Any], folder: Path, half: bool = False) -> None:
    """Write a model's configuration and weights (float16 where ``half``) to a folder, and what its
    training photos look like (its ``world``), where that is known.

    Weights of its CNN that a package holds are left out (:mod:`vlcam.formats.packaged`).
    """
    world = getattr(model, "world", None)
    state, files = without_packaged(model, _written(model.state_dict(), half))
    if files:
        config = {**config, KEY: files}
    with folder_written(folder) as draft:
        (draft / CONFIG).write_text(
            json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False), "utf-8"
        )
        save_tensors(state, draft / WEIGHTS)
        if world is not None:
            world.save(draft)


def save_cnn(model: nn.Module, path: Path, half: bool = False) -> None:
    """Write what was fine-tuned of a model's CNN (float16 where ``half``) to a file by itself, for
    several models of a package to share: see :func:`vlcam.networks.cnns.packaged`."""
    state, _ = without_packaged(model, _written(model.state_dict(), half))
    own = {k: v for k, v in state.items() if k.startswith(CNN_PREFIX)}
    with written(path) as draft:
        save_tensors({name.removeprefix(CNN_PREFIX): value for name, value in own.items()}, draft)


def _written(state: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    return {
        name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous()
        for name, value in state.items()
    }


def load_folder(path: Path, build: Callable[[Any, dict[str, Tensor]], Model], what: str) -> Model:
    """Read a model from its folder (or either file in it), in float32 and eval mode. Where the
    folder has a ``world`` (:mod:`vlcam.formats.world`), it becomes an attribute of that name.

    Args:
        build: makes the model from its configuration and weights, whose shapes may give its sizes;
            raises ValueError where they are not of such a model.
        what: the kind of model, for errors: "neuraltalk captioner".

    Raises:
        ValueError: a file, which is named, is missing, truncated, or of another architecture; or a
            package that fills in its CNN is missing or another.
    """
    folder = path if path.is_dir() else path.parent
    recover(folder)
    config_path, weights_path = folder / CONFIG, folder / WEIGHTS
    if not config_path.is_file():
        raise ValueError(f"{config_path}: no such file; a {what} is a folder with it and {WEIGHTS}")
    config = read_json(config_path)
    state = read_state_dict(weights_path)
    files = read_packaged(config, str(config_path))
    shapes = {
        f"{number} {name}": tuple(value.shape)
        for number, file in enumerate([state, *files])
        for name, value in file.items()
    }
    try:
        with no_larger_than(Extent.of(shapes), beside=_LAST_LAYERS):
            model = build(config, state)
    except (ValueError, RuntimeError) as error:  # the second: sizes beyond any memory
        raise ValueError(f"{config_path}: {one_line(error)}") from error
    load_exactly(
        model, filled_in(model, files) | state, f"{weights_path}: not the weights of this {what}"
    )
    _attach_world(model, folder)
    return model.eval()


def read_cnn(folder: Path) -> list[dict[str, Tensor]]:
    """The weights of the CNN of a model in its folder: what packages fill in, by the names in their
    files, then its own, by the CNN's names.

    Raises:
        ValueError: as by :func:`load_folder`.
    """
    state, config_path = read_state_dict(folder / WEIGHTS), folder / CONFIG
    config = read_json(config_path) if config_path.is_file() else {}
    own = {k.removeprefix(CNN_PREFIX): v for k, v in state.items() if k.startswith(CNN_PREFIX)}
    return [*read_packaged(config, str(config_path)), own]


def _attach_world(model: Any, folder: Path) -> None:
    world = read_world(folder)
    if world is None:
        return
    layers = getattr(getattr(model, "encoder", None), "layers", None)
    channels = layers[-1].shape[0] if layers else 0
    if len(world.mean) != channels:
        raise ValueError(
            f"{folder / WORLD}: of a CNN with {len(world.mean)} channels, this one has {channels}"
        )
    model.world = world
