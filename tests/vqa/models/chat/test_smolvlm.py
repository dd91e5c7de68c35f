"""SmolVLM: tiles, and an overview of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import vlcam
from tests.samples.vqa.chat import ANSWER, LAYERS, QUESTION, loaded, photo, save, seen
from vlcam.attribution.gradients import explain_at_layer, score, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import units, whole
from vlcam.geometry.grid import Placement
from vqa.models.chat.chat import ChatModel
from vqa.models.chat.smolvlm import SmolVLM


def test_tiles_that_patches_do_not_fill(tmp_path: Path) -> None:
    folder = save(tmp_path / "gaps", "smolvlm")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"size": {"longest_edge": 38}, "max_image_size": {"longest_edge": 19}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in (LAYERS["smolvlm"][0], "model.connector"):
        model = vlcam.load(folder, name)
        pixels, _ = model.prepare(photo(40, 40))
        assert pixels.shape == (3, 38, 38)
        grid, step = model.grid((38, 38)), 8 if name == "model.connector" else 4
        inside = [(step - 1) / 2 + step * i for i in range(16 // step)]
        expected = tuple([*inside, *(19 + at for at in inside)])
        assert grid.centres == (expected, expected)
        assert grid.center(1, 0) == (expected[1], expected[0])


def test_an_overview_spans_the_whole_photo(folders: dict[str, Path]) -> None:
    model = loaded(folders["smolvlm"], "model.connector/overview")
    pixels, _ = model.prepare(photo(60, 30))
    assert pixels.shape == (3, 32, 48)
    grid = model.grid((32, 48))
    assert grid.size == (2, 2) and grid.stride == (16.0, 24.0)
    assert grid.offset == (7.5, 11.5)
    assert model.encode(pixels[None]).maps.shape[2:] == (2, 2)


def test_the_overview_has_the_gradient_of_its_filter(folders: dict[str, Path]) -> None:
    model = loaded(folders["smolvlm"])
    assert isinstance(model, SmolVLM)
    pixels = model.prepare(photo())[0][None]
    made = model._processed([[photo()]])["pixel_values"][0, -1]
    leaf = pixels.clone().requires_grad_()
    overview = model._overview(leaf)
    assert torch.equal(model._overview(pixels)[0], made)
    torch.testing.assert_close(overview[0].detach(), made, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(overview[0, 1, 5, 6], leaf)
    picture = torch.zeros(48, 48)
    picture[17, 20] = 1
    pressed = Image.fromarray(picture.numpy()).resize((16, 16), Image.Resampling.LANCZOS)
    assert float(slope[0, 1, 17, 20]) == pytest.approx(pressed.getpixel((6, 5)), abs=1e-6)
    assert slope[0, 0].abs().max() == 0


def test_a_photo_that_is_not_cut(tmp_path: Path) -> None:
    folder = save(tmp_path / "whole", "smolvlm")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["do_image_splitting"] = False
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    scores = []
    for name in ("model.connector", "model.connector/overview"):
        model = vlcam.load(folder, name)
        assert isinstance(model, ChatModel)
        pixels, placement = model.prepare(photo())
        assert pixels.shape == (3, 16, 16) and placement == Placement.resized((36, 50), (16, 16))
        assert model.grid((16, 16)).size == (2, 2) and model.grid((16, 16)).stride == (8.0, 8.0)
        answer = model.read_answer(model.understand(QUESTION), ANSWER)
        assert model.image_text(seen(model)).count("<image>") == 4
        scores.append(score(model, seen(model), [whole(answer)]))
    assert torch.equal(*scores)


@pytest.mark.parametrize("method", ["grad-cam-no-relu", "grad-cam-abs", "hirescam", "layercam"])
def test_gradients_are_pooled_over_all_tiles_or_over_each(
    method: str, folders: dict[str, Path]
) -> None:
    layer = LAYERS["smolvlm"][0]
    together, alone = (
        loaded(folders["smolvlm"], layer),
        loaded(folders["smolvlm"], f"{layer}/per-tile"),
    )
    assert together.describe()["pooled"] == "of all tiles together"
    assert alone.describe()["pooled"] == "each tile by itself"
    features = seen(together)
    rows, columns = (features.maps.shape[a] // 4 for a in (2, 3))  # tiles of 4 x 4 patches
    assert rows * columns > 1
    answer = together.read_answer(together.understand(QUESTION), ANSWER)
    asked = units(answer)
    (chunk,) = seam_gradients(together, features, asked)
    reduce = METHODS[method].reduce
    assert reduce is not None
    _, whole_maps = explain_at_layer(together, features, asked, METHODS[method])
    torch.testing.assert_close(
        whole_maps, reduce(features.maps.expand_as(chunk.gradients), chunk.gradients)
    )
    _, maps = explain_at_layer(alone, seen(alone), asked, METHODS[method])
    for row in range(rows):
        for column in range(columns):
            part = (..., slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            expected = reduce(
                features.maps[part].expand_as(chunk.gradients[part]), chunk.gradients[part]
            )
            torch.testing.assert_close(maps[part], expected)
    pools = method.startswith("grad-cam")
    assert pools == (not torch.allclose(maps, whole_maps, rtol=1e-3, atol=1e-7))


def test_other_ends_of_a_layers_name_are_refused(folders: dict[str, Path]) -> None:
    for end in ("/tiles", "/per-tile/overview", "/overview/per-tile"):
        with pytest.raises(ValueError, match="each also with /overview or /per-tile"):
            vlcam.load(folders["smolvlm"], f"model.connector{end}")
