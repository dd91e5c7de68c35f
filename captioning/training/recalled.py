"""Words that a CNN trained on ImageNet knows already: what it told of them is used, and kept.

Of toilets and umbrellas a few thousand captions have hardly any, and detectors learned of so few
photos point at the rooms and streets around. A CNN published with its classifier of ImageNet's 1000
classes has seen hundreds of photos of each. The detector of such a word begins as the mean of the
weights C of the classes that it names, less the mean of all::

    W_w = mean_{c in classes of w} C_c - mean_c C_c

and while the CNN learns other words, what each cell says for these stays much as it was::

    loss = mean_w (s_w - s'_w)^2 / var(s'_w)    both by W_w as it is, s' of the CNN as published

(learning without forgetting: Li and Hoiem, ECCV 2016). So the captioner can be asked about things
that no caption it learned from has (compare Hendricks et al., CVPR 2016), though it will not say
them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from captioning.models.neuraltalk.word_evidence import WordEvidence
from vlcam.networks.encoder import Encoder

_BIRDS = (
    "house finch, robin, jay, magpie, bald eagle, prairie chicken, macaw, toucan, goose, pelican"
)
_MONKEYS = "macaque, baboon, spider monkey, squirrel monkey, capuchin, titi"
_TRAINS = "bullet train, electric locomotive, steam locomotive, passenger car, freight car"
_TRUCKS = "garbage truck, tow truck, trailer truck, moving van, pickup, fire engine"
_BOATS = "speedboat, lifeboat, fireboat, catamaran, yawl, canoe, gondola"
_BUSES = "school bus, minibus, trolleybus"
_PHONES = "cellular telephone, dial telephone, pay-phone"
_SCREENS = "television, monitor, screen"
_CLASSES = {
    "airplane|airplanes|plane|planes|jet|jets|aircraft": "airliner, warplane",
    "apple|apples": "Granny Smith",
    "backpack|backpacks": "backpack",
    "balloon|balloons": "balloon",
    "banana|bananas": "banana",
    "basket|baskets": "shopping basket, hamper",
    "bathtub|tub": "bathtub, tub",
    "bear|bears": "brown bear, American black bear, ice bear, sloth bear",
    "bed|beds": "four-poster, studio couch, quilt",
    "bee|bees": "bee",
    "bird|birds": _BIRDS,
    "boat|boats": _BOATS,
    "book|books": "comic book, book jacket, menu",
    "bookcase|bookshelf|shelf|shelves": "bookcase",
    "bottle|bottles": "beer bottle, pop bottle, water bottle, wine bottle",
    "bowl|bowls": "mixing bowl, soup bowl",
    "broccoli": "broccoli",
    "bucket|buckets": "bucket",
    "bus|buses": _BUSES,
    "butterfly|butterflies": "monarch, admiral, lycaenid, ringlet, cabbage butterfly",
    "camel|camels": "Arabian camel",
    "candle|candles": "candle",
    "canoe|canoes": "canoe",
    "cart|carts": "shopping cart, horse cart",
    "cat|cats|kitten|kittens": "tabby, tiger cat, Persian cat, Siamese cat, Egyptian cat",
    "cauliflower": "cauliflower",
    "church": "church",
    "clock|clocks": "analog clock, digital clock, wall clock",
    "computer|computers": "desktop computer, laptop, notebook",
    "couch|couches|sofa|sofas": "studio couch",
    "cow|cows|cattle|bull": "ox",
    "cup|cups|mug|mugs": "cup, coffee mug",
    "desk|desks": "desk",
    "drum|drums": "drum, steel drum",
    "duck|ducks": "drake, red-breasted merganser, goose",
    "elephant|elephants": "Indian elephant, African elephant, tusker",
    "fan|fans": "electric fan",
    "fish": "goldfish, coho, anemone fish",
    "flute": "flute",
    "fountain|fountains": "fountain",
    "fox": "red fox, kit fox, grey fox",
    "frog|frogs": "tree frog, tailed frog, bullfrog",
    "fridge|refrigerator|refrigerators": "refrigerator",
    "goose|geese": "goose",
    "guitar|guitars": "acoustic guitar, electric guitar",
    "hamburger|burger|burgers|sandwich|sandwiches": "cheeseburger",
    "horse|horses|pony|ponies": "sorrel",
    "jeep": "jeep",
    "keyboard|keyboards": "computer keyboard",
    "lamp|lamps": "table lamp",
    "laptop|laptops": "laptop, notebook",
    "lemon|lemons": "lemon",
    "lion|lions": "lion",
    "microphone|microphones": "microphone",
    "microwave|microwaves": "microwave",
    "mirror|mirrors": "car mirror",
    "monkey|monkeys": _MONKEYS,
    "motorcycle|motorcycles|motorbike|moped|scooter|scooters": "motor scooter, moped",
    "mouse|mice": "mouse",
    "mushroom|mushrooms": "mushroom",
    "oven|ovens|stove|stoves": "stove",
    "panda|pandas": "giant panda",
    "phone|phones|telephone|cellphone": _PHONES,
    "piano|pianos": "grand piano, upright",
    "pier|dock": "dock, pier",
    "pig|pigs": "hog",
    "pillow|pillows": "pillow",
    "pineapple|pineapples": "pineapple",
    "pizza|pizzas": "pizza",
    "plate|plates": "plate",
    "pot|pots": "Crock Pot, caldron, hot pot",
    "printer": "printer",
    "purse|purses|handbag": "purse",
    "rabbit|rabbits|bunny": "wood rabbit, hare, Angora",
    "racket|rackets|racquet": "racket",
    "remote|remotes": "remote control",
    "sheep|lamb|goat|goats": "ram, bighorn, ibex",
    "ship|ships": "container ship, liner",
    "sink|sinks": "washbasin",
    "skis": "ski",
    "snowmobile": "snowmobile",
    "spoon|spoons": "wooden spoon, spatula",
    "squirrel|squirrels": "fox squirrel",
    "strawberry|strawberries": "strawberry",
    "stroller|strollers|tricycle|tricycles": "tricycle",
    "suitcase|suitcases|briefcase": "mailbag, chest, backpack",
    "teddy": "teddy",
    "television|televisions|tv|tvs|monitor|monitors": _SCREENS,
    "tent|tents": "mountain tent",
    "tie|ties": "bow tie, Windsor tie",
    "tiger|tigers": "tiger",
    "toaster": "toaster",
    "toilet|toilets": "toilet seat",
    "towel|towels": "bath towel, paper towel",
    "tractor|tractors": "tractor",
    "train|trains|tram": _TRAINS,
    "truck|trucks": _TRUCKS,
    "turtle|turtles": "box turtle, terrapin, mud turtle",
    "umbrella|umbrellas|parasol": "umbrella",
    "van|vans": "minivan, moving van, police van",
    "vase|vases": "vase",
    "violin": "violin",
    "wolf": "timber wolf, white wolf",
    "zebra|zebras": "zebra",
}

RECALLED: Mapping[str, tuple[str, ...]] = {
    word: tuple(classes.split(", "))
    for words, classes in _CLASSES.items()
    for word in words.split("|")
}
"""Names of ImageNet's classes, as torchvision has them, by the word that names them."""


