"""The pictures of the documentation: what vlcam says of its bundled photos, nothing drawn by hand.

    python docs/pictures/make.py [NAME ...]

writes ``NAME.webp`` beside this file; without names all of them, in half a minute. The picture of a
photo needs weights, which are not bundled: ``photo.py``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import captioning
import vlcam
import vqa
from vlcam.attribution.reducers import grad_cam
from vlcam.explanation.figure import draw_rows
from vlcam.geometry.grid import place

HERE = Path(__file__).parent
PHOTOS = Path(vlcam.__file__).parent / "bundled" / "photos"
DOGS, HYDRANT = PHOTOS / "dogs-clock.jpg", PHOTOS / "hydrant-bicycle.jpg"
REAL = Path(str(resources.files("skimage"))) / "data" / "camera.png"
COLOUR = "what color is the fire hydrant?"
CHANNELS = 4  # of the feature maps, shown in the picture of Figure 2


def caption() -> Figure:
    """A caption the bundled captioner writes of a real photo, word by word."""
    return vlcam.explain(captioning.load("photos"), REAL).figure()


def answers() -> Figure:
    """One question, three answers (Figure 12a of the paper)."""
    forced = ["green and red", "green", "red"]
    return vlcam.explain(vqa.load("scenes"), HYDRANT, question=COLOUR, answers=forced).figure()


def layers() -> Figure:
    """The same two answers at every depth of the VQA model's CNN, and at its glimpses."""
    rows = []
    for layer in ("stage1", "stage3", "stage4", "glimpses"):
        model = vqa.load("scenes", layer)
        explanation = vlcam.explain(model, HYDRANT, question=COLOUR, answers=["green", "red"])
        height, width = explanation.grid.size
        rows.append((f"{layer}, {height} x {width} cells", explanation))
    return draw_rows(rows)


def methods() -> Figure:
    """Two words of one caption by several methods."""
    model = captioning.load("scenes")
    photo = vlcam.look(model, DOGS)
    names = ("grad-cam", "layercam", "guided-grad-cam", "guided-backprop", "gradient")
    return draw_rows(
        [(name, vlcam.explain(model, photo, "dogs clock", method=name)) for name in names]
    )


def figure2() -> Figure:
    """Grad-CAM of one word, step by step: photo, feature maps, weights, map (Figure 2)."""
    model = captioning.load("scenes")
    photo = vlcam.look(model, DOGS)
    word = "clock"
    explanation = vlcam.explain(model, photo, word)

    # The same by hand: d log p(word) / dA, with one forward pass and one backward pass.
    features = model.encode(photo.pixels)
    reading = model.read(word)
    maps = features.maps.detach().requires_grad_()
    scores = model.decode(vlcam.FeatureMaps(maps), [reading.prompt])
    (gradient,) = torch.autograd.grad(scores[0, list(reading.units[0].scores)].sum(), maps)
    found = grad_cam(maps.detach(), gradient)
    assert torch.allclose(found, explanation.maps, atol=1e-4 * float(found.max()))

    weights = gradient.mean((2, 3))[0]
    strength = weights * maps.detach().amax((0, 2, 3))
    strongest = strength.topk(CHANNELS).indices.tolist()
    figure = Figure(figsize=(12, 2.1), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    shown = figure.subplots(1, CHANNELS + 3)
    image = np.asarray(photo.image)
    _tile(shown[0], "photo", image)
    for axes, channel in zip(shown[1:], strongest, strict=False):
        title = f"$A^{{{channel}}}$,  $\\alpha = {float(weights[channel]):.3f}$"
        _tile(axes, title, maps[0, channel].detach().numpy())
    _tile(shown[-2], f'map of "{word}"', found[0].numpy())
    placed = place(found, explanation.grid, explanation.placement)[0].numpy()
    _tile(shown[-1], "placed over the photo", image)
    shown[-1].imshow(placed, cmap="inferno", alpha=0.6)
    return figure


def _tile(axes: object, title: str, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="inferno")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def save(figure: Figure, path: Path) -> None:
    """As WebP: a fifth of the PNG, and its text stays sharp."""
    whole = io.BytesIO()
    figure.savefig(whole, format="png")
    Image.open(whole).convert("RGB").save(path, quality=85, method=6)


PICTURES: dict[str, Callable[[], Figure]] = {
    make.__name__: make for make in (caption, answers, layers, methods, figure2)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        save(PICTURES[name](), HERE / f"{name}.webp")
        print(HERE / f"{name}.webp")
