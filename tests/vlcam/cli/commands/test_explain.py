"""``vlcam explain`` from end to end, with the bundled model and photos; nothing of what it writes.

Every complaint is one line that names what is wrong, and leaves nothing behind.
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captioning
import vlcam
from captioning.models.neuraltalk import neuraltalk
from tests.tools.command_line import (
    FILES,
    OF_SCENES,
    PHOTO,
    PHOTOS,
    SCENES,
    below,
    called,
    read,
    refused,
)
from vlcam.attribution.methods import METHODS
from vlcam.attribution.occlusion import Patch
from vlcam.cli.parser import main
from vlcam.formats.vocabulary import END, words_of
from vlcam.photo.loading import load_photo
from vlcam.utils.terminal import progress


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What is printed, and where it is written, for two photos that the model captions itself."""
    out = tmp_path_factory.mktemp("explain") / "new" / "out"
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert called("explain", *PHOTOS[:2], *OF_SCENES, "--out", out) == 0
    return printed.getvalue(), out


def folders(explained: tuple[str, Path]) -> list[tuple[Path, Path]]:
    return [(photo, explained[1] / photo.stem) for photo in PHOTOS[:2]]


def test_a_folder_of_four_files_a_photo(explained: tuple[str, Path]) -> None:
    names = [photo.stem for photo in PHOTOS[:2]]
    files = [f"{name}/{file}" for name in names for file in FILES]
    assert below(explained[1]) == sorted([*names, *files, "index.html"])


def test_keys_of_the_explanation(explained: tuple[str, Path]) -> None:
    for photo, folder in folders(explained):
        data = read(folder)
        assert data["photo"] == str(photo) and data["model"] == "scenes"
        assert data["method"] == "grad-cam" and data["target"] == "log-probability of each word"
        assert data["layer"] == captioning.load("scenes").layer
        assert data["caption"] == " ".join(word["text"] for word in data["words"]) != ""
        for word in data["words"]:
            assert {*word} == {"text", "log_probability", "probability", "peak", "degenerate"}


def test_the_models_of_real_photos_are_the_default(tmp_path: Path) -> None:
    """Of captions and of answers alike."""
    for asked, explained in (((), "words"), (("--question", "what is this?"), "answers")):
        assert called("explain", PHOTO, *asked, "--out", tmp_path) == 0
        data = read(tmp_path / PHOTO.stem)
        assert data["model"] == "photos" and data[explained]


def test_probabilities_are_those_of_the_log_probabilities(explained: tuple[str, Path]) -> None:
    for _, folder in folders(explained):
        for word in read(folder)["words"]:
            assert word["log_probability"] < 0
            assert word["probability"] == pytest.approx(np.exp(word["log_probability"]))


def test_the_caption_is_printed_with_its_probabilities(explained: tuple[str, Path]) -> None:
    for photo, folder in folders(explained):
        data = read(folder)
        words = "  ".join(f"{w['text']} {w['probability']:.2f}" for w in data["words"])
        assert f"{photo}: {data['caption']}\n  {words}\n" in explained[0]
        assert f"  -> {folder}\n" in explained[0]


def test_maps_are_raw_and_drawn_at_photo_size(explained: tuple[str, Path]) -> None:
    for photo, folder in folders(explained):
        words = read(folder)["words"]
        with np.load(folder / "maps.npz", allow_pickle=False) as arrays:
            maps, image = (arrays[n] for n in ("maps", "image"))
        assert maps.dtype == np.float32
        assert maps.shape == (len(words), *read(folder)["grid"]["size"])
        assert np.array_equal(image, np.asarray(Image.open(photo)))
        photo_maps = vlcam.Explanation.load(folder).photo_maps()
        for index, (word, photo_map) in enumerate(zip(words, photo_maps, strict=True)):
            assert photo_map.dtype == np.float32 and photo_map.shape == image.shape[:2]
            row, column = np.unravel_index(photo_map.argmax(), photo_map.shape)
            assert word["peak"] == [column, row]
            assert word["degenerate"] == (maps[index].min() == maps[index].max())


