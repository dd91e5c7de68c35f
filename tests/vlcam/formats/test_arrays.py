"""Arrays are unpacked where they are what their archive says, and of bounded size."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from vlcam.formats import arrays
from vlcam.formats.arrays import read_arrays


def test_named_arrays_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(6).reshape(2, 3), b=np.ones(2, "f4"))
    found = read_arrays(tmp_path / "a.npz", ("b", "a", "c"))
    assert sorted(found) == ["a", "b"] and found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("shape", ["(1000000000, 1000)", "(0, 1099511627776)", "(3,)", "(-1,)"])
def test_a_shape_that_lies_is_refused(tmp_path: Path, shape: str) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(8)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(ValueError, match=r"a of shape .* has 8 bytes"):
        read_arrays(tmp_path / "a.npz", ("a",))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6))
    monkeypatch.setattr(arrays, "_MOST", 10**6)
    with pytest.raises(ValueError, match="its arrays take more than"):
        read_arrays(tmp_path / "a.npz", ("a",))
