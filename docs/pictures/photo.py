"""The picture of a photo: an ImageNet classifier, wrapped, and four of its classes.

    python docs/pictures/photo.py --weights mobilenet_v2.safetensors

Weights in torchvision's layout; torchvision's own are what
``python -c "import torchvision; torchvision.models.mobilenet_v2(weights='DEFAULT')"`` fetches. The
photo comes with matplotlib: Rear Admiral Grace Hopper, by the U.S. Navy, in the public domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from make import HERE, save
from matplotlib.cbook import get_sample_data
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

import vlcam
from vlcam.formats.state_dict import read_state_dict

NAMES = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
CLASSES = [name if NAMES.index(name) == i else f"{name} ({i})" for i, name in enumerate(NAMES)]
SHOWN = ["military uniform", "mortarboard", "Windsor tie", "suit"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, required=True)
    network = mobilenet_v2().eval()
    network.load_state_dict(read_state_dict(parser.parse_args().weights))
    model = vlcam.wrap(
        network,
        layer="features.18",
        score=lambda network, pixels, prompts: network(pixels),
        answers=CLASSES,
        question="what is in the photo?",
        preprocess=vlcam.Preprocess(size=(320, 320)),
    )
    photo = get_sample_data("grace_hopper.jpg", asfileobj=False)
    save(vlcam.explain(model, photo, answers=SHOWN).figure(), HERE / "photo.webp")


if __name__ == "__main__":
    main()
