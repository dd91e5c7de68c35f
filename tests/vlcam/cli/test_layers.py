"""Several explanations of one photo: at many layers, and by several models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
import vlcam
from tests.samples.adapters import ADAPTERS
from tests.vqa.answering import test_writing_answerer
from tests.vqa.models import test_vilt
from vlcam.cli.parser import main
from vlcam.cli.sweep import depths, sweep
from vlcam.formats import checkpoint
from vlcam.models import load

PHOTO = Path(vlcam.__file__).parent / "bundled" / "photos" / "hydrant-bicycle.jpg"
DEPTHS = ["stem", "stage1", "stage2", "stage3", "stage4.0", "stage4"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two VQA models that know the same answers but for one."""
    made = []
    for name in ("lstm-cnn", "coattention"):
        model = ADAPTERS[name](tmp_path_factory.mktemp("case")).adapter.module
        made.append(tmp_path_factory.mktemp("models") / name)
        checkpoint.save_folder(model.float(), model.config.to_json(), made[-1])  # type: ignore[operator, union-attr]
    return made


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    made = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in made:
        Image.fromarray(random.integers(0, 255, (32, 48, 3), np.uint8)).save(path)
    return made


def test_blocks_and_poolings_are_the_depths(folders: list[Path]) -> None:
    assert depths(captioning.load("scenes")) == DEPTHS == depths(load(folders[1]))
    with pytest.raises(ValueError, match="tiny: its layers are not known here"):
        depths(ADAPTERS["tiny"](folders[0]).adapter)


def test_the_same_is_asked_at_every_layer(tmp_path: Path) -> None:
    """What a caption is made of is written once; each layer's maps are those of that layer."""
    found = sweep(lambda layer: captioning.load("scenes", layer), ["stage2", "stage4"], str(PHOTO))
    own = vlcam.explain("scenes", PHOTO)
    assert [e.layer for e in found] == ["stage2", "stage4"]
    for explanation in found:
        assert [w.text for w in explanation.words] == [w.text for w in own.words]
        for one, other in zip(explanation.words, own.words, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
    np.testing.assert_allclose(found[1].maps, own.maps, rtol=1e-4, atol=1e-6)
    assert found[0].grid.size == (40, 40) and found[1].grid.size == (20, 20)


def test_the_blocks_of_vision_transformers(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a model that writes its answers, too: the same at every layer."""
    folder = test_writing_answerer.save(tmp_path / "blip")
    blocks = [f"vision_model.encoder.layers.{i}" for i in range(3)]
    assert depths(load(folder)) == blocks
    ask = ["--question", "a dog?", "--model", str(folder), "--out", str(tmp_path)]
    assert main(["layers", str(photos[0]), *ask]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == blocks
    found = [vlcam.Explanation.load(tmp_path / "one" / layer) for layer in blocks]
    assert len({e.caption for e in found}) == 1 and found[0].words
    vilt = load(test_vilt.save(tmp_path / "vilt"))
    assert depths(vilt) == ["vilt.encoder.layer.0", "vilt.encoder.layer.1"]


def test_the_command(
    folders: list[Path], photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ask = ["--question", "the red dog", "--answers", "red", "two", "--model", str(folders[1])]
    assert main(["layers", str(photos[0]), *ask, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:-1]] == DEPTHS
    for layer in DEPTHS:
        explanation = vlcam.Explanation.load(out / "one" / layer)
        assert explanation.layer == layer and len(explanation.answers) == 2
    with Image.open(out / "one" / "layers.png") as picture:
        assert picture.height > picture.width / 2
    some = ["--layers", "stage1", "stage4.0.relu2", "--out", str(out / "some")]
    assert main(["layers", str(photos[0]), *ask, *some]) == 0
    assert len(list((out / "some" / "one").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "guided-backprop"), "maps of guided-backprop do not live at a layer"),
        (("--method", "cam"), "unknown method 'cam'"),
        (("--layers", "stage9"), "layer 'stage9' of small: unknown; near: stage"),
        (("--answers", "red"), "--answers and --contrast go with a --question"),
        (("--caption", "a zyx"), ""),
    ],
)
def test_sweeps_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    code = main(["layers", str(PHOTO), *options, "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    if not said:  # an unknown word is left out of a caption
        assert code == 0
        return
    assert code == 1 and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_who_chooses_a_guided_method_is_told_what_it_fails(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "fail the randomisation check (Adebayo et al. 2018)"
    common = ["explain", str(photos[0]), "--caption", "a dog", "--out", str(tmp_path / "out")]
    for method, told in (("guided-backprop", True), ("guided-grad-cam", True), ("grad-cam", False)):
        assert main([*common, "--method", method]) == 0
        page = (tmp_path / "out" / "one" / "page.html").read_text("utf-8")
        drawn = vlcam.Explanation.load(tmp_path / "out" / "one").figure().texts
        figure = " ".join(text.get_text() for text in drawn).replace("\n", " ")
        for where in (capsys.readouterr().out, page, figure):
            assert (said in where) is told


def test_models_side_by_side(
    folders: list[Path], photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "bad.png").write_bytes(b"no photo")
    models = [part for folder in folders for part in ("--model", str(folder))]
    ask = ["--question", "the red dog", "--answers", "red", "two", "--out", str(out)]
    names = [str(photos[0]), str(tmp_path / "bad.png"), str(photos[1])]
    assert main(["explain", *names, *models, *ask]) == 1
    told, err = capsys.readouterr()
    assert "1 of 3 photos failed" in err and told.count("compared") == 2
    compared = sorted(path.name for path in (out / "compared").iterdir())
    assert compared == ["one.html", "one.png", "two.html", "two.png"]
    for folder in folders:
        data = json.loads((out / folder.name / "one" / "explanation.json").read_text())
        assert data["model"] == folder.name
        assert [answer["text"] for answer in data["answers"]] == ["red", "two"]
    page = (out / "compared" / "one.html").read_text("utf-8")
    assert page.count("<section>") == 2 and page.count('<li class="card">') == 4 + 3
    for folder in folders:
        link = f"../{folder.name}/one/page.html"
        assert f'href="{link}"' in page and (out / "compared" / link).is_file()


def test_one_model_twice_has_two_folders(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    twice = ["--model", "scenes", "--model", "scenes", "--caption", "a dog", "--out", str(out)]
    assert main(["explain", str(photos[0]), *twice]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["compared", "scenes", "scenes-2"]


def test_an_answer_one_model_lacks_is_refused_before_anything_is_written(
    folders: list[Path], photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [part for folder in folders for part in ("--model", str(folder))]
    ask = ["--question", "dog", "--answers", "dog", "--out", str(tmp_path / "out")]
    assert main(["explain", str(photos[0]), *models, *ask]) == 1
    assert "'dog' is no answer of lstm-cnn" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