def test_figure_and_page_open_by_themselves(explained: tuple[str, Path]) -> None:
    for _, folder in folders(explained):
        with Image.open(folder / "figure.png") as figure:
            figure.load()
            assert min(figure.size) > 200
        page = (folder / "page.html").read_text("utf-8")
        assert all(f">{word['text']}<" in page for word in read(folder)["words"])
        # Whatever it shows is inside; no address of anything else.
        assert not re.search(r'(?:src|href)=(?!"data:|"#)|url\((?!data:)|https?://', page)


def test_a_given_caption_is_explained_by_teacher_forcing(tmp_path: Path) -> None:
    """Word after word as the captioner itself would write them, punctuation and case aside."""
    caption = "A person, and a red BUS."
    assert called("explain", PHOTO, *OF_SCENES, "--caption", caption, "--out", tmp_path) == 0
    data = read(tmp_path / PHOTO.stem)
    assert data["caption"] == caption
    assert [word["text"] for word in data["words"]] == words_of(caption)
    model = neuraltalk.load_module(SCENES)
    pixels, _ = model.config.preprocess(load_photo(PHOTO))
    with torch.no_grad():
        state: tuple[torch.Tensor, ...] = model.start(model.encoder(pixels[None]))
        before = END
        tokens = model.config.vocabulary.tokens(words_of(caption))
        for word, token in zip(data["words"], tokens, strict=True):
            predicted, state = model.step(torch.tensor([before]), state)
            assert word["log_probability"] == pytest.approx(float(predicted[0, token]), abs=1e-4)
            before = token


def test_the_models_own_caption_given_back_is_explained_alike(
    explained: tuple[str, Path], tmp_path: Path
) -> None:
    photo, folder = folders(explained)[0]
    own = read(folder)
    assert called("explain", photo, *OF_SCENES, "--caption", own["caption"], "--out", tmp_path) == 0
    given = read(tmp_path / photo.stem)
    for one, other in zip(own["words"], given["words"], strict=True):
        assert one["log_probability"] == pytest.approx(other["log_probability"], abs=1e-4)
        assert one["text"] == other["text"] and one["peak"] == other["peak"]


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_every_method(tmp_path: Path, name: str) -> None:
    layer = "stage3"  # which a ReLU follows, so that there is something to guide
    common = (*OF_SCENES, "--layer", layer, "--caption", "a dog", "--target", "caption")
    coarse = ("--patch-size", 80, "--patch-stride", 60)
    options = coarse if METHODS[name].at == "patches" else ()
    assert called("explain", PHOTO, "--method", name, *common, *options, "--out", tmp_path) == 0
    folder = tmp_path / PHOTO.stem
    assert below(folder) == FILES and read(folder)["method"] == name
    model = captioning.load("scenes", layer)
    pixels, _ = model.prepare(load_photo(PHOTO))
    size = tuple(pixels.shape[1:])
    with np.load(folder / "maps.npz") as arrays:
        assert np.isfinite(arrays["maps"]).all()
        shapes = {"layer": model.grid(size).size, "pixels": size, "patches": (5, 5)}
        assert arrays["maps"].shape == (1, *shapes[METHODS[name].at])


