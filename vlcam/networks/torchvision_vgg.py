"""VGG networks in the layout of torchvision, of any depth and width, from their weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vlcam.networks.encoder import Layer
from vlcam.networks.trunk import find_layer

SIZE = 224  # pixels of the input's sides
CELLS = 7  # the last maps' sides, whatever the input's


class TorchvisionVgg(nn.Module):
    """VGG without its last layer: ``features.0`` ... , then ``classifier.0`` and ``classifier.3``.

    Args:
        state: its weights.

    Attributes:
        layers: those with feature maps, in order, of an input of 224 x 224.
        default_layer: the last ReLU before the last pooling (``features.35`` of VGG-19).
        feature_size: F of the image feature (B, F), the last rectified fully connected layer's.

    Raises:
        ValueError: it is no such network.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.layers: list[Layer] = []
        numbers = sorted(_convolutions(state))
        if not numbers or numbers[0] != 0:
            raise ValueError("no VGG: no convolution features.0.weight")
        side = SIZE
        # Between two convolutions lies a ReLU, or a ReLU and a pooling.
        for number, following in zip(numbers, [*numbers[1:], numbers[-1] + 3], strict=True):
            out, inputs, kernel, _ = state[f"features.{number}.weight"].shape
            parts = [nn.Conv2d(inputs, out, kernel, 1, kernel // 2), nn.ReLU(), nn.MaxPool2d(2, 2)]
            if following - number not in (2, 3):
                raise ValueError(
                    f"no VGG: features.{number} and features.{following} are not 2 or 3 apart"
                )
            self.default_layer = f"features.{number + 1}"
            for part in parts[: following - number]:
                side //= 2 if isinstance(part, nn.MaxPool2d) else 1
                name = f"features.{len(self.features)}"
                self.layers.append(Layer(name, (out, side, side)))
                self.features.append(part)
        self.avgpool = nn.AdaptiveAvgPool2d(CELLS)
        sizes = []
        for name in ("classifier.0", "classifier.3"):
            weight = state.get(f"{name}.weight")
            if weight is None or weight.ndim != 2:
                raise ValueError(f"no VGG: no matrix {name}.weight")
            sizes.append(tuple(weight.shape))
        if sizes[0][1] != out * CELLS**2:
            raise ValueError(
                f"no VGG: classifier.0 takes {sizes[0][1]} numbers, expected {out * CELLS**2}"
            )
        (wide, flat), (self.feature_size, inner) = sizes
        self.classifier = nn.Sequential(
            nn.Linear(flat, wide),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(inner, self.feature_size),
            nn.ReLU(),
            nn.Dropout(),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, F) of pixels (B, 3, H, W)."""
        feature: Tensor = self.split()[1](self.split()[0](pixels))
        return feature

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        at = int(self.layer(layer).name.removeprefix("features.")) + 1
        behind = (self.avgpool, nn.Flatten(), *self.classifier)
        return self.features[:at], nn.Sequential(*self.features[at:], *behind)


def _convolutions(state: Mapping[str, Tensor]) -> list[int]:
    numbers = []
    for key, weight in state.items():
        first, _, rest = key.partition(".")
        number, _, kind = rest.partition(".")
        if first == "features" and kind == "weight" and number.isdecimal() and weight.ndim == 4:
            numbers.append(int(number))
    return numbers
