"""Checkpoints of Cadene's vqa.pytorch, or a folder that :meth:`VqaPyTorch.save` wrote.

A checkpoint is a folder with

* ``best_model.pth.tar`` or ``ckpt_model.pth.tar``: the weights;
* ``wid_to_word.pickle`` and ``aid_to_ans.pickle``: words and answers (the project keeps them in its
  ``data/vqa/processed/...``; ``word_to_wid.pickle`` and ``ans_to_aid.pickle`` say the same);
* the ``.yaml`` file of its options (or ``logger.json``, which repeats them). Sizes are read off the
  weights. Without options, what they alone give (activations, how questions are split into words,
  the size of photos) is taken from the published models, and results say so;
* the CNN's weights, of Cadene's pretrained-models (``fbresnet152-2e20f6b4.pth``), as ``.pth`` or
  ``.safetensors``. The models were trained on features of that CNN, so the project does not keep
  it beside them. Without it, only features (N, F, u, v) can be explained, no photos.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from torch import Tensor, nn

from vlcam.formats import checkpoint
from vlcam.formats.restricted_pickle import read_pickle
from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.formats.torch_pickle import mentions, read_checkpoint
from vlcam.models import configuration
from vlcam.networks.resnet import resnet
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.files.input_files import read_bytes
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.errors import one_line
from vqa.models.vqa_pytorch import fusion
from vqa.models.vqa_pytorch.model import ARCHITECTURE, LONGEST, Config, Model, VqaPyTorch
from vqa.models.vqa_pytorch.tokenizers import TOKENIZERS

_LARGEST_OPTIONS = 2**18  # bytes
_SIZE = 448  # pixels of the input's sides, of the published models
_WEIGHTS = ("seq2vec.embedding.weight", "linear_classif.weight")  # names that tell such a model
_WORDS = ("wid_to_word.pickle", "word_to_wid.pickle")
_ANSWERS = ("aid_to_ans.pickle", "ans_to_aid.pickle")
_MODELS = (".tar", ".pth", ".pt")
_CNNS = (".pth", ".pt", ".safetensors")


def recognises(path: Path) -> bool:
    """Whether a file belongs to, or a folder holds, a checkpoint of this project, or a model of it
    that :meth:`VqaPyTorch.save` wrote."""
    if configuration(path).get("architecture") == ARCHITECTURE:
        return True
    if path.is_dir():
        # A folder with words and answers alone is ours too: to say what is missing.
        return bool(_models(path)) or all((path / n).is_file() for n in (_WORDS[0], _ANSWERS[0]))
    return _is_model(path) or (
        path.suffix in (".tar", ".yaml", ".pickle") and recognises(path.parent)
    )


def load(path: Path, layer: str | None = None) -> VqaPyTorch:
    """A model from its folder or a file in it.

    Of several models in a folder the best is taken, or else the latest.

    Args:
        layer: one of :data:`vqa.models.vqa_pytorch.model.LAYERS`; None: the last.

    Raises:
        ValueError: a file is missing, damaged, hostile, of another architecture, or does not fit
            the others; one line says which and why.
    """
    folder = path if path.is_dir() else path.parent
    if configuration(path).get("architecture") == ARCHITECTURE:
        model = checkpoint.load_folder(path, _saved, f"{ARCHITECTURE} VQA model")
    else:
        model = _read(_model_file(path), folder)
    model.eval().requires_grad_(False)
    return VqaPyTorch(model, name=folder.resolve().name, folder=folder, layer=layer)


def _saved(data: Any, state: Mapping[str, Tensor]) -> Model:
    """The model that :meth:`VqaPyTorch.save` wrote, the answerer's weights not loaded yet."""
    config = checkpoint.from_json(Config, data, ARCHITECTURE, "VQA model")
    own, seen = (
        {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}
        for part in ("answerer.", "cnn.")
    )
    cnn = resnet(seen, "torchvision", "its CNN is no ResNet") if seen else None
    return Model(config, fusion.build(_shapes(own), config.activations), cnn)


