"""Networks of timm as encoders: cut where they say, their cells where they are measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.samples.linear_networks import fill, linear
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.geometry.cells import derive, measure
from vlcam.networks import cnns
from vlcam.networks.encoder import Encoder


def pixels(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


FAMILIES = {
    "resnet10t": "layer4",
    "mobilenetv3_small_050": "blocks",
    "efficientnet_b0": "bn2",
    "convnext_atto": "stages",
    "regnetx_002": "s4",
    "densenet121": "features.norm5",
    "rexnet_100": "features",
    "tf_efficientnet_lite0": "bn2",
    "ghostnet_050": "blocks",
    "repvgg_a0": "stages",
    "nf_regnet_b0": "final_act",
    "test_vit4": None,
}
"""Networks and the layers that are explained by default; None: it has no feature maps."""


@pytest.mark.parametrize("name", [name for name, layer in FAMILIES.items() if layer])
def test_the_two_halves_are_the_whole(name: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(f"timm:{name}", (64, 64))
    assert encoder.training and all(module.training for module in encoder.net.modules())
    encoder.eval()
    assert encoder.default_layer == FAMILIES[name]
    before, after = encoder.split()
    seen = pixels(64)
    with torch.no_grad():
        maps = before(seen)
        assert torch.equal(after(maps), encoder(seen))
        assert maps.shape[1:] == encoder.layer().shape
        torch.testing.assert_close(encoder.net(seen), encoder(seen))
    assert derive(before, seen).stride == (32, 32)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t", "mobilenetv3_small_050"])
def test_cells_are_where_they_are_measured(name: str) -> None:
    encoder = Encoder(f"timm:{name}", (64, 64)).eval()
    fill(encoder.net)
    before, size = encoder.split()[0], (160, 193)
    grid = derive(before, torch.empty(1, 3, *size))
    (found,) = measure(linear(before), torch.empty(1, 3, *size), [(2, 3)], rounds=1)
    assert (found - torch.tensor(grid.center(2, 3))).abs().max() / 32 < 0.1


def test_a_vgg_is_explained_before_its_linear_layers() -> None:
    with torch.device("meta"):
        encoder = Encoder("timm:vgg11", (96, 96))
    assert encoder.default_layer == "features.19"


def test_weights_are_loaded_and_guided(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model("resnet10t").eval()
    file = tmp_path / "resnet10t.safetensors"
    save_file(whole.state_dict(), file)
    encoder = Encoder("timm:resnet10t", (64, 64)).eval()
    encoder.load_weights(file)
    seen = pixels(64)
    with torch.no_grad():
        assert torch.equal(whole.fc(encoder(seen)), whole(seen))
    rule = BackwardRule("guided")
    with rule:
        encoder(seen)
    assert rule.seen == 11
    found = cnns.preprocess("timm:tf_efficientnet_lite0", (32, 32))
    assert found.mean == (0.5, 0.5, 0.5) and found.size == (32, 32)


def test_what_it_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, said in (
        ("timm:resnt50", "did you mean timm:resnet50"),
        ("timm:", "unknown CNN 'timm:'; "),
        ("timm:hf-hub:owner/name", "unknown CNN 'timm:hf-hub:owner/name'; "),
        ("timm:resnet50.nobody", "resnet50.nobody"),
        ("timm:test_vit4", "CNN timm:test_vit4"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            Encoder(name, (64, 64))
            cnns.preprocess(name, (64, 64))
        assert "\n" not in str(raised.value)

    def refused(*args: object, **kwargs: object) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", refused)
    with pytest.raises(ValueError, match=r"its weights cannot be had \(no route to the hub\)"):
        cnns.published("timm:resnet10t")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed: pip install 'vlcam\[timm\]'"):
        cnns.build("timm:resnet10t")
