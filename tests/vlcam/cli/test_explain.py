"""The command line from end to end, with the bundled model and photos; nothing of what it writes.

Every complaint is one line that names what is wrong, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import captioning
import vlcam
from captioning.models.neuraltalk import neuraltalk
from tests.captioning.models.neuraltalk.test_neuraltalk2_pytorch import write_checkpoint
from vlcam.attribution.methods import METHODS
from vlcam.attribution.occlusion import Patch
from vlcam.cli.parser import main
from vlcam.formats.vocabulary import END, words_of
from vlcam.photo.loading import load_photo

REPOSITORY = Path(vlcam.__file__).parent.parent
PHOTOS = sorted((REPOSITORY / "vlcam" / "bundled" / "photos").iterdir())
PHOTO = PHOTOS[0]
SCENES = Path(captioning.__file__).parent / "bundled" / "scenes"
FILES = ["explanation.json", "figure.png", "maps.npz", "page.html"]


def called(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command says before it fails."""
    capsys.readouterr()
    assert called(*arguments) in (1, 2)
    told = capsys.readouterr()
    assert told.out == "" and told.err.endswith("\n") and len(told.err.splitlines()) == 1
    assert told.err.startswith("vlcam")
    return told.err


def below(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def read(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / "explanation.json").read_text("utf-8"))
    assert isinstance(data, dict)
    return data


# -- vlcam explain -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What is printed, and where it is written, for two photos that the model captions itself."""
    out = tmp_path_factory.mktemp("explain") / "new" / "out"
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert called("explain", *PHOTOS[:2], "--out", out) == 0
    return printed.getvalue(), out


def folders(explained: tuple[str, Path]) -> list[tuple[Path, Path]]:
    return [(photo, explained[1] / photo.stem) for photo in PHOTOS[:2]]


def test_a_folder_of_four_files_a_photo(explained: tuple[str, Path]) -> None:
    names = [photo.stem for photo in PHOTOS[:2]]
    assert below(explained[1]) == sorted([*names, *(f"{n}/{f}" for n in names for f in FILES)])


def test_keys_of_the_explanation(explained: tuple[str, Path]) -> None:
    for photo, folder in folders(explained):
        data = read(folder)
        assert data["photo"] == str(photo) and data["model"] == "scenes"
        assert data["method"] == "grad-cam" and data["target"] == "log-probability of each word"
        assert data["layer"] == captioning.load("scenes").layer
        assert data["caption"] == " ".join(word["text"] for word in data["words"]) != ""
        for word in data["words"]:
            assert {*word} == {"text", "log_probability", "probability", "peak", "degenerate"}


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


def test_maps_are_raw_and_at_photo_size(explained: tuple[str, Path]) -> None:
    for photo, folder in folders(explained):
        words = read(folder)["words"]
        with np.load(folder / "maps.npz", allow_pickle=False) as arrays:
            maps, photo_maps, image = (arrays[n] for n in ("maps", "photo_maps", "image"))
        assert maps.dtype == photo_maps.dtype == np.float32
        assert maps.shape == (len(words), *read(folder)["grid"]["size"])
        assert np.array_equal(image, np.asarray(Image.open(photo)))
        assert photo_maps.shape == (len(words), *image.shape[:2])
        again = vlcam.Explanation.load(folder)
        for index, (word, photo_map) in enumerate(zip(words, photo_maps, strict=True)):
            assert np.array_equal(photo_map, again.photo_map(index))
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
    assert called("explain", PHOTO, "--caption", caption, "--out", tmp_path) == 0
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
    assert called("explain", photo, "--caption", own["caption"], "--out", tmp_path) == 0
    given = read(tmp_path / photo.stem)
    for one, other in zip(own["words"], given["words"], strict=True):
        assert one["log_probability"] == pytest.approx(other["log_probability"], abs=1e-4)
        assert one["text"] == other["text"] and one["peak"] == other["peak"]


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_every_method(tmp_path: Path, name: str) -> None:
    layer = "stage3"  # which a ReLU follows, so that there is something to guide
    common = ("--layer", layer, "--caption", "a dog", "--target", "caption", "--out", tmp_path)
    coarse = ("--patch-size", 80, "--patch-stride", 60)
    options = coarse if METHODS[name].at == "patches" else ()
    assert called("explain", PHOTO, "--method", name, *common, *options) == 0
    folder = tmp_path / PHOTO.stem
    assert below(folder) == FILES and read(folder)["method"] == name
    model = captioning.load("scenes", layer)
    pixels, _ = model.prepare(load_photo(PHOTO))
    size = tuple(pixels.shape[1:])
    with np.load(folder / "maps.npz") as arrays:
        assert np.isfinite(arrays["photo_maps"]).all()
        shapes = {"layer": model.grid(size).size, "pixels": size, "patches": (5, 5)}
        assert arrays["maps"].shape == (1, *shapes[METHODS[name].at])


