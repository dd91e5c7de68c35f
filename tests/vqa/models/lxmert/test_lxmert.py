"""LXMERT from transformers: a tiny random model that looks at boxes, found beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vlcam
from tests.samples.pretrained import photo
from tests.samples.vqa.lxmert import ANSWERS, QUESTION, regions, save, save_photo
from vlcam.attribution.encoding import Prepared, encode, encode_photos
from vlcam.attribution.gradients import seam_gradients
from vlcam.attribution.targets import unit
from vlcam.cli.parser import main
from vlcam.explanation.explanation import Explanation
from vlcam.geometry.grid import Placement
from vqa.models.lxmert.lxmert import LxmertAnswerer, load

LAYERS = [
    "visual_feats", "lxmert.encoder.visn_fc", "lxmert.encoder.r_layers.0",
    "lxmert.encoder.r_layers.1", "lxmert.encoder.x_layers.0",
]  # fmt: skip


def original(model: LxmertAnswerer, features: Tensor, boxes: Tensor, ids: Any) -> Tensor:
    """The model's own forward, boxes in shares of the photo."""
    found: Tensor = model.module(
        input_ids=torch.tensor([ids]), visual_feats=features[None], visual_pos=boxes[None]
    ).question_answering_score[0]
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_logits_are_the_models_own(folder: Path, tmp_path: Path, layer: str) -> None:
    model = vlcam.load(folder, layer)
    assert isinstance(model, LxmertAnswerer) and model.layer == layer
    seen, found = vlcam.look(model, save_photo(tmp_path)), regions()
    questions = [model.understand(text).prompt for text in (QUESTION, "a dog")]
    shares = found.boxes / torch.tensor([50, 40, 50, 40])
    expected = [original(model, found.features, shares, ids) for ids in questions]
    both = encode(model, seen.pixels.repeat(2, 1, 1, 1), questions)
    with torch.no_grad():
        logits = model.decode(both, questions)
    assert logits.std() > 1e-2
    torch.testing.assert_close(logits, torch.stack(expected))
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize("method", ["hirescam", "grad-cam"])
def test_a_box_weighs_its_gradient_times_its_feature(
    folder: Path, tmp_path: Path, method: str
) -> None:
    model, found = load(folder), regions()
    explained = vlcam.explain(model, save_photo(tmp_path), question=QUESTION, method=method)
    shares = found.boxes / torch.tensor([50, 40, 50, 40])
    ids = model.understand(QUESTION).prompt
    for answer, own in zip(explained.answers, explained.maps, strict=True):
        leaf = found.features.clone().requires_grad_()
        logit = original(model, leaf, shares, ids)[ANSWERS.index(answer.text)]
        (gradient,) = torch.autograd.grad(logit, leaf)
        if method == "grad-cam":
            gradient = gradient.mean(0, keepdim=True)
        assert own.shape == (1, 6) and answer.logit == pytest.approx(logit.item(), abs=1e-5)
        torch.testing.assert_close(own[0], (gradient * found.features).sum(1).relu())
    assert explained.maps.amax() > 0


def test_boxes_are_painted_over_the_photo(folder: Path, tmp_path: Path) -> None:
    """Pixel by pixel: the largest value of the boxes that reach into it, 0 where there is none."""
    path = save_photo(tmp_path)
    explained = vlcam.explain(load(folder), path, question=QUESTION, method="grad-cam-no-relu")
    assert explained.placement == Placement.identity((40, 50))
    for index, answer in enumerate(explained.answers):
        expected = np.zeros((40, 50), np.float32)
        for y in range(40):
            for x in range(50):
                over = [
                    float(value)
                    for value, (x1, y1, x2, y2) in zip(
                        explained.maps[index, 0], regions().boxes.tolist(), strict=True
                    )
                    if x1 < x + 1 and x < x2 and y1 < y + 1 and y < y2
                ]
                expected[y, x] = max(over, default=0)
        drawn = explained.photo_map(index)
        np.testing.assert_array_equal(drawn, expected)
        x, y = answer.peak
        assert drawn[y, x] == explained.maps[index].amax()  # below 0 or not: inside of a box
    explained.save(tmp_path / "out")
    again = Explanation.load(tmp_path / "out")
    assert again.grid == explained.grid and again.answers == explained.answers
    assert torch.equal(again.maps, explained.maps)