def test_occlusion_records_its_patch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = ("--patch-size", "100", "--patch-stride", "110", "--patch-fill", "-0.5")
    common = ("--method", "occlusion", *patch, "--caption", "a dog", "--out", tmp_path)
    assert called("explain", PHOTO, *OF_SCENES, *common) == 0
    data = read(tmp_path / PHOTO.stem)
    asked = {"size": 100, "stride": 110, "fill": -0.5}
    assert data["details"]["occlusion"] == asked | {"whole_passes_because": None}
    assert data["grid"] == {"size": [3, 3], "offset": [49.5, 49.5], "stride": [110.0, 110.0]}
    page = (tmp_path / PHOTO.stem / "page.html").read_text("utf-8")
    assert "size 100, stride 110, fill -0.5" in page
    assert "whole forward pass" not in capsys.readouterr().out
    model = captioning.load("scenes")
    found = vlcam.explain(model, PHOTO, "a dog", method="occlusion", patch=Patch(100, 110, -0.5))
    with np.load(tmp_path / PHOTO.stem / "maps.npz") as arrays:
        assert np.array_equal(arrays["maps"], found.maps)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--patch-size", "9"), "--patch-size goes with --method occlusion"),
        (("--method", "layercam", "--patch-fill", "0"), "--patch-fill goes with"),
        (("--method", "occlusion", "--patch-size", "500"), "a patch of 500 pixels does not fit"),
        (("--method", "occlusion", "--patch-stride", "0"), "'0' is not a whole number"),
        (("--method", "occlusion", "--patch-fill", "nan"), "'nan' is not a finite number"),
    ],
)
def test_patches_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "explain", PHOTO, *OF_SCENES, *options, "--out", tmp_path)
    assert not below(tmp_path)


def test_another_layer(tmp_path: Path) -> None:
    asked = ("--layer", "stage2", "--caption", "a dog", "--out", tmp_path)
    assert called("explain", PHOTO, *OF_SCENES, *asked) == 0
    data = read(tmp_path / PHOTO.stem)
    layer = neuraltalk.load_module(SCENES).encoder.layer("stage2")
    assert data["layer"] == "stage2" and tuple(data["grid"]["size"]) == layer.shape[1:]


def test_a_wide_beam_writes_no_less_likely_a_caption(
    explained: tuple[str, Path], tmp_path: Path
) -> None:
    assert called("explain", *PHOTOS[:2], *OF_SCENES, "--beam", 4, "--out", tmp_path) == 0
    model = neuraltalk.load_module(SCENES)
    for photo, folder in folders(explained):
        pixels, _ = model.config.preprocess(load_photo(photo))
        with torch.no_grad():
            (best,) = model.write(model.encoder(pixels[None]), 4)
        words = model.config.vocabulary.text(best.tokens)
        assert read(tmp_path / folder.name)["caption"] == " ".join(words)


def test_a_model_writes_with_its_own_beam_unless_told_otherwise(tmp_path: Path) -> None:
    model = captioning.load("photos")
    photo = load_photo(PHOTO)
    with torch.no_grad():
        features = vlcam.look(model, photo).features
        greedy, best = (model.write(features, beam).text for beam in (1, 5))
    assert greedy != best
    assert called("explain", PHOTO, "--out", tmp_path) == 0
    assert read(tmp_path / PHOTO.stem)["caption"] == best
    assert called("explain", PHOTO, "--beam", 1, "--out", tmp_path / "greedy") == 0
    assert read(tmp_path / "greedy" / PHOTO.stem)["caption"] == greedy
    assert vlcam.explain(model, photo).caption == best


def test_one_map_for_the_whole_caption(tmp_path: Path) -> None:
    common = ("explain", PHOTO, *OF_SCENES, "--caption", "a red bus", "--out")
    assert called(*common, tmp_path / "words") == 0
    assert called(*common, tmp_path / "whole", "--target", "caption") == 0
    words, whole = (read(tmp_path / name / PHOTO.stem) for name in ("words", "whole"))
    assert whole["target"] == "log-probability of the caption"
    (one,) = whole["words"]
    total = sum(word["log_probability"] for word in words["words"])
    assert one["text"] == "a red bus" and one["log_probability"] == pytest.approx(total, abs=1e-4)


