"""Finding models: packages register their families under the entry point group ``vlcam.models``.

An entry is a list of :class:`Family`, one entry a package. Nothing of a family is imported until it
is asked for, and vlcam itself knows none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.formats.folders.files import check_files, read_settings
from vlcam.formats.folders.foreign import ADAPTER, foreign
from vlcam.formats.hub.consent import agreed
from vlcam.formats.hub.download import downloaded, is_hub_name
from vlcam.formats.hub.published import Published
from vlcam.utils.files.atomic import recover
from vlcam.utils.messages.errors import flat, one_line
from vlcam.utils.messages.nearest import nearest
from vlcam.utils.registered import registered

if TYPE_CHECKING:
    from vlcam.adapters.adapter import Adapter

GROUP = "vlcam.models"

_AUTO = "auto"
_WEIGHTS = {".t7", ".pth", ".pt", ".tar", ".ckpt", ".pkl", ".bin", ".safetensors", ".index"}
_LONGEST = 60  # characters of a name that are repeated

CHAT = "chat"
"""The kind of models that describe photos and answer questions: taken for either."""

MATCHER = "matcher"
"""The kind of models that compare a photo with given texts: asked for by answers without a
question."""

_DOES = {
    "captioner": "a captioner, which answers no questions",
    "vqa": "a VQA model, which writes no captions: ask it a question",
    MATCHER: "for comparing a photo with texts: give it some as --answers, and no question",
}

_NO_MATCHER = "compares no texts with a photo: answers and a contrast go with a question"

FOR = {"captioner": "captions", "vqa": "questions", CHAT: "both", MATCHER: "texts"}
"""By kind, in the order of tables: what such models are for."""


@dataclass(frozen=True)
class Family:
    """One kind of model that can be loaded.

    Attributes:
        name: of the family.
        kind: ``captioner``, ``vqa``, ``chat`` (both) or ``matcher`` (scores of given texts).
        reference: one line, where the model comes from.
        recognises: whether a path (file or folder) holds such a model, by its content; cheap.
        load: an adapter from a path and the name of a layer (None: the family's default).
        bundled: models that come with the package: name to (path, one line about it).
        published: models of the Hugging Face hub that one word stands for, by that word.
        attends: whether methods that follow attention (:mod:`vlcam.attribution.attention`) can
            explain them.
    """

    name: str
    kind: str
    reference: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, str | None], Adapter]
    bundled: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)
    attends: bool = False

    def __post_init__(self) -> None:
        if self.kind not in FOR:
            known = ", ".join(FOR)
            raise ValueError(f"family {self.name}: kind {self.kind!r}, expected one of {known}")

    def open(self, path: Path, layer: str | None = None) -> Adapter:
        """What ``load`` gives; whatever a damaged folder makes it stumble over is a ValueError.

        Raises:
            ValueError: in one line that names the file or folder.
        """
        try:
            return self.load(path, layer)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
            reason = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise ValueError(f"{path}: cannot be used as {self.name} ({reason})") from error

    def is_a(self, kind: str | None) -> bool:
        """Whether its models can be taken for that kind (None: any)."""
        return kind in (None, self.kind) or (self.kind == CHAT and kind != MATCHER)


def family(
    name: str,
    kind: str,
    reference: str,
    module: str,
    recognises: Callable[[Path], bool] | None = None,
    **more: Any,
) -> Family:
    """A family whose module has ``load(path, layer)`` and, unless it is given here,
    ``recognises(path)``; the module is imported when one of them is first called."""
    return Family(
        name,
        kind,
        reference,
        recognises=recognises or later(module, "recognises"),
        load=later(module, "load"),
        **more,
    )


def later(module: str, function: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is first called."""

    def call(*args: Any) -> Any:
        return getattr(import_module(module), function)(*args)

    return call


def of_architecture(name: str) -> Callable[[Path], bool]:
    """Recognises the models of ours whose configuration names that architecture."""
    return lambda path: configuration(path).get("architecture") == name


def of_transformers(model_type: str, architecture: str) -> Callable[[Path], bool]:
    """Recognises what transformers' ``save_pretrained`` wrote of that class."""

    def recognises(path: Path) -> bool:
        config = configuration(path)
        kinds = config.get("architectures")
        fits = architecture in kinds if isinstance(kinds, list) else kinds is None
        return fits and config.get("model_type") == model_type

    return recognises


def any_of(*recognisers: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Recognises what one of them does."""
    return lambda path: any(recognises(path) for recognises in recognisers)


def families() -> list[Family]:
    """All registered families, by name.

    Raises:
        ValueError: a package's cannot be used, or two models have one name (bundled ones: and are
            of one kind).
    """
    found = sorted(registered(GROUP, Family), key=lambda family: family.name)
    owners: dict[tuple[str, str], str] = {}
    for one in found:
        names = [(one.kind, name) for name in one.bundled]
        for kind, name in names + [("published model", word) for word in one.published]:
            other = owners.setdefault((kind, name), one.name)
            if other != one.name:
                raise ValueError(f"{one.name} and {other} both have a {kind} {name!r}")
    return found


@contextmanager
def families_that_attend() -> Iterator[None]:
    """Where a model without attention is refused inside, the error names families that have it."""
    from vlcam.attribution.attention import NoFlowError

    try:
        yield
    except NoFlowError as error:
        known = ", ".join(family.name for family in families() if family.attends)
        raise ValueError(f"{error}; models that have: {known}") from error


def load(
    model: str | Path,
    layer: str | None = None,
    kind: str | None = None,
    size: tuple[int, int] | None = None,
    device: str | None = None,
    yes: bool = False,
) -> Adapter:
    """A model by the name of a bundled one, from a file or folder recognised by its content, or by
    its name on the Hugging Face hub (``owner/name``, or the one word of a published model that
    ``vlcam models`` lists). A file or folder comes before a published model of that name.

    Args:
        layer: the layer to explain; None means the model's own default.
        kind: accept only this kind of model (``captioner``, ``vqa`` or ``matcher``). Where one of
            each kind bears a name and none is asked for, the captioner is meant.
        size: (height, width) of its input, where not its own (:meth:`Adapter.resize`).
        device: as torch names it (``cuda``, ``cuda:1``, ``cpu``); or ``auto``: a model of
            transformers spread over what there is (``device_map="auto"``). None: the processor.
        yes: fetch what the hub's local cache lacks, however much it is; else more than 500 MB are
            asked for on a terminal, and refused where there is none.

    Raises:
        ValueError: no such model, not recognised, of the other kind, or damaged; no such device;
            not in the cache, and the hub out of reach or the fetch not agreed to: one line naming
            it.
    """
    with agreed(yes):
        family, path = find(model, kind)
    adapter = _on_device(family, path, layer=layer, device=device)
    if size is not None:
        adapter.resize(size)
    return adapter


def _on_device(family: Family, path: Path, layer: str | None, device: str | None) -> Adapter:
    if device == _AUTO:
        from transformers import PreTrainedModel

        from vlcam.formats.pretrained import from_pretrained_with

        with from_pretrained_with(device_map=_AUTO):
            adapter = family.open(path, layer)
        if not isinstance(adapter.module, PreTrainedModel):
            raise ValueError(f"{path}: device {_AUTO} is for models of transformers; name one")
        return adapter
    adapter = family.open(path, layer)
    if device is not None:
        try:
            adapter.module.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {device!r}: {one_line(error)}") from error
    return adapter


def find(model: str | Path, kind: str | None = None) -> tuple[Family, Path]:
    """A model's family, and the file or folder it lies in, fetched where need be; as for
    :func:`load`."""
    known = sorted(families(), key=lambda family: family.kind)  # captioners first, each by name
    name = str(model)
    for family in known:
        if name in family.bundled and family.is_a(kind):
            return family, family.bundled[name][0]
    path = _file(Path(model))
    recover(path)  # of a training that was killed while it saved the model
    here = path.exists()
    if not here:
        path = _fetched(name, known, kind)
    check_files(path)
    try:
        family = recognise(path, known)
    except ValueError as error:
        word = here and published_as(name, known)
        if not word:
            raise
        raise ValueError(f"{error}; the published {name} is {word[1].repository}") from error
    _check_kind(name, family, kind)
    return family, path


def _fetched(name: str, known: Sequence[Family], kind: str | None) -> Path:
    """The folder of a model of the hub, by its word or its name there."""
    word = published_as(name, known)
    if word is not None:
        family, published = word
        _check_kind(name, family, kind)
        return downloaded(published.repository, published)
    if is_hub_name(name):
        all_words = (one for family in known for one in family.published.values())
        return downloaded(name, next((one for one in all_words if one.repository == name), None))
    usable = [family for family in known if family.is_a(kind)]
    bundled = list(dict.fromkeys(one for family in usable for one in family.bundled))
    words = [word for family in usable for word in family.published]
    near = nearest(name, [*bundled, *words])
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"{name}: no such file or folder, nor a bundled model ({', '.join(bundled) or 'none'}), nor"
        f" a published one ({', '.join(words) or 'none'}){hint}"
    )


def published_as(
    word: str, known: Sequence[Family] | None = None
) -> tuple[Family, Published] | None:
    """The published model that a word stands for, and its family, of the known (default: all);
    None: it stands for none."""
    known = families() if known is None else known
    return next(((one, one.published[word]) for one in known if word in one.published), None)


def _check_kind(name: str, family: Family, kind: str | None) -> None:
    """Raise ValueError where a family's models cannot be taken for a kind."""
    if not family.is_a(kind):
        does = _NO_MATCHER if kind == MATCHER else f"is {_DOES[family.kind]}"
        raise ValueError(f"{name}: {family.name} {does}")


def compares_texts(model: str | Path) -> bool:
    """Whether a model may be one of those that compare a photo with texts, as far as that is known
    before it is fetched or loaded.

    Raises:
        ValueError: a file or folder holds no known model.
    """
    known, path = families(), _file(Path(model))
    if any(str(model) in family.bundled for family in known):
        return False
    if path.exists():
        return recognise(path, known).kind == MATCHER
    word = published_as(str(model), known)
    return is_hub_name(str(model)) if word is None else word[0].kind == MATCHER


def _file(path: Path) -> Path:
    """A TensorFlow checkpoint is called by what its files' names begin with: one of these files."""
    index = path.with_name(f"{path.name}.index") if path.name else path
    return index if index.is_file() and not path.exists() else path


def recognise(path: Path, known: Sequence[Family] | None = None) -> Family:
    """The family of the model in a file or folder.

    Raises:
        ValueError: none of the known (default: all) recognises it.
    """
    known = families() if known is None else known
    for family in known:
        if family.recognises(path):
            return family
    found = _what_is_there(path)
    names = ", ".join(family.name for family in known)
    raise ValueError(
        f"{path}: not a model vlcam recognises{found}; known (see vlcam models): {names}"
    )


def _what_is_there(path: Path) -> str:
    """What a folder or file that is not recognised holds, in brackets; empty where that is unknown.

    Raises:
        ValueError: an adapter of another model, which is refused with what to do.
    """
    if path.is_dir() and (path / ADAPTER).is_file():
        base = read_settings(path / ADAPTER).get("base_model_name_or_path")
        raise ValueError(
            f"{path}: an adapter of peft ({ADAPTER}) without its model ({_short(base)}): put"
            " the model's files beside it, or merge it into the model (peft's merge_and_unload)"
        )
    kinds = configuration(path).get("architectures")
    if isinstance(kinds, list):
        code = ", which is code of its own that is never run" if _own_code(path) else ""
        return f" (it holds a {', '.join(map(_short, kinds[:3]))}{code})"
    other = foreign(path)
    if other:
        return f" (found {', '.join(other[:3])}, which is not read)"
    weights = _weights(path)
    return f" ({', '.join(weights[:3])}: cut short, or of another project?)" if weights else ""


def _short(name: Any) -> str:
    return flat(str(name))[:_LONGEST]


def _own_code(path: Path) -> bool:
    return bool(configuration(path).get("auto_map"))


def _weights(path: Path) -> list[str]:
    """Files there whose names end like those of weights."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.name for file in files if file.is_file() and file.suffix in _WEIGHTS]


def configuration(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a model's folder (or beside a file of the model); empty if none.

    Raises:
        ValueError: it is damaged.
    """
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file() or not (path.is_dir() or path.name in _FILES):
        return {}
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({' '.join(str(error).split())})") from error
    return config if isinstance(config, dict) else {}


_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
"""Files of a folder with a configuration that stand for the whole."""