def _read(path: Path, folder: Path) -> Model:
    """A model from the project's own files."""
    state = read_checkpoint(path)
    architecture = fusion.architecture_of(state)
    what = f"{path}: not the weights of a {architecture} model of vqa.pytorch"
    options, source = _options(folder)
    claimed = options.get("model", {}).get("arch", architecture)
    if claimed != architecture:
        raise ValueError(f"{source}: model.arch is {claimed!r}, but {path} holds a {architecture}")
    words, answers = _texts(folder, _WORDS, 1), _texts(folder, _ANSWERS, 0)
    try:
        config = _config(words, answers, options=options, architecture=architecture)
    except ValueError as error:
        raise ValueError(f"{source or folder}: {error}") from error
    cnn = _read_cnn(folder, config.cnn)
    try:
        answerer = fusion.build(_shapes(state), config.activations)
    except (ValueError, RuntimeError) as error:  # the second: sizes that no memory holds
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error
    load_exactly(answerer, state, what)
    try:
        return Model(config, answerer, cnn)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _is_model(file: Path) -> bool:
    if file.suffix not in _MODELS or not file.is_file():
        return False
    # Damaged or hostile files are ours to refuse where their names say that they are ours.
    ours = file.name.endswith("_model.pth.tar") and (file.parent / _ANSWERS[0]).is_file()
    return ours or mentions(file, *_WEIGHTS)


def _models(folder: Path) -> list[Path]:
    """The files of models, the best first, then the latest."""

    def rank(file: Path) -> tuple[bool, bool, int]:
        epoch = re.search(r"epoch,(\d+)_", file.name)
        return not file.name.startswith("best"), epoch is not None, -int(epoch[1] if epoch else 0)

    return sorted((file for file in sorted(folder.iterdir()) if _is_model(file)), key=rank)


def _model_file(path: Path) -> Path:
    """The file of the model that a path means."""
    if _is_model(path):
        return path
    folder = path if path.is_dir() else path.parent
    found = _models(folder)
    if not found:
        raise ValueError(f"{folder}: no best_model.pth.tar, ckpt_model.pth.tar or other weights")
    return found[0]


def _texts(folder: Path, names: tuple[str, str], first: int) -> tuple[str, ...]:
    """Texts in the order of their numbers.

    Args:
        names: of the files of numbers to texts and of texts to numbers; one is enough.
        first: of the numbers.
    """
    found = {}
    for name in names:
        path = folder / name
        if path.is_file():
            data = read_pickle(path)
            try:
                found[name] = _in_order(data, first)
            except (TypeError, KeyError) as error:
                raise ValueError(f"{path}: expected texts numbered from {first}") from error
    if not found:
        raise ValueError(
            f"{folder}: no {names[0]} (nor {names[1]}); it lies in data/vqa/processed/... of"
            " vqa.pytorch"
        )
    if len(set(found.values())) > 1:
        raise ValueError(f"{folder}: {names[0]} and {names[1]} do not agree")
    return found.popitem()[1]


def _in_order(data: Any, first: int) -> tuple[str, ...]:
    """Texts of a list, or of a dictionary from numbers to them or back."""
    if isinstance(data, list):
        data = dict(enumerate(data, first))
    if not isinstance(data, dict):
        raise TypeError
    if data and isinstance(next(iter(data)), str):
        data = {number: text for text, number in data.items()}
    texts = tuple(data[number] for number in range(first, first + len(data)))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return texts