def test_unknown_words_are_named_and_the_rest_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caption = "a Quokka and a dog, café"
    assert called("explain", PHOTO, *OF_SCENES, "--caption", caption, "--out", tmp_path) == 0
    told = capsys.readouterr()
    assert told.err == f"vlcam: {PHOTO}: not in the model's vocabulary: quokka, café\n"
    data = read(tmp_path / PHOTO.stem)
    assert data["caption"] == caption and data["unknown"] == ["quokka", "café"]
    assert [word["text"] for word in data["words"]] == ["a", "and", "a", "dog"]
    assert "quokka" not in told.out.partition("\n")[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((*OF_SCENES, "--layer", "nope"), ("nope", "stage4")),
        (("--method", "grad-cm"), ("grad-cm", "grad-cam")),
        (("--method", "?"), ("'?'", *METHODS)),
        (("--model", "nope"), ("nope", "scenes")),
        (("--model", PHOTO), (str(PHOTO), "neuraltalk", "neuraltalk2-pytorch", "blip")),
        (("--beam", "-1"), ("'-1'", "1 to 100")),
        (("--beam", "0"), ("'0'", "1 to 100")),
        (("--beam", "101"), ("'101'", "1 to 100")),
        (("--beam", "two"), ("'two'", "1 to 100")),
        (("--target", "letter"), ("'letter'", "word", "caption")),
        (("--caption", ""), ("--caption",)),
        (("--caption", " \t\n"), ("--caption",)),
        ((*OF_SCENES, "--caption", "... !?"), ("'... !?'",)),
        ((*OF_SCENES, "--caption", "Quokka ☃"), ("quokka", "☃")),
        ((*OF_SCENES, "--caption", "a quokka", "--strict"), ("quokka",)),
        (("--nope",), ("--nope", "--help")),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    named: tuple[str, ...],
) -> None:
    """One line however many photos there are, and none of them is read."""
    out = tmp_path / "out"
    line = refused(capsys, "explain", PHOTO, "missing.jpg", *arguments, "--out", out)
    assert all(name in line for name in named) and "missing.jpg" not in line
    assert not out.exists()


def _png(width: int, height: int) -> bytes:
    """A PNG file that claims to be of that size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD_PHOTOS: dict[str, bytes | None] = {
    "missing.jpg": None,
    "new\nline.jpg": None,
    "empty.jpg": b"",
    "truncated.jpg": PHOTO.read_bytes()[:3000],
    "text.jpg": b"not\nan image",
    "large.png": _png(10_001, 10_000),
    "absurd.png": _png(2**31 - 1, 2**31 - 1),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_a_bad_photo_is_told_of_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content = BAD_PHOTOS[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused(capsys, "explain", tmp_path / name, *OF_SCENES, "--out", tmp_path / "out")
    assert f"{tmp_path / name}: ".replace("\n", " ") in line
    assert not (tmp_path / "out").exists()


def test_photos_as_they_come(tmp_path: Path) -> None:
    colours = Image.open(PHOTO).convert("RGB").resize((40, 30))
    turned = Image.Exif()
    turned[0x0112] = 6
    makers: dict[str, Callable[[Path], None]] = {
        "rgb.jpg": colours.save,
        "grey.png": colours.convert("L").save,
        "grey16.png": Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54).save,
        "palette.png": colours.quantize(8).save,
        "alpha.webp": colours.convert("RGBA").save,
        "cmyk.jpg": colours.convert("CMYK").save,
        "turned.jpg": lambda path: colours.save(path, exif=turned),
        "tiny.png": colours.resize((1, 1)).save,
        "wide.png": colours.resize((3000, 2)).save,
    }
    photos = []
    for name, save in makers.items():
        photos.append(tmp_path / name)
        save(photos[-1])
    common = (*OF_SCENES, "--caption", "a dog", "--target", "caption", "--out", tmp_path / "out")
    assert called("explain", *photos, *common) == 0
    sizes = {"turned": (40, 30), "tiny": (1, 1), "wide": (2, 3000)}
    for photo in photos:
        folder = tmp_path / "out" / photo.stem
        height, width = sizes.get(photo.stem, (30, 40))
        with np.load(folder / "maps.npz") as arrays:
            assert arrays["image"].shape == (height, width, 3)
        x, y = read(folder)["words"][0]["peak"]
        assert 0 <= x < width and 0 <= y < height


def test_a_larger_input_gives_finer_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(Path(vlcam.__file__).parent / "bundled" / "photos" / "cat-horse-sheep.jpg")
    command = ["explain", photo, *OF_SCENES, "--caption", "a cat", "--out"]
    assert main([*command, str(tmp_path / "own")]) == 0
    assert main([*command, str(tmp_path / "large"), "--size", "480"]) == 0
    maps = [np.load(tmp_path / n / "cat-horse-sheep" / "maps.npz") for n in ("own", "large")]
    assert [found["maps"].shape for found in maps] == [(2, 20, 20), (2, 30, 30)]
    capsys.readouterr()
    question = ["explain", photo, *OF_SCENES, "--question", "what is this?", "--size", "480"]
    assert main([*question, "--out", str(tmp_path / "asked")]) == 1
    assert "scenes takes photos at its own size only" in capsys.readouterr().err


def test_who_chooses_a_guided_method_is_told_what_it_fails(
    two_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "fail the randomisation check (Adebayo et al. 2018)"
    asked = ["--caption", "a dog", "--out", str(tmp_path / "out")]
    for method, told in (("guided-backprop", True), ("guided-grad-cam", True), ("grad-cam", False)):
        assert main(["explain", str(two_photos[0]), *OF_SCENES, *asked, "--method", method]) == 0
        page = (tmp_path / "out" / "one" / "page.html").read_text("utf-8")
        drawn = vlcam.Explanation.load(tmp_path / "out" / "one").figure().texts
        figure = " ".join(text.get_text() for text in drawn).replace("\n", " ")
        for where in (capsys.readouterr().out, page, figure):
            assert (said in where) is told


UP_TO_THE_PHOTO = """
import json, sys
import torch
bare = set(sys.modules)
from vlcam.__main__ import program
from vlcam.adapters.cnn import CnnAdapter