def test_occlusion_records_its_patch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = ("--patch-size", "100", "--patch-stride", "110", "--patch-fill", "-0.5")
    common = ("--method", "occlusion", *patch, "--caption", "a dog", "--out", tmp_path)
    assert called("explain", PHOTO, *common) == 0
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
    assert said in refused(capsys, "explain", PHOTO, *options, "--out", tmp_path)
    assert not below(tmp_path)


def test_another_layer(tmp_path: Path) -> None:
    command = ("explain", PHOTO, "--layer", "stage2", "--caption", "a dog", "--out", tmp_path)
    assert called(*command) == 0
    data = read(tmp_path / PHOTO.stem)
    layer = neuraltalk.load_module(SCENES).encoder.layer("stage2")
    assert data["layer"] == "stage2" and tuple(data["grid"]["size"]) == layer.shape[1:]


def test_a_wide_beam_writes_no_less_likely_a_caption(
    explained: tuple[str, Path], tmp_path: Path
) -> None:
    assert called("explain", *PHOTOS[:2], "--beam", 4, "--out", tmp_path) == 0
    model = neuraltalk.load_module(SCENES)
    for photo, folder in folders(explained):
        pixels, _ = model.config.preprocess(load_photo(photo))
        with torch.no_grad():
            (best,) = model.write(model.encoder(pixels[None]), 4)
        words = model.config.vocabulary.text(best.tokens)
        assert read(tmp_path / folder.name)["caption"] == " ".join(words)


