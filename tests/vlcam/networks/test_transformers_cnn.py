"""CNNs of transformers as encoders: the network in the folder, its cells where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.samples.linear_networks import fill, linear
from tests.samples.transformers_cnns import NETWORKS, model_of
from vlcam import ModuleAdapter
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.cells import derive, measure
from vlcam.geometry.grid import Grid
from vlcam.networks import transformers_cnn
from vlcam.networks.encoder import Encoder, RegionEncoder


def pixels(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_in_the_folder(name: str, classifier: bool, tmp_path: Path) -> None:
    model = model_of(name, classifier)
    model.save_pretrained(tmp_path)
    called = transformers_cnn.name_of(tmp_path)
    encoder = Encoder(called, (64, 64)).eval()
    encoder.load_weights(tmp_path)
    base = getattr(model, model.base_model_prefix) if classifier else model
    with torch.no_grad():
        own = base(pixels(), output_hidden_states=True)
        assert own.pooler_output.std() > 1e-3
        assert torch.equal(encoder(pixels()), own.pooler_output.flatten(1))
        assert encoder.default_layer == "encoder.stages.1"
        for layer, maps in (("encoder.stages.0", -2), (None, -1)):
            before, after = encoder.split(layer)
            assert torch.equal(before(pixels()), own.hidden_states[maps])
            assert torch.equal(after(before(pixels())), encoder(pixels()))
    assert encoder.feature_size == 16 and encoder.layer().shape[0] == 16
    assert json.loads(json.dumps(called)) == Encoder(called, (64, 64)).name  # no folder needed


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_are_where_they_are_measured(name: str) -> None:
    encoder = Encoder(_called(model_of(name)), (96, 128)).eval()
    fill(encoder.net)
    for layer in ("encoder.stages.0", "encoder.stages.1"):
        before, _ = encoder.split(layer)
        grid = derive(before, torch.empty(1, 3, 96, 128))
        cell = (grid.size[0] // 2, grid.size[1] // 2 - 1)
        (found,) = measure(linear(before), torch.empty(1, 3, 96, 128), [cell], rounds=1)
        error = (found - torch.tensor(grid.center(*cell))).abs().max() / min(grid.stride)
        assert error < 0.1, f"{layer}: {error:.3f} of a cell off"


def test_grids_by_hand() -> None:
    def grid(name: str, layer: str) -> Grid:
        return derive(Encoder(_called(model_of(name)), (64, 64)).split(layer)[0], pixels())

    assert grid("resnet", "encoder.stages.1") == Grid((8, 8), (0, 0), (8, 8))
    # Patches of 4 are centred on 1.5; two of them at a time on 1.5 + 4 / 2.
    assert grid("convnext", "encoder.stages.0") == Grid((16, 16), (1.5, 1.5), (4, 4))
    assert grid("convnext", "encoder.stages.1") == Grid((8, 8), (3.5, 3.5), (8, 8))


def _called(model: Any) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return transformers_cnn.name_of(Path(folder))


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_a_module_is_explained_at_any_of_its_layers(name: str) -> None:
    """The classifier itself, cut while it runs, and the encoder with the same weights."""
    model = model_of(name, classifier=True).double()
    prefix = model.base_model_prefix
    adapter = ModuleAdapter(
        model, f"{prefix}.encoder.stages.0", lambda module, seen, _: module(seen).logits
    )
    encoder = Encoder(_called(model), (64, 64)).double().eval()
    encoder.net.load_state_dict(getattr(model, prefix).state_dict())
    before, after = encoder.split("encoder.stages.0")
    one = pixels()[:1].double()
    asked = [Target(f"class {c}", (Term(1.0, None, (c,)),)) for c in range(2)]
    features = encode(adapter, one)
    assert torch.equal(features.maps, before(one).detach())
    (chunk,) = seam_gradients(adapter, features, asked)
    head = model.classifier
    leaf = features.maps.clone().requires_grad_()
    logits = head(after(leaf)[:, :, None, None] if name == "resnet" else after(leaf))
    for c in range(2):
        expected = torch.autograd.grad(logits[0, c], leaf, retain_graph=True)[0]
        torch.testing.assert_close(chunk.gradients[c], expected[0])
    assert adapter.grid((64, 64)) == derive(before, one)
    _, maps = explain_at_layer(adapter, features, asked, METHODS["hirescam"])
    assert maps.shape == (2, 16, 16) and maps.amax() > 0


def test_regions_of_them(tmp_path: Path) -> None:
    model = model_of("convnext", classifier=True)
    model.save_pretrained(tmp_path)
    name = transformers_cnn.name_of(tmp_path)
    for layer, index in (("encoder.stages.0", -2), (None, -1)):
        encoder = RegionEncoder(name, (64, 64), layer).eval()
        encoder.load_weights(tmp_path)
        with torch.no_grad():
            maps = model.convnext(pixels(), output_hidden_states=True).hidden_states[index]
            assert torch.equal(encoder(pixels()), maps.flatten(1))
        assert encoder.feature_size == maps[0].numel()
    # torchvision's ConvNeXt, too, normalises by modules that are traced through.
    assert RegionEncoder("convnext_tiny", (64, 64)).eval()(pixels()).shape == (2, 768 * 4)


def test_what_it_cannot_use(tmp_path: Path) -> None:
    for name, said in (
        ("transformers:vit", "of transformers: resnet, regnet"),
        ('transformers:resnet {"depths": 3', "Expecting"),
        ('transformers:resnet {"torch_dtype": "x"}', "known options: hidden_sizes"),
        ('transformers:resnet {"hidden_act": "?"}', r"\?"),
        ('transformers:resnet {"depths": "x"}', "CNN transformers:resnet"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            Encoder(name)
        assert "\n" not in str(raised.value)
    model = model_of("resnet")
    model.save_pretrained(tmp_path)
    other = Encoder(_called(model_of("regnet-x")), (64, 64))
    with pytest.raises(ValueError, match="not the weights of transformers:regnet"):
        other.load_weights(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for changes, said in (
        ({"num_channels": 1}, "takes 1 channels"),
        ({"model_type": "bert"}, "no CNN of transformers that is known"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes), "utf-8")
        with pytest.raises(ValueError, match=said):
            transformers_cnn.name_of(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cannot be loaded"):
        Encoder(_called(model), (64, 64)).load_weights(tmp_path)
    assert not transformers_cnn.is_one(tmp_path / "nowhere")
    assert not transformers_cnn.is_one(weights)
