"""A LoRA adapter beside its model: applied, or refused in one line, on every machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BlipForConditionalGeneration

import vlcam
from tests.samples.captioning import blip
from tests.samples.pretrained import photo
from vlcam.formats.folders import peft_adapter

RANK, ALPHA = 4, 64
TARGET = "text_decoder.bert.encoder.layer.0.attention.self.query"
NAMES = [f"base_model.model.{TARGET}.lora_{part}.weight" for part in "AB"]
CAPTION = "a photo of grass"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blip.save(tmp_path_factory.mktemp("adapters") / "base")


@pytest.fixture
def both(base: Path, tmp_path: Path) -> Path:
    """A model, and a LoRA of one matrix by hand."""
    folder = shutil.copytree(base, tmp_path / "both")
    state = dict(zip(NAMES, by_hand(base), strict=True))
    save_file(state, folder / "adapter_model.safetensors")
    settle(folder, peft_type="LORA", r=RANK, lora_alpha=ALPHA, target_modules=[TARGET])
    return folder


def by_hand(base: Path) -> tuple[Tensor, Tensor]:
    rows, columns = load_file(base / "model.safetensors")[f"{TARGET}.weight"].shape
    random = torch.Generator().manual_seed(0)
    return torch.randn(RANK, columns, generator=random), torch.randn(rows, RANK, generator=random)


def settle(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    said = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({"base_model_name_or_path": "someone/base", **said, **changes}))


def test_it_is_what_merging_by_hand_gives(both: Path, base: Path, tmp_path: Path) -> None:
    a, b = by_hand(base)
    merged = shutil.copytree(base, tmp_path / "merged")
    state = load_file(base / "model.safetensors")
    state[f"{TARGET}.weight"] = state[f"{TARGET}.weight"] + ALPHA / RANK * b @ a
    save_file(state, merged / "model.safetensors", metadata={"format": "pt"})
    model, by_us, alone = (vlcam.load(folder) for folder in (both, merged, base))
    found = vlcam.explain(model, photo(), CAPTION)
    expected = vlcam.explain(by_us, photo(), CAPTION)
    torch.testing.assert_close(found.maps, expected.maps)
    assert not torch.allclose(found.maps, vlcam.explain(alone, photo(), CAPTION).maps)
    assert model.module.state_dict().keys() == alone.module.state_dict().keys()
    assert model.describe()["adapter"] == "LoRA of adapter_model.safetensors, merged"
    assert "adapter" not in by_us.describe()
    model.save(tmp_path / "saved")
    again = vlcam.load(tmp_path / "saved").module.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.module.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["query", "dense"]},
        {"target_modules": r".*layer\.\d\.attention.*(query|key)", "use_rslora": True},
        {"target_modules": ["query"], "use_dora": True, "rank_pattern": {"query": 2}},
        {
            "target_modules": ["query"],
            "modules_to_save": ["dense"],
            "init_lora_weights": "gaussian",
        },
        {"target_modules": ["word_embeddings"]},
        {"target_modules": "all-linear"},
    ],
    ids=lambda options: " ".join(options),
)
def test_adapters_as_peft_writes_them(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Equal to peft's own merging; where weights are shared, merging changes the other use, too,
    and the adapter is refused."""
    both = shutil.copytree(base, tmp_path / "both")
    expected = written_by_peft(base, both, options)
    if options["target_modules"] in ("all-linear", ["word_embeddings"]):
        with pytest.raises(ValueError, match=r"adapter_model\.safetensors: it changes .* shares"):
            vlcam.load(both)
        return
    found = vlcam.load(both).module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    plain = load_file(base / "model.safetensors")
    assert any(not torch.equal(found[name], value) for name, value in plain.items())


def written_by_peft(base: Path, folder: Path, options: dict[str, Any]) -> dict[str, Tensor]:
    """Writes a random adapter; returns the weights that peft merges it into."""
    kind: Any = BlipForConditionalGeneration
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, **options)
    with torch.random.fork_rng([]), peft_adapter_warnings():
        torch.manual_seed(0)
        model = peft.get_peft_model(kind.from_pretrained(base), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn_like(parameter)
        model.save_pretrained(str(folder))
        state: dict[str, Tensor] = model.eval().merge_and_unload().state_dict()
    return state


def peft_adapter_warnings() -> Any:
    import warnings

    caught = warnings.catch_warnings()
    warnings.simplefilter("ignore")
    return caught


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(peft_adapter, "is_peft_available", lambda: False)
    yield


def test_without_peft_it_says_what_to_do(both: Path, base: Path, without_peft: None) -> None:
    with pytest.raises(ValueError, match=r"adapter_config\.json: a LoRA adapter .*vlcam\[peft\]"):
        vlcam.load(both)
    vlcam.load(base)


def weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return damage


def _of_another_rank(state: dict[str, Tensor]) -> None:
    for name in list(state):
        state[name] = torch.zeros(6, 6)


REFUSED: dict[str, Callable[[Path], object]] = {
    "of kind 'IA3'; only LORA": lambda f: settle(f, peft_type="IA3"),
    "of kind 'PREFIX_TUNING'": lambda f: settle(f, peft_type="PREFIX_TUNING"),
    "of kind None": lambda f: (f / "adapter_config.json").write_text("{}"),
    "init_lora_weights 'pissa_niter_4'": lambda f: settle(f, init_lora_weights="pissa_niter_4"),
    "bias 'all' is not supported": lambda f: settle(f, bias="all"),
    "megatron_config": lambda f: settle(f, megatron_config={"a": 1}, megatron_core="os"),
    "of_tomorrow 3 is not supported": lambda f: settle(f, of_tomorrow=3),
    "may run away": lambda f: settle(f, target_modules=r"(a+)+(b+)+$"),
    "cannot be applied": lambda f: settle(f, target_modules=["nowhere"]),
    "cannot be applied (": lambda f: settle(f, r="many"),
    "far larger": lambda f: settle(f, r=10**7),
    "of another shape": weights(_of_another_rank),
    "missing text_decoder": weights(lambda state: state.pop(NAMES[0])),
    "unexpected": weights(lambda state: state.update({"x.y": torch.ones(1)})),
    "without its weights": lambda f: (f / "adapter_model.safetensors").unlink(),
    "without its adapter_config.json": lambda f: (f / "adapter_config.json").unlink(),
    "not JSON": lambda f: (f / "adapter_config.json").write_text("{"),
    "not a readable": lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_adapters_that_are_refused(both: Path, message: str) -> None:
    REFUSED[message](both)
    with pytest.raises(ValueError) as error:
        vlcam.load(both)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(both) in str(error.value)


def test_an_adapter_alone(both: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(both / name, alone)
    with pytest.raises(ValueError, match=r"alone: an adapter .* its model \(someone/base\)"):
        vlcam.load(alone)