def test_one_map_for_the_whole_caption(tmp_path: Path) -> None:
    common = ("explain", PHOTO, "--caption", "a red bus", "--out")
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
    assert called("explain", PHOTO, "--caption", caption, "--out", tmp_path) == 0
    told = capsys.readouterr()
    assert told.err == f"vlcam: {PHOTO}: not in the model's vocabulary: quokka, café\n"
    data = read(tmp_path / PHOTO.stem)
    assert data["caption"] == caption and data["unknown"] == ["quokka", "café"]
    assert [word["text"] for word in data["words"]] == ["a", "and", "a", "dog"]
    assert "quokka" not in told.out.partition("\n")[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--layer", "nope"), ("nope", "stage4")),
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
        (("--caption", "... !?"), ("'... !?'",)),
        (("--caption", "Quokka ☃"), ("quokka", "☃")),
        (("--caption", "a quokka", "--strict"), ("quokka",)),
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
    line = refused(capsys, "explain", tmp_path / name, "--out", tmp_path / "out")
    assert f"{tmp_path / name}: ".replace("\n", " ") in line
    assert not (tmp_path / "out").exists()


def test_a_batch_goes_on_and_says_at_the_end_which_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, out = tmp_path / "empty.jpg", tmp_path / "out"
    empty.touch()
    photos = [empty, PHOTOS[0], tmp_path, PHOTOS[1]]
    assert called("explain", *photos, "--caption", "a dog", "--out", out) == 1
    told = capsys.readouterr()
    first, second, last = told.err.splitlines()
    assert str(empty) in first and f"{tmp_path}: " in second
    assert last == f"vlcam: 2 of 4 photos failed: {empty}, {tmp_path}"
    assert below(out) == sorted(
        name for p in PHOTOS[:2] for name in (p.stem, *(f"{p.stem}/{file}" for file in FILES))
    )
    assert [line for line in told.out.splitlines() if "->" in line] == [
        f"  -> {out / photo.stem}" for photo in PHOTOS[:2]
    ]


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
    common = ("--caption", "a dog", "--target", "caption", "--out", tmp_path / "out")
    assert called("explain", *photos, *common) == 0
    sizes = {"turned": (40, 30), "tiny": (1, 1), "wide": (2, 3000)}
    for photo in photos:
        folder = tmp_path / "out" / photo.stem
        height, width = sizes.get(photo.stem, (30, 40))
        with np.load(folder / "maps.npz") as arrays:
            assert arrays["image"].shape == (height, width, 3)
            assert arrays["photo_maps"].shape == (1, height, width)
        x, y = read(folder)["words"][0]["peak"]
        assert 0 <= x < width and 0 <= y < height


# -- what breaks off leaves nothing half-written ------------------------------------------------


def _broken(error: BaseException) -> Callable[..., Any]:
    def breaks(*_: object, **__: object) -> None:
        raise error

    return breaks


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("pathlib.Path.replace", FULL),
        ("pathlib.Path.write_text", FULL),
        ("numpy.lib.format.write_array", FULL),
        ("vlcam.explanation.explanation.Explanation.figure", FULL),
        ("vlcam.explanation.explanation.Explanation.html", FULL),
        ("numpy.lib.format.write_array", KeyboardInterrupt()),
        ("vlcam.explanation.explanation.Explanation.html", KeyboardInterrupt()),
    ],
)
def test_a_write_that_breaks_off_leaves_all_as_it_was(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    error: BaseException,
) -> None:
    """Neither a new folder, nor half of one, nor a draft; what was there before stays whole."""
    command = ("explain", PHOTO, "--caption", "a dog", "--target", "caption", "--out")
    old, new = tmp_path / "old", tmp_path / "new"
    folder = old / PHOTO.stem
    folder.mkdir(parents=True)
    (folder / "explanation.json").write_text(json.dumps({"photo": str(PHOTO)}))
    (folder / "page.html").write_text("before")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(broken, _broken(error))
    codes = [called(*command, old), called(*command, new)]
    told = capsys.readouterr()
    if error is FULL:
        line = f"vlcam: {PHOTO}: No space left on device"
        assert codes == [1, 1] and told.err.splitlines() == [line, line]
    else:
        assert codes == [130, 130] and told.err == ""
    monkeypatch.undo()
    assert told.out == "" and below(new) == []
    assert below(old) == [PHOTO.stem, *(f"{PHOTO.stem}/{name}" for name in sorted(before))]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_ctrl_c_stops_a_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vlcam.explanation.explanation.Explanation.html", _broken(KeyboardInterrupt())
    )
    command = ("explain", *PHOTOS[:2], "--caption", "a dog", "--out", tmp_path)
    assert called(*command) == 130
    assert capsys.readouterr() == ("", "") and below(tmp_path) == []


def test_whoever_reads_the_output_may_stop() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vlcam", "methods"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # long before torch is imported and the first line printed
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 141


