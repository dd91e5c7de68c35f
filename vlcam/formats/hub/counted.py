"""How far a fetch from the hub has come, told as of all other long work."""

from __future__ import annotations

from typing import Any

from vlcam.utils.terminal.progress import Work


def bars(work: Work) -> type[Any]:
    """A class of bars for ``snapshot_download``, which show nothing of their own: the bytes that
    come are steps of that work."""
    from huggingface_hub.utils import tqdm

    class Counted(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, name: str | None = None, **options: Any) -> None:
            super().__init__(*args, **(options | {"disable": True}))
            # There may be a second bar, of what comes over the network for these bytes.
            self._counts = options.get("unit") == "B" and not (name or "").endswith("transfer")

        def update(self, n: float | None = 1) -> None:
            if self._counts:
                work.advance(int(n or 0))

    return Counted
