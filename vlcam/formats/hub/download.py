"""Models by their names on the Hugging Face hub: the one door that all of them come through."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from vlcam.formats.hub import cache, counted, files
from vlcam.formats.hub.consent import Fetch, check_agreed
from vlcam.formats.hub.published import Published, sized
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATIENCE = 10
"""Seconds until the hub counts as out of reach."""


def is_hub_name(model: str) -> bool:
    """Whether it has the form of a hub's name: ``owner/name``."""
    return _NAME.fullmatch(model) is not None


def downloaded(repository: str, published: Published | None = None) -> Path:
    """The local folder of a model of the hub: from the cache, without a look at the network; or
    fetched, and where that is much (:mod:`vlcam.formats.hub.consent`), only if one agrees.

    Args:
        published: what is known of it, for what the hub does not say.

    Raises:
        ValueError: in one line: it is not in the cache, and the hub has no such model or cannot be
            reached; it is not agreed to; the disk is too full.
    """
    folder = cache.cached(repository)
    if folder is not None:
        return folder
    offer = offered(repository, published)
    check_agreed(
        Fetch(
            repository,
            offer.bytes,
            offer.licence,
            offer.weights if published is None else published.memory * 1e9,
            measured=published is not None,
            into=cache.place(),
        )
    )
    _check_room(repository, offer.bytes or 0)
    return _fetched(repository, offer, published)


@dataclass(frozen=True)
class Offer:
    """What the hub offers of a model.

    Attributes:
        names: of the files of it that are read.
        bytes: of those that are not in the cache; None: the hub does not say.
        weights: bytes of all its weights; None: the hub does not say.
        licence: "not stated" where it is not.
    """

    names: tuple[str, ...]
    bytes: int | None
    weights: int | None
    licence: str


def offered(repository: str, published: Published | None = None) -> Offer:
    """Ask the hub what it has of a model; arguments as of :func:`downloaded`.

    Raises:
        ValueError: there is no such model, it holds nothing that can be read, the hub cannot be
            reached or refuses it.
    """
    from huggingface_hub import HfApi

    try:
        with _quietly():
            found = HfApi().model_info(repository, files_metadata=True, timeout=_PATIENCE)
    except Exception as error:  # whatever a network, or what stands in the hub's place, can do
        raise ValueError(_refused(repository, error, published)) from error
    sizes = {one.rfilename: one.size for one in found.siblings or []}
    chosen = files.weights(sizes)
    if not chosen:
        raise ValueError(
            f"{repository}: the Hugging Face hub has no weights of it that are read"
            " (model.safetensors, pytorch_model.bin)"
        )
    names = (*files.texts(sizes), *chosen)
    there = cache.snapshot(repository)
    here = there is not None and there.name == found.sha
    left = [name for name in names if not (here and there and (there / name).is_file())]
    size = _sum(sizes[name] for name in left)
    return Offer(
        names,
        published.bytes if size is None and published else size,
        _sum(sizes[name] for name in chosen),
        published.licence if published else _licence(found.card_data),
    )


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


def _licence(card: Any) -> str:
    """The licence that a model's card states: by its name, where it is one of the author's own."""
    return str(
        getattr(card, "license_name", None) or getattr(card, "license", None) or "not stated"
    )


def _check_room(repository: str, size: int) -> None:
    into = cache.place()
    there = next(folder for folder in (into, *into.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if size > free:
        raise ValueError(
            f"{repository}: {sized(size)} would not fit into {into}, where {sized(free)} are free"
            " (HF_HOME puts the cache elsewhere)"
        )


def _fetched(repository: str, offer: Offer, published: Published | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted, what = [escape(name) for name in offer.names], f"{repository}, bytes"
    try:
        with _quietly(), progress.of(what, offer.bytes, unit="B") as work:
            bars = counted.bars(work)
            return Path(snapshot_download(repository, allow_patterns=wanted, tqdm_class=bars))
    except Exception as error:  # as in offered
        raise ValueError(_refused(repository, error, published)) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without huggingface_hub's warnings: what matters, we raise."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""What a disk refuses, where the file may not be named."""


def _refused(repository: str, error: Exception, published: Published | None) -> str:
    """One line about a model that did not come from the hub."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    none = "" if published else "no such file or folder, "
    if isinstance(error, GatedRepoError):
        return (
            f"{repository}: the Hugging Face hub gives it to those who agreed to its terms: do so"
            " on its page there, and log in (hf auth login)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{repository}: {'no longer' if published else f'{none}nor'} a model of the hub"
    if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
        why = one_line(error).partition(" For more information")[0]
        state = f"{none}{_in_cache(repository)}"
        return f"{repository}: {state}, and the Hugging Face hub refused it ({why})"
    if isinstance(error, OSError) and (error.errno in _DISK or (error.strerror and error.filename)):
        return f"{repository}: cannot be put into the cache ({one_line(error)})"
    return (
        f"{repository}: {none}{_in_cache(repository)}, and the Hugging Face hub cannot be reached"
        f" (offline? {one_line(error)}): fetch it where there is a network, set HF_HOME to a cache"
        " that has it, or give a folder that holds it"
    )


def _in_cache(repository: str) -> str:
    folder = cache.snapshot(repository)
    if folder is None:
        return f"not in the cache {cache.place()}"
    return (
        f"only in part in the cache {cache.place()} (missing: {', '.join(cache.missing(folder))})"
    )
