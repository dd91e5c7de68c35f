"""CNNs of transformers as encoders: the network in the folder, its cells where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor

import vlcam
from captioning.training.captioner import Training, train
from tests.vlcam.geometry.test_cells import fill, linear
from vlcam import ModuleAdapter
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.cells import derive, measure
from vlcam.geometry.grid import Grid
from vlcam.networks import transformers_cnn
from vlcam.networks.encoder import Encoder, RegionEncoder
from vqa.training.answerer import Training as VqaTraining

SMALL: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 2]}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNet", SMALL | {"embedding_size": 6}),
    "resnet-basic": (
        "ResNet",
        SMALL | {"embedding_size": 6, "layer_type": "basic", "downsample_in_first_stage": True},
    ),
    "resnet-caffe": ("ResNet", SMALL | {"embedding_size": 6, "downsample_in_bottleneck": True}),
    "regnet-y": ("RegNet", SMALL | {"embedding_size": 6, "groups_width": 4}),
    "regnet-x": ("RegNet", SMALL | {"embedding_size": 6, "groups_width": 4, "layer_type": "x"}),
    "convnext": ("ConvNext", SMALL | {"num_stages": 2, "drop_path_rate": 0.2}),
    "convnext-patch": (
        "ConvNext",
        SMALL | {"num_stages": 2, "patch_size": 2, "layer_scale_init_value": 0.0},
    ),
    "convnextv2": ("ConvNextV2", SMALL | {"num_stages": 2}),
}


def model_of(name: str, classifier: bool = False) -> Any:
    stem, settings = NETWORKS[name]
    config = getattr(transformers, f"{stem}Config")(**settings)
    kind = "ForImageClassification" if classifier else "Model"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{stem}{kind}")(config)
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data.copy_(0.3 * torch.randn(tensor.shape)).abs_()
    return model.eval()


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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "Images").mkdir(parents=True)
    rows, rng = ["image,caption"], np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(folder / "Images" / f"{i}.png")
        rows += [f"{i}.png,A red square .", f"{i}.png,the square is red"]
    (folder / "captions.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_a_captioner_is_trained_on_one_and_loaded_without_its_folder(
    data: Path, tmp_path: Path
) -> None:
    folder, model = tmp_path / "cnn", model_of("resnet", classifier=True)
    model.save_pretrained(folder)
    sizes: dict[str, Any] = {"size": 32, "embedding": 8, "hidden": 16, "batch": 4, "epochs": 1}
    how = Training(data=str(data), out=str(tmp_path / "out"), cnn=str(folder), **sizes)
    assert how.cnn.startswith("transformers:resnet {") and how.cnn_weights == str(folder)
    train(how)
    for file in folder.iterdir():
        file.unlink()
    captioner: Any = vlcam.load(tmp_path / "out")
    state = captioner.module.encoder.net.state_dict()
    for name, value in model.resnet.state_dict().items():
        assert torch.equal(state[name], value)
    explained = vlcam.explain(captioner, data / "Images" / "0.png", "a red square")
    assert explained.grid == Grid((4, 4), (0, 0), (8, 8))
    again = Training(data=str(data), out=str(tmp_path / "b"), cnn=how.cnn, cnn_epochs=1, **sizes)
    assert again.cnn == how.cnn and again.cnn_weights is None
    Encoder(how.cnn, (32, 32)).load_weights(tmp_path / "out")  # the CNN of a model of ours


def test_vqa_training_takes_one(tmp_path: Path) -> None:
    model_of("convnext").save_pretrained(tmp_path)
    how = VqaTraining(data="d", out="o", cnn=str(tmp_path))
    assert how.cnn.startswith("transformers:convnext {") and how.cnn_weights == str(tmp_path)
    assert VqaTraining(data="d", out="o", cnn=str(tmp_path), cnn_weights="w").cnn_weights == "w"


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