class Encoded(BaseException):
    pass

def encode(self, pixels, prompts=None):
    encode_photo(self, pixels, prompts)
    self.grid(tuple(pixels.shape[2:]))
    raise Encoded

encode_photo, CnnAdapter.encode = CnnAdapter.encode, encode
photo, out = sys.argv[1:]
for asked in ([], ["--question", "what is it"]):
    sys.argv = ["vlcam", "explain", photo, *asked, "--out", out]
    try:
        program()
    except Encoded:
        continue
    raise SystemExit("no photo was encoded")
from vlcam.geometry.cells import derive
from vlcam.networks.encoder import Encoder
encoder = Encoder("efficientnet_lite2", (96, 96))
encoder.load_published()
derive(encoder.split()[0], torch.empty(1, 3, 96, 96))
print(json.dumps(sorted(set(sys.modules) - bare)))
"""

NOT_BEFORE = {
    *("torchvision", "torch._dynamo", "torch._inductor", "sympy", "transformers", "timm"),
    *("matplotlib", "pyarrow", "scipy", "pandas", "sklearn", "skimage", "ray", "nltk", "peft"),
    "pycocotools",
}
"""What is imported where it is used, if at all."""


def test_little_is_imported_before_the_photo_is_looked_at(tmp_path: Path) -> None:
    """By bundled models; counted in modules beyond those of ``import torch``, of which
    torchvision's networks alone bring 1,500 (three seconds of the processor)."""
    found = subprocess.run(
        [sys.executable, "-c", UP_TO_THE_PHOTO, str(PHOTOS[0]), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = json.loads(found.stdout.splitlines()[-1])
    assert not NOT_BEFORE & set(modules)
    assert len(modules) < 300


def test_progress_of_photos_and_of_patches_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0)  # seconds
    asked = (*OF_SCENES, "--caption", "a dog", "--method", "occlusion", "--patch-stride", "60")
    assert called("explain", *PHOTOS[:2], *asked, "--out", tmp_path) == 0
    told = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told[1::2] == ["photos: 1 of 2 (50 %)", "photos: 2 of 2 (100 %)"]
    assert all(re.fullmatch(r"patches: (\d+) of \1 \(100 %\)", line) for line in told[::2])
