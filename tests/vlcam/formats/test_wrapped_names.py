"""What wrapped a module when it was saved leaves no trace in the names of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vlcam
from tests.samples.captioning import neuraltalk2_pytorch, show_attend_tell, tutorial_captioner
from tests.samples.vqa import basic_vqa, skyol5_pytorch
from vlcam.formats.wrapped_names import unwrapped

WRAPPINGS: list[Callable[[str], str]] = [
    lambda name: f"module.{name}",
    lambda name: f"_orig_mod.module.module._orig_mod.{name}",
    lambda name: "._orig_mod.".join(name.split(".", 1)),
    lambda name: f"_fsdp_wrapped_module.{'.module.'.join(name.rsplit('.', 1))}",
]


def test_names() -> None:
    for wrap in WRAPPINGS:
        state = {"conv.0.weight": 1, "scale": 2, "submodule.module_list.x": 3}
        assert unwrapped({wrap(name): value for name, value in state.items()}, "x") == state
    assert unwrapped({"module.a": 1, "n_averaged": 5}, "x") == {"a": 1}
    assert unwrapped({"a": 1, "n_averaged": 5}, "x") == {"a": 1, "n_averaged": 5}
    with pytest.raises(ValueError, match=r"x: module\.a is there twice"):
        unwrapped({"a": 1, "module.a": 2}, "x")


def _rewrap(path: Path, wrap: Callable[[str], str]) -> None:
    saved = torch.load(path, weights_only=False)
    for state in [saved, saved.get("state_dict"), saved.get("encoder"), saved.get("decoder")]:
        if isinstance(state, dict) and any(isinstance(v, torch.Tensor) for v in state.values()):
            own = dict(state)
            state.clear()
            state.update({wrap(name): value for name, value in own.items()})
    torch.save(saved, path)


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize(
    "write",
    [
        neuraltalk2_pytorch.write_checkpoint,
        tutorial_captioner.write_checkpoint,
        basic_vqa.write_checkpoint,
        skyol5_pytorch.write_checkpoint,
        lambda folder: show_attend_tell.write_checkpoint(folder, form=""),
    ],
)
def test_every_family_of_checkpoints(
    tmp_path: Path, write: Callable[[Path], Path], wrap: Callable[[str], str]
) -> None:
    plain, wrapped = write(tmp_path / "plain"), write(tmp_path / "wrapped")
    for path in wrapped.iterdir():
        if path.suffix in (".pth", ".ckpt", ".tar"):
            _rewrap(path, wrap)
    expected = vlcam.load(plain).module.state_dict()
    found = vlcam.load(wrapped).module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_an_encoder_within_two_wrappers_keeps_its_settings(tmp_path: Path) -> None:
    folder = show_attend_tell.write_checkpoint(tmp_path / "x", form="parallel", cells=3)
    assert vlcam.load(folder).module.config.cells == 3