def test_names_that_a_terminal_cannot_show(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa9.jpg"
    Path(os.fsdecode(name)).write_bytes(PHOTO.read_bytes())
    run = subprocess.run(
        [sys.executable, "-m", "vlcam", "explain", name, "--caption", "a dog", "--out", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert run.returncode == 0 and run.stderr == b""
    assert b"/caf\\udce9 \\xe9.jpg: a dog\n" in run.stdout
    folder = Path(os.fsdecode(name)).with_suffix("")
    assert below(folder) == FILES and read(folder)["photo"] == os.fsdecode(name)


# -- models that are none ----------------------------------------------------------------------


class Payload:
    """Pickled, a program that makes a file."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.ran}'",)


def _settings(**changes: Any) -> Callable[[Path], Path]:
    """The bundled model with other settings."""

    def make(folder: Path) -> Path:
        config = json.loads((SCENES / "config.json").read_text("utf-8"))
        shutil.copytree(SCENES, folder)
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    return make


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], Path]:
    """The bundled model with other weights; the path of their file."""

    def make(folder: Path) -> Path:
        shutil.copytree(SCENES, folder)
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")
        return folder / "model.safetensors"

    return make


def _cut(name: str, length: int) -> Callable[[Path], Path]:
    """The bundled model with a file that ends early."""

    def make(folder: Path) -> Path:
        shutil.copytree(SCENES, folder)
        (folder / name).write_bytes((SCENES / name).read_bytes()[:length])
        return folder

    return make


def _file(name: str, content: bytes, returned: str = "") -> Callable[[Path], Path]:
    """A folder with one file."""

    def make(folder: Path) -> Path:
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / returned

    return make


WEIGHTS, CONFIG, FOREIGN = "model.safetensors: ", "config.json: ", "not a model vlcam recognises"

BAD_MODELS: list[tuple[str, Callable[[Path], Path]]] = [
    (FOREIGN, _file("readme.txt", b"")),
    (FOREIGN, _file("readme.txt", b"", "readme.txt")),
    (f"{CONFIG}not JSON", _cut("config.json", 100)),
    (f"{CONFIG}not JSON", _file("config.json", b"[" * 200_000)),
    (f"{CONFIG}not JSON", _file("config.json", b"\xff\xfe")),
    (FOREIGN, _settings(architecture="updown")),
    (FOREIGN, _file("config.json", b'{"model_type": "blip", "architectures": 5}')),
    (FOREIGN, _file("config.json", b'{"model_type": "blip", "architectures": ["BlipModel"]}')),
    (f"{WEIGHTS}no such file", _file("config.json", (SCENES / "config.json").read_bytes())),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 5000)),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 500_000)),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 0)),
    ("missing encoder.net", _settings(cnn="alexnet")),
    ("missing logits.bias", _weights(lambda state: state.pop("logits.bias"))),
    ("unexpected extra", _weights(lambda state: state.update(extra=torch.zeros(1)))),
    ("has shape (3,)", _weights(lambda state: state.update({"logits.bias": torch.zeros(3)}))),
    (
        "holds torch.complex64",
        _weights(
            lambda s: s.update({"logits.bias": torch.complex(*2 * [s["logits.bias"].float()])})
        ),
    ),
    (
        "logits.bias holds numbers that are not finite",
        _weights(lambda state: state["logits.bias"][3:4].fill_(torch.nan)),
    ),
    (f"{CONFIG}unknown CNN 'resnt50'; near: resnet50", _settings(cnn="resnt50")),
    (f"{CONFIG}unknown CNN 5", _settings(cnn=5)),
    (f"{CONFIG}embedding is '256'", _settings(embedding="256")),
    (f"{CONFIG}hidden is -1", _settings(hidden=-1)),
    (CONFIG, _settings(hidden=10**12)),
    (f"{CONFIG}dropout_input is None", _settings(dropout_input=None)),
    (f"{CONFIG}vocabulary", _settings(vocabulary=["a", "UNK"])),
    (f"{CONFIG}length_power is -1", _settings(length_power=-1)),
    (f"{CONFIG}preprocess", _settings(preprocess=None)),
    (f"{CONFIG}preprocess", _settings(preprocess={"size": [224]})),
    (f"{CONFIG}not a captioner's configuration", _settings(surplus=1)),
]


@pytest.mark.parametrize(("said", "make"), BAD_MODELS)
def test_a_bad_checkpoint_is_told_of_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    said: str,
    make: Callable[[Path], Path],
) -> None:
    out, model = tmp_path / "out", make(tmp_path / "model")
    line = refused(capsys, "explain", *PHOTOS[:2], "--model", model, "--out", out)
    assert said in line and str(tmp_path / "model") in line and not out.exists()


def _neuraltalk(folder: Path, payload: Payload) -> list[Path]:
    shutil.copytree(SCENES, folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(payload))
    torch.save(payload, folder / "other.pth")  # which no family takes
    return [folder, folder / "model.safetensors", folder / "other.pth"]


def _neuraltalk2_infos(folder: Path, payload: Payload) -> list[Path]:
    write_checkpoint(folder)
    (folder / "infos_tiny.pkl").write_bytes(pickle.dumps({"opt": payload, "vocab": {}}))
    return [folder, folder / "infos_tiny.pkl", folder / "model.pth"]


def _neuraltalk2_weights(protocol: int | None) -> Callable[[Path, Payload], list[Path]]:
    def make(folder: Path, payload: Payload) -> list[Path]:
        write_checkpoint(folder)
        if protocol is None:
            torch.save({"embed.weight": payload}, folder / "model.pth")
        else:
            (folder / "model.pth").write_bytes(pickle.dumps(payload, protocol))
        return [folder, folder / "model.pth"]

    return make


def _blip(folder: Path, payload: Payload) -> list[Path]:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip", "architectures": null}')
    (folder / "vocab.txt").write_text("[UNK]\na\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(payload))
    return [folder, folder / "pytorch_model.bin"]


def _alone(name: str) -> Callable[[Path, Payload], list[Path]]:
    def make(folder: Path, payload: Payload) -> list[Path]:
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(payload))
        return [folder, folder / name]

    return make


MALICIOUS = {
    "as neuraltalk": _neuraltalk,
    "as neuraltalk2-pytorch's infos": _neuraltalk2_infos,
    "as neuraltalk2-pytorch's weights": _neuraltalk2_weights(None),
    "as a plain pickle of weights": _neuraltalk2_weights(2),
    "as a plain pickle of a newer protocol": _neuraltalk2_weights(4),
    "as blip": _blip,
    "as model.pth alone": _alone("model.pth"),
    "as infos_x.pkl alone": _alone("infos_x.pkl"),
    "as config.json": _alone("config.json"),
}


@pytest.mark.parametrize("place", MALICIOUS)
def test_a_malicious_pickle_is_never_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    ran, out = tmp_path / "ran", tmp_path / "out"
    for model in MALICIOUS[place](tmp_path / "model", Payload(ran)):
        line = refused(capsys, "explain", PHOTO, "--model", model, "--out", out)
        assert str(tmp_path / "model") in line and "False" not in line  # torch's advice to trust it
        assert not ran.exists() and not out.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


# -- the other commands ------------------------------------------------------------------------


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "demo"
    assert called("demo", "--out", out) == 0
    told = capsys.readouterr()
    assert told.err == "" and told.out.endswith(f"\nOpen {out / 'index.html'} in a browser.\n")
    names = [photo.stem for photo in PHOTOS]
    assert sorted(path.name for path in out.iterdir()) == sorted(["index.html", "answers", *names])
    assert sorted(path.name for path in (out / "answers").iterdir()) == sorted(names)
    names += [f"answers/{name}" for name in names]
    assert all(below(out / name) == FILES for name in names)
    index = (out / "index.html").read_text("utf-8")
    assert re.findall(r'href="([^"]*/[^"]*)"', index) == [f"{name}/page.html" for name in names]
    explained = [read(out / name) for name in names]
    assert all((one.get("caption") or one["question"]) in index for one in explained)
    hydrant = read(out / "answers" / "hydrant-bicycle")
    assert [answer["text"] for answer in hydrant["answers"]] == ["green and red", "green", "red"]


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("models") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, reference in (
        ("scenes", "captioner of rendered scenes"),
        ("scenes", "VQA model of rendered scenes"),
        ("neuraltalk", "NeuralTalk2"),
        ("neuraltalk2-pytorch", "ImageCaptioning.pytorch"),
        ("blip", "Li et al., 2022"),
    ):
        said = [line for line in lines if line.split()[0] == name and reference in line]
        assert len(said) == 1


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    for line in lines:  # a place in the paper, or another paper with its year
        assert re.search(r"eq\. \d|section \d|Table \d|\(.* \d{4}\)", line)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four scenes, written by the command."""
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()):
        patch.setattr(os, "cpu_count", lambda: 1)  # no processes, which start slowly
        assert called("scenes", folder, "--images", 4, "--seed", 7) == 0
    yield folder


def test_scenes_are_written_trained_on_and_explained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = sorted((data / "images").iterdir())
    assert [photo.name for photo in photos] == [f"{i:012}.jpg" for i in range(1, 5)]
    captions = json.loads((data / "annotations" / "captions.json").read_text())
    assert len(captions["annotations"]) == 20
    model = tmp_path / "my-captioner"
    sizes = "--size 32 --embedding 8 --hidden 8 --threshold 1 --cnn-epochs 1 --epochs 1 --beams 2"
    command = ("train", "captioner", "--data", data, "--out", model, *sizes.split())
    assert called(*command) == 0
    assert "BLEU-1..4" in capsys.readouterr().out
    command = ("explain", photos[0], "--caption", "a dog", "--model")
    assert called(*command, model, "--out", tmp_path / "a") in (0, 1)  # it may not know the words
    word = json.loads((model / "config.json").read_text())["vocabulary"]["words"][0]
    command = ("explain", photos[0], "--caption", word, "--model")
    for path in (model, model / "model.safetensors", model / "config.json"):
        out = tmp_path / f"out-{path.name}"
        assert called(*command, path, "--out", out) == 0
        assert read(out / photos[0].stem)["model"] == "my-captioner"
    line = refused(capsys, *command, model / "report.json", "--out", tmp_path / "b")
    assert FOREIGN in line  # a file that is not the model's is not taken for it


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "--images", "0"), "images=0"),
        (("new", "--images", "-1"), "images=-1"),
        (("new", "--images", "1", "--seed", "-1"), "seed=-1"),
        (("new", "--images", "few"), "'few'"),
        (("new",), "--images"),
        (("full", "--images", "1"), "full already exists and is not empty"),
        (("full/file", "--images", "1"), "full/file already exists"),
        (("full/file/new", "--images", "1"), "full/file: "),
    ],
)
def test_scenes_that_cannot_be_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert said in refused(capsys, "scenes", *arguments)
    assert below(tmp_path) == ["full", "full/file"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "missing", "--cnn-epochs", "1"), "missing: no such folder"),
        (("--data", "empty", "--cnn-epochs", "1"), "Flickr8k"),
        (("--data", "DATA", "--cnn-epochs", "1", "--cnn", "resnt50"), "near: resnet50"),
        (("--data", "DATA", "--cnn-weights", "text.pth"), "text.pth: not a readable weights file"),
        (("--data", "DATA", "--cnn-weights", "none.pth"), "none.pth: no such file"),
        (("--data", "DATA", "--cnn-weights", "payload.pth"), "payload.pth: not a readable"),
        (("--data", "DATA", "--cnn-weights", "cut.pth"), "cut.pth: not a readable"),
        (("--data", "DATA", "--cnn-weights", "numbers.pth"), "numbers.pth: expected a state dict"),
        (("--data", "DATA", "--cnn-weights", "other.safetensors"), "not the weights of small"),
        (("--data", "DATA"), "--cnn-weights"),
        (("--data", "DATA", "--cnn-epochs", "-1"), "--cnn-epochs -1"),
        (("--data", "DATA", "--cnn-epochs", "1", "--hidden", "0"), "hidden is 0"),
        (("--data", "DATA", "--cnn-epochs", "1", "--lr", "fast"), "'fast'"),
        ((), "--data"),
    ],
)
def test_trainings_that_cannot_begin(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Path("text.pth").write_text("weights")
    torch.save({"a": Payload(tmp_path / "ran")}, "payload.pth")
    torch.save({"a": torch.zeros(5)}, "cut.pth", _use_new_zipfile_serialization=False)
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:60])
    torch.save({0: torch.zeros(5)}, "numbers.pth")
    shutil.copy(SCENES / "model.safetensors", "other.safetensors")
    before = below(tmp_path)
    given = [str(data) if argument == "DATA" else argument for argument in arguments]
    assert said in refused(capsys, "train", "captioner", *given, "--out", "out")
    assert below(tmp_path) == before