def _options(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """The options of the training, and the file that holds them; none where there is no such file.

    Raises:
        ValueError: files differ, or a section that is read is no dictionary.
    """
    found = [(options, file) for file, options in _files_of_options(folder)]
    if not found:
        return {}, None
    options, file = found[0]
    other = next((f for o, f in found[1:] if o != options), None)
    if other is not None:
        raise ValueError(f"{folder}: {file.name} and {other.name} have other options; leave one")
    model = options["model"]
    sections = {name: options.get(name) for name in ("vqa", "coco")}
    sections |= {f"model.{name}": model.get(name) for name in ("attention", "fusion", "classif")}
    for name, section in sections.items():
        if not isinstance(section, dict | None):
            raise ValueError(f"{file}: {name} is no section of options")
    return options, file


def _plain_yaml(text: bytes) -> Any:
    """What YAML of options holds. Aliases, by which a few lines have no end when they are compared,
    are refused, and so is what is far too long for options."""
    if len(text) > _LARGEST_OPTIONS:
        raise ValueError(f"more than {_LARGEST_OPTIONS} bytes")
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("it has aliases")
    return yaml.safe_load(text)


def _files_of_options(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file of options in the folder, with the options."""
    for file in sorted(folder.glob("*.y*ml")):
        try:
            options = _plain_yaml(read_bytes(file))
        except Exception as error:  # whatever a damaged file makes it stumble over
            raise ValueError(f"{file}: not plain YAML ({one_line(error)})") from error
        if isinstance(options, dict) and isinstance(options.get("model"), dict):
            yield file, options
            continue  # the training's own arguments, args.yaml, have no such section
    log = folder / "logger.json"
    if log.is_file():
        try:
            options = read_json(log)["options"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{log}: not a log of vqa.pytorch, with its options") from error
        if isinstance(options, dict) and isinstance(options.get("model"), dict):
            yield log, options


def _config(
    words: tuple[str, ...], answers: tuple[str, ...], *, options: dict[str, Any], architecture: str
) -> Config:
    """The configuration that the options give; the rest is as published."""
    assumed = []

    def option(section: str, name: str, default: Any) -> Any:
        known = options.get(section) or {}
        if name not in known:
            assumed.append(f"{section}.{name}")
        return known.get(name, default)

    activations = {}
    for part in ("attention", "fusion", "classif"):
        section = options.get("model", {}).get(part)
        if section is not None:
            for key, name in section.items():
                place = part + str(key).removeprefix("activation").replace("_", ".", 1)
                if str(key).startswith("activation") and place in fusion.PLACES:
                    activations[place] = name
        elif part != "attention" or not architecture.endswith("NoAtt"):
            published = fusion.PUBLISHED[architecture]
            activations |= {p: n for p, n in published.items() if p.partition(".")[0] == part}
            assumed.append(f"model.{part}.activation")
    size = option("coco", "size", _SIZE)
    tokenizer = option("vqa", "nlp", "mcb")
    return Config(
        words,
        answers,
        activations=activations,
        preprocess=Preprocess((size, size), "torchvision"),
        tokenizer=tokenizer if tokenizer in TOKENIZERS else "naive",  # so does the project
        longest=option("vqa", "maxlength", LONGEST),
        pad_left=option("vqa", "pad", "right") != "right",
        cnn=str(option("coco", "arch", "")),
        assumed=tuple(sorted(assumed)),
    )


def _read_cnn(folder: Path, name: str) -> tuple[nn.Sequential, int] | None:
    """The CNN whose weights lie in the folder, if any, and its channels.

    Args:
        name: of the CNN that it must be; empty: any.

    Raises:
        ValueError: there are several files, or it is another CNN.
    """
    files = [f for f in sorted(folder.iterdir()) if f.suffix in _CNNS and not _is_model(f)]
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise ValueError(f"{folder}: expected one file of the CNN's weights, found {listed}")
    if not files:
        return None
    read = read_state_dict if files[0].suffix == ".safetensors" else read_checkpoint
    net, channels = resnet(
        read(files[0]), "torchvision", f"{files[0]}: not the weights of a ResNet"
    )
    # Biases distinguish Torch7's ResNet from torchvision's of the same shape.
    biased = cast(nn.Conv2d, net[0]).bias is not None
    if name and biased != name.startswith("fb"):
        what = "convolutions with biases" if biased else "convolutions without biases"
        raise ValueError(f"{files[0]}: {what}, so it is not {name}, whose features the model reads")
    return net, channels
