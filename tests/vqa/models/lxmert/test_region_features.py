"""Files of regions that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vlcam
from tests.samples.vqa.lxmert import QUESTION, regions, save_photo
from vqa.models.lxmert.lxmert import load
from vqa.models.lxmert.region_features import read


def test_regions_it_cannot_use(folder: Path, tmp_path: Path) -> None:
    path = save_photo(tmp_path)
    beside, good = Path(f"{path}.regions.npz"), regions()
    features, boxes = good.features.numpy(), good.boxes.numpy()
    wide = np.concatenate([boxes[:, :2], boxes[:, 2:] + 99], 1)
    for arrays, said in (
        ({"features": features}, "it has no boxes"),
        ({"features": features, "boxes": boxes[:5]}, r"\(6, 10\) and boxes \(5, 4\)"),
        ({"features": features[:0], "boxes": boxes[:0]}, "at least one region"),
        ({"features": features * np.nan, "boxes": boxes}, "not finite"),
        ({"features": features, "boxes": boxes[:, [2, 1, 0, 3]]}, "box 0 has no size"),
        ({"features": features, "boxes": wide}, "does not lie in a photo of 50 x 40"),
        ({"features": features.astype(str), "boxes": boxes}, "not numbers"),
        ({"features": np.array([{}]), "boxes": boxes}, "no array of numbers"),
        ({"features": features[:, :5], "boxes": boxes}, "reads 10"),
    ):
        np.savez(beside, **arrays)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=rf"dog\.png\.regions\.npz: .*{said}"):
            vlcam.explain(load(folder), path, question=QUESTION)
    np.savez(beside, features=features, boxes=boxes)
    whole = beside.read_bytes()
    for damaged in (b"", b"\x80\x04.", whole[:200], whole[:-30]):
        beside.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"dog\.png\.regions\.npz: not the regions"):
            read(str(path), (40, 50))
    beside.unlink()
    with pytest.raises(ValueError, match=r"dog\.png\.regions\.npz: no such file"):
        vlcam.look(load(folder), path)
