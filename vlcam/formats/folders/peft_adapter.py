"""Adapters of peft that lie beside a model: LoRA, merged into its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn
from transformers.utils import is_peft_available

from vlcam.formats.extent import Extent, no_larger_than
from vlcam.formats.folders.files import read_settings
from vlcam.formats.folders.foreign import ADAPTER
from vlcam.formats.state_dict import read_state_dict, unreadable

MERGED = "merged_adapter"
"""The attribute of a model that says which adapter was merged into it."""

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_MERGE = "merge it into the model (peft's merge_and_unload)"
_NAME = "default"

_NAMES = "_weight_conversions"
"""The attribute in which transformers remembers by what names to save a model: the model's own,
which those of the adapter take the place of."""

_IDLE = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "modules_to_save", "peft_type", "peft_version", "r", "rank_pattern", "revision",
    "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
"""Settings that may have any value; all others must be peft's defaults, as they change the model in
ways that cannot be merged, or that other versions of peft do not know."""

_UNSET: tuple[Any, ...] = (None, False, "none", {}, [])
_STARTS = (True, False, None, "gaussian")
"""Values of ``init_lora_weights`` that leave the base model's weights as they are."""

_OWN = re.compile(r"\.(?:lora_\w+|modules_to_save)\.")
"""What stands behind the name of a module in the names of what the adapter adds to it."""

_DORA = re.compile(r"\.lora_magnitude_vector$")

_RISKY = re.compile(r"\)[*+{]")
_MOST_REPEATS = 5


def merge_adapter(module: Any, folder: Path) -> None:
    """Merge the adapter in a model's folder, if there is one, into the model.

    Raises:
        ValueError: peft is not installed, the adapter is of a kind that is not merged here, it is
            damaged, or another model's; one line says which and what to do.
    """
    path = folder / ADAPTER
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not path.is_file():
        if files:
            raise ValueError(f"{files[0]}: an adapter of peft without its {ADAPTER}")
        return
    _check(said := read_settings(path), path)
    if not files:
        raise ValueError(f"{path}: an adapter of peft without its weights ({' or '.join(WEIGHTS)})")
    if not is_peft_available():
        raise ValueError(
            f"{path}: a LoRA adapter changes this model: pip install 'vlcam[peft]' to have it"
            f" applied, or {_MERGE}"
        )
    _check_defaults(said, path)
    _apply(module, folder, files[0])
    setattr(module, MERGED, f"LoRA of {files[0].name}, merged")


def _check(said: dict[str, Any], path: Path) -> None:
    """Refuses what is not merged here, whether or not peft is installed."""
    kind = said.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{path}: an adapter of kind {kind!r}; only LORA is read: {_MERGE}")
    start = said.get("init_lora_weights")
    if not (start is None or isinstance(start, bool) or start in _STARTS):
        raise ValueError(f"{path}: init_lora_weights {start!r} changes the model itself: {_MERGE}")
    for pattern in _patterns(said):
        if _RISKY.search(pattern) or sum(map(pattern.count, "*+")) > _MOST_REPEATS:
            raise ValueError(f"{path}: {pattern[:80]!r} is a regular expression that may run away")


def _check_defaults(said: dict[str, Any], path: Path) -> None:
    from peft import LoraConfig

    defaults = LoraConfig()
    for name, value in said.items():
        usual = (*_UNSET, getattr(defaults, name, None))
        if name not in _IDLE and value not in usual:
            raise ValueError(f"{path}: {name} {value!r} is not supported: {_MERGE}")


def _patterns(said: dict[str, Any]) -> Iterator[str]:
    """The settings that peft matches with the names of modules."""
    for name in ("target_modules", "exclude_modules", "layers_pattern"):
        found = said.get(name)
        yield from [found] if isinstance(found, str) else []
        yield from found if name == "layers_pattern" and isinstance(found, list) else []
    for name in ("rank_pattern", "alpha_pattern"):
        yield from said.get(name) or {}


def _apply(module: Any, folder: Path, weights: Path) -> None:
    from peft import PeftConfig

    # DoRA's lengths have no name of their own in the file, which transformers expects.
    state = {_DORA.sub(r"\g<0>.weight", name): t for name, t in read_state_dict(weights).items()}
    names = getattr(module, _NAMES, None)
    extent = Extent.of({name: tuple(value.shape) for name, value in state.items()})
    try:
        with no_larger_than(extent, ADAPTER):
            config = PeftConfig.from_pretrained(str(folder))
            report = module.load_adapter(
                peft_config=config,
                adapter_state_dict=state,
                adapter_name=_NAME,
                ignore_mismatched_sizes=True,  # they are reported, and refused below
            )
    except Exception as error:  # whatever settings that do not fit make peft stumble over
        raise ValueError(f"{weights}: cannot be applied ({unreadable(error)})") from error
    setattr(module, _NAMES, names)
    for problem, keys in (
        ("missing", _half_missing(module, report.missing_keys)),
        ("unexpected", report.unexpected_keys),
        ("of another shape:", {key for key, *_ in report.mismatched_keys}),
    ):
        if keys:
            names = ", ".join(sorted(keys)[:3])
            raise ValueError(f"{weights}: not an adapter of this model: {problem} {names}")
    try:
        _merge(module)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error


def _half_missing(module: nn.Module, missing: set[str]) -> set[str]:
    """Of the missing weights those that matter: of parts of which others are there, or all. A part
    of which nothing is there is not changed by the adapter: it begins with B = 0."""
    parts = [name for name, _ in module.named_parameters() if _OWN.search(name)]
    here = {_OWN.split(name)[0] for name in parts if name not in missing}
    return {name for name in missing if not here or _OWN.split(name)[0] in here}


def _merge(module: Any) -> None:
    """Leave the model as if its weights had always been those with the adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    parts = dict(module.named_modules())
    for name, part in parts.items():
        if isinstance(part, BaseTunerLayer):
            _check_alone(module, part.get_base_layer(), name)
            part.merge(safe_merge=True)
            _replace(parts, name, part.get_base_layer())
        elif isinstance(part, ModulesToSaveWrapper):
            _check_alone(module, part.original_module, name)
            _replace(parts, name, part.modules_to_save[_NAME])
    del module.peft_config
    module._hf_peft_config_loaded = False


def _check_alone(module: nn.Module, part: nn.Module, name: str) -> None:
    """Refuses to change weights that another part of the model shares."""
    own = {id(parameter) for parameter in part.parameters()}
    uses = sum(id(p) in own for _, p in module.named_parameters(remove_duplicate=False))
    if uses > len(own):
        raise ValueError(f"it changes {name}, whose weights another part of the model shares")


def _replace(parts: dict[str, nn.Module], name: str, part: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(parts[parent], own, part)
