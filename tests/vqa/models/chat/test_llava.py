"""LLaVA: any layers of any tower, photos padded and stretched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import vlcam
from tests.samples.vqa.chat import ANSWER, QUESTION, loaded, photo, save, seen
from vlcam.attribution.encoding import encode
from vlcam.geometry.grid import Placement
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.chat.llava import Llava


@pytest.mark.parametrize(
    ("layers", "strategy"), [(-1, "default"), (2, "full"), ([-2, 1], "default"), ([-1, -3], "full")]
)
def test_llava_reads_any_layers(layers: int | list[int], strategy: str, tmp_path: Path) -> None:
    folder = save(
        tmp_path / "llava", "llava",
        vision_feature_layer=layers, vision_feature_select_strategy=strategy,
    )  # fmt: skip
    last = max(i % 5 for i in (layers if isinstance(layers, list) else [layers]))
    parts = loaded(folder)._parts
    pixels = loaded(folder).prepare(photo())[0][None]
    for name in [*(f"model.vision_tower.encoder.layers.{i}" for i in range(last)), None]:
        model = Llava(parts, name)
        if name is None:
            assert model.layer == f"model.vision_tower.encoder.layers.{last - 1}"
        prompt = model.read_answer(model.understand(QUESTION), ANSWER).prompt
        features = encode(model, pixels)
        assert isinstance(prompt, AnswerPrompt)
        asked = model.prompt_ids(model.understand(QUESTION), features)
        line = torch.tensor([[*asked, *prompt.answer]])
        with torch.no_grad():
            logits = model.module(input_ids=line, pixel_values=pixels).logits.log_softmax(-1)
            found = model.decode(features, [prompt])[0]
        steps = range(line.shape[1] - len(prompt.answer) - 1, line.shape[1] - 1)
        torch.testing.assert_close(found, logits[0, steps, prompt.answer], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no layer"):
        Llava(parts, f"model.vision_tower.encoder.layers.{last}")


def test_llava_with_siglip(tmp_path: Path) -> None:
    siglip = {"model_type": "siglip_vision_model", "vision_use_head": False}
    folder = save(
        tmp_path / "siglip", "llava", vision=siglip,
        vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    model = loaded(folder)
    assert model.layer == "model.vision_tower.encoder.layers.3"
    assert model.image_text(seen(model)).count("<image>") == 16
    assert not seen(model).rest
    dropping = save(tmp_path / "dropping", "llava", vision=siglip)
    assert loaded(dropping).image_text(seen(loaded(dropping))).count("<image>") == 15
    with pytest.raises(ValueError, match=r"no layer 'model\.multi_modal_projector'"):
        vlcam.load(dropping, "model.multi_modal_projector")


def test_llava_pads_and_stretches(tmp_path: Path) -> None:
    folder = save(tmp_path / "padded", "llava")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    padding = settings | {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
    file.write_text(json.dumps(padding))
    model = vlcam.load(folder)
    _, placement = model.prepare(photo(64, 32))
    assert placement.scale == (0.5, 0.5) and placement.shift == (7.75, -0.25)
    # Of the processor as a whole, which says nothing of photos.
    (folder / "processor_config.json").write_text(json.dumps({"patch_size": 8}))
    assert vlcam.load(folder).prepare(photo(64, 32))[1] == placement
    stretched = settings | {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    file.write_text(json.dumps(stretched))
    _, placement = vlcam.load(folder).prepare(photo(64, 32))
    assert placement == Placement.resized((32, 64), (32, 32))


def test_a_vision_tower_of_another_kind(tmp_path: Path) -> None:
    vision = {"model_type": "pixtral", "head_dim": 4}
    with pytest.raises(ValueError, match="its vision tower is a pixtral"):
        vlcam.load(save(tmp_path / "pixtral", "llava", vision=vision))
