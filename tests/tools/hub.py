"""A hub of models on this machine, as the Hugging Face hub answers, and a local cache of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

COMMIT = "0123456789" * 4
NOWHERE = "http://127.0.0.1:9"
"""An endpoint that nobody answers at."""


@dataclass
class Hub:
    """What a hub offers, and what it was asked for.

    Attributes:
        models: folders of models, by their repositories.
        sizes: that it says files have, by their names; else their own.
        card: of every model.
        asked: the paths of all requests.
        broken: names of files whose transfer breaks off.
        failing: what it answers everything with, if anything: a status and its error code.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=lambda: {"license": "mit"})
    asked: list[str] = field(default_factory=list)
    broken: tuple[str, ...] = ()
    failing: tuple[int, str] | None = None

    def answer(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        """The body and the headers that a path is answered with; None: there is no such thing."""
        for repository, folder in self.models.items():
            api, files = f"/api/models/{repository}", f"/{repository}/resolve/{COMMIT}/"
            there = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
            if path in (api, f"{api}/revision/main"):
                siblings = [
                    {"rfilename": name, "size": self.sizes.get(name, file.stat().st_size)}
                    for name, file in there.items()
                ]
                about = {"id": repository, "sha": COMMIT, "cardData": self.card}
                return json.dumps(about | {"siblings": siblings}).encode(), {}
            if path.startswith(f"{api}/tree/"):
                return json.dumps([_listed(file) for file in there.values()]).encode(), {}
            if path.startswith(files) and path.removeprefix(files) in there:
                body = there[path.removeprefix(files)].read_bytes()
                return body, {"ETag": f'"{_digest(body)}"', "X-Repo-Commit": COMMIT}
        return None


def _digest(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


def _listed(file: Path) -> dict[str, Any]:
    body = file.read_bytes()
    return {"type": "file", "path": file.name, "oid": _digest(body), "size": len(body)}


@contextmanager
def serving(hub: Hub, patch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """Within, huggingface_hub asks that hub, and keeps what it gets in that cache."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self, body: bool = True) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(path)
            found = None if hub.failing else hub.answer(path)
            status, code = hub.failing or (404, "RepoNotFound")
            content, headers = found or (b"{}", {"X-Error-Code": code})
            self.send_response(200 if found else status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                cut = path.rpartition("/")[2] in hub.broken
                self.wfile.write(b"" if cut else content)

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        at(f"http://127.0.0.1:{server.server_port}", patch, cache)
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def at(endpoint: str, patch: pytest.MonkeyPatch, cache: Path) -> None:
    """As ``HF_ENDPOINT`` and ``HF_HUB_CACHE`` would say it in a new process."""
    from huggingface_hub import constants

    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def put(cache: Path, repository: str, folder: Path) -> Path:
    """A model in a cache, as the hub's client lays it out: a snapshot of links to blobs."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot, blobs = home / "snapshots" / COMMIT, home / "blobs"
    for made in (snapshot, blobs, home / "refs"):
        made.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for file in sorted(folder.iterdir()):
        shutil.copy(file, blobs / file.name)
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", file.name))
    return snapshot
