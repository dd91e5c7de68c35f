"""Numbers that several names share are read once, and cannot be made to add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vlcam.formats.pickles.storages import Storages, read_tensors
from vlcam.formats.torch_pickle import read_torch_modules

LAYOUTS = (True, False)


def stored(path: Path, state: dict[str, Tensor], layout: bool) -> Any:
    torch.save(state, path, _use_new_zipfile_serialization=layout)
    return read_torch_modules(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shared_numbers_are_read_once(
    tmp_path: Path, layout: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.arange(600_000.0)
    state = {"a": whole, "b": whole, "most": whole[1:], "least": whole[:-1].view(-1, 1)}
    seen, real = [], Storages.read
    monkeypatch.setattr(Storages, "read", lambda s, key: seen.append(key) or real(s, key))
    read = read_tensors(stored(tmp_path / "x.pth", state, layout))
    assert len(seen) == 1 and list(read) == list(state)
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert len({value.untyped_storage().data_ptr() for value in read.values()}) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_large_tensor_under_many_names_is_refused(tmp_path: Path, layout: bool) -> None:
    """Of 70 names of 67 MB a network of 4.8 GB would be made."""
    state = dict.fromkeys((f"layer.{i}.weight" for i in range(70)), torch.ones(500_000))
    with pytest.raises(ValueError, match=r"x\.pth: damaged: its 70 tensors have 140000000 bytes"):
        read_tensors(stored(tmp_path / "x.pth", state, layout))