@pytest.mark.parametrize(
    "arguments", [(), ("nope",), ("train",), ("train", "nope"), ("explain",), ("train", "--")]
)
def test_a_wrong_command_line_is_told_of_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert "--help" in refused(capsys, *arguments)


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from vlcam.cli.parser import main
for command in (["explain"], ["demo"], ["scenes"], ["train"], ["train", "captioner"], []):
    try:
        main([*command, "--help"])
    except SystemExit as left:
        assert left.code == 0
assert main(["models"]) == 0
heavy = {"torch", "torchvision", "numpy", "PIL", "matplotlib", "transformers", "tqdm"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stderr == "" and run.stdout.endswith("\nheavy: []\n")
    for told in ("usage: vlcam [-h]", "--caption TEXT", "--images N", "--cnn-weights WEIGHTS"):
        assert told in run.stdout


def test_a_larger_input_gives_finer_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(Path(vlcam.__file__).parent / "bundled" / "photos" / "cat-horse-sheep.jpg")
    command = ["explain", photo, "--caption", "a cat", "--out"]
    assert main([*command, str(tmp_path / "own")]) == 0
    assert main([*command, str(tmp_path / "large"), "--size", "480"]) == 0
    maps = [np.load(tmp_path / n / "cat-horse-sheep" / "maps.npz") for n in ("own", "large")]
    assert [found["maps"].shape for found in maps] == [(2, 20, 20), (2, 30, 30)]
    capsys.readouterr()
    question = ["explain", photo, "--question", "what is this?", "--size", "480"]
    assert main([*question, "--out", str(tmp_path / "asked")]) == 1
    assert "scenes takes photos at its own size only" in capsys.readouterr().err