def test_every_layer_up_to_the_last_has_a_gradient(folder: Path, tmp_path: Path) -> None:
    path = save_photo(tmp_path)
    for layer in LAYERS:
        model = load(folder, layer)
        seen = vlcam.look(model, path)
        question = model.understand(QUESTION)
        reading = model.read(question)
        features = encode(model, seen.pixels, [question.prompt])
        (chunk,) = seam_gradients(model, features, [unit(reading, reading.units[0])])
        assert chunk.gradients.abs().amax() > 0
        assert (seen.features is None) == ("x_layers" in layer)
    with pytest.raises(ValueError, match=r"x_layers\.1.*known: visual_feats, .*x_layers\.0"):
        load(folder, "lxmert.encoder.x_layers.1")


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_photo(tmp_path)
    asked = ["explain", str(path), "--model", str(folder), "--question", QUESTION, "--top", "2"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    files = {p.name for p in (tmp_path / "out" / "dog").iterdir()}
    assert files == {"explanation.json", "maps.npz", "figure.png", "page.html"}
    told = json.loads((tmp_path / "out" / "dog" / "explanation.json").read_text("utf-8"))
    assert len(told["grid"]["boxes"]) == 6 and len(told["answers"]) == 2
    for method in ("gradient", "occlusion"):
        assert main([*asked, "--method", method, "--out", str(tmp_path / "no")]) == 1
        assert "not fed pixels" in capsys.readouterr().err


def test_regions_in_memory(folder: Path, tmp_path: Path) -> None:
    model, picture = load(folder), photo()
    ready = Prepared("dog", picture, *model.prepare_regions(picture, regions()))
    explained = vlcam.explain(model, encode_photos(model, [ready])[0], question=QUESTION)
    expected = vlcam.explain(model, save_photo(tmp_path), question=QUESTION)
    assert torch.equal(explained.maps, expected.maps)
    with pytest.raises(ValueError, match="give the photo as a file"):
        vlcam.explain(model, picture, question=QUESTION)


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.save(tmp_path / "again")
    again, state = vlcam.load(tmp_path / "again"), model.module.state_dict()
    assert isinstance(again, LxmertAnswerer) and again.answers == tuple(ANSWERS)
    for name, value in again.module.state_dict().items():
        assert torch.equal(value, state[name])


def test_answers_by_name(tmp_path: Path) -> None:
    labels = dict(enumerate(["a", "b", "c", "d"]))
    named = save(tmp_path / "named", answers=False, id2label=labels)
    assert load(named).answers == ("a", "b", "c", "d")
    unnamed = save(tmp_path / "unnamed", answers=False)
    assert load(unnamed).answers == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    for text, said in (("[", "not JSON"), ("{}", "a list of answers"), ('["a"]', "1 answers")):
        (unnamed / "trainval_label2ans.json").write_text(text, "utf-8")
        with pytest.raises(ValueError, match=rf"trainval_label2ans\.json: .*{said}"):
            load(unnamed)
    with pytest.raises(ValueError, match="boxes of 5 numbers"):
        load(save(tmp_path / "five", visual_pos_dim=5))


def test_what_was_assumed_is_recorded(folder: Path, tmp_path: Path) -> None:
    (regions,) = load(folder).describe()["assumed as published"]
    assert regions.startswith("regions: features of Faster R-CNN trained on Visual Genome")
    unnamed = load(save(tmp_path / "unnamed", answers=False)).describe()["assumed as published"]
    assert unnamed == [f"answers: LABEL_0 ... {len(load(folder).answers) - 1}", regions]