def recall(encoder: Encoder, words: Mapping[str, Sequence[str]], evidence: WordEvidence) -> None:
    """Make the last rows of detectors those of words that name classes of ImageNet.

    Raises:
        ValueError: the CNN was not published with a classifier of ImageNet, or it has no class of
            that name.
    """
    weights = encoder.classifier()
    numbers = {name: number for number, name in enumerate(_names())}
    if missing := [name for names in words.values() for name in names if name not in numbers]:
        raise ValueError(f"ImageNet has no class {missing[0]!r}")
    if weights.shape != (len(numbers), evidence.weight.shape[1]):
        raise ValueError(
            f"CNN {encoder.name}: its classifier, {tuple(weights.shape)}, is not one of ImageNet's"
            f" {len(numbers)} classes over its last feature maps"
        )
    rows = [weights[[numbers[name] for name in names]].mean(0) for names in words.values()]
    with torch.no_grad():
        evidence.weight[-len(rows) :] = torch.stack(rows) - weights.mean(0)
        evidence.bias[-len(rows) :] = 0


class Recalled:
    """Keeps a CNN to what it told of words before it was trained.

    Args:
        before: of the CNN as it was published, from what is seen to the last feature maps.
        evidence: the detectors; the last ``words`` of them are recalled.
        words: how many.
        weight: of the loss.
    """

    def __init__(
        self, before: nn.Module, evidence: WordEvidence, words: int, weight: float
    ) -> None:
        self._before = before.eval().requires_grad_(False)
        self._evidence, self._words, self._weight = evidence, words, weight

    def loss(self, seen: Tensor, maps: Tensor) -> Tensor:
        """How far the words' cells are from what they were, relative to their variance.

        Args:
            seen: what the CNN was fed with.
            maps: its last feature maps (N, K, u, v).
        """
        with torch.no_grad():
            truth = self._cells(self._before(seen)).float()
            scale = truth.var((0, 1)) + 1e-6
        off = (self._cells(maps).float() - truth).square().mean((0, 1))
        return self._weight * (off / scale).mean()

    def _cells(self, maps: Tensor) -> Tensor:
        rows = self._evidence.weight[-self._words :].detach()
        return nn.functional.linear(maps.flatten(2).transpose(1, 2), rows)


def _names() -> list[str]:
    from torchvision.models import MobileNet_V2_Weights

    names: list[str] = MobileNet_V2_Weights.DEFAULT.meta["categories"]
    return names
