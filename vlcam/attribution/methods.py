"""The table of methods: where gradients are taken, the ReLU's backward rule, the reducer.

To add a method, write its reducer, a function with its formula, in
:mod:`vlcam.attribution.reducers`, and a line in the table below. A package of your own registers a
list of :class:`Method` under the entry point group ``vlcam.methods`` instead
(``docs/own_method.md``). Every command then takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from vlcam.attribution.reducers import (
    Reducer,
    absolute_gradients,
    counterfactual,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    max_pooling,
    no_relu,
    xgrad_cam,
)
from vlcam.attribution.relevance import Follow, rollout, weighted
from vlcam.utils.messages.nearest import unknown
from vlcam.utils.registered import registered

if TYPE_CHECKING:
    from vlcam.attribution.backward_rules import Rule

GROUP = "vlcam.methods"
"""The entry points under which packages register lists of methods of their own."""


Place = Literal["layer", "pixels", "patches", "attention"]
"""Where a map lives."""


@dataclass(frozen=True)
class Method:
    """A named way from a model's gradients to a map.

    Attributes:
        name: as given to ``--method`` and carried by results.
        reference: the paper's section or equation, or the method's own paper.
        at: where the map lives. ``layer``: on the feature maps' cells; ``pixels``: on the input's
            pixels, the greatest absolute value over the three colours; ``patches``: on the places
            of a patch that covers the input, without gradients
            (:mod:`vlcam.attribution.occlusion`); ``attention``: on the patches of a transformer,
            whose attention is followed through all its layers (:mod:`vlcam.attribution.attention`).
        reduce: from A and dy/dA to the layer's map; of a method at the pixels, the factor that
            the pixels' gradient is multiplied by (section 3.2), or None for the gradient alone.
        rule: backward rule of the ReLUs inside the CNN; of a method at the layer, it acts on the
            gradients that become the weights.
        caveat: what a reader of such a map should know.
        follow: of a method at the attention, how the attention is followed.
    """

    name: str
    reference: str
    at: Place
    reduce: Reducer | None = None
    rule: Rule | None = None
    caveat: str | None = None
    follow: Follow | None = None

    def __post_init__(self) -> None:
        places = get_args(Place)
        if self.at not in places:
            raise ValueError(f"method {self.name}: at {self.at!r}, expected {', '.join(places)}")


# References too long for a line of the table.
_GUIDED = (
    "Guided Backpropagation (Springenberg et al. 2015), section 3.2; hardly depends on the upper"
    " layers (Adebayo et al. 2018)"
)
_DECONV = "Deconvolution (Zeiler and Fergus 2014), section 3.2"
_DECONV_CAM = "Deconvolution Grad-CAM, section 3.2"
_DECONV_WEIGHTS = "Table 3: deconvolution gradients as weights"
_ROLLOUT = "attention rollout (Abnar and Zuidema 2020), of transformers; the same for every word"
_RELEVANCE = "attention weighted by its gradients (Chefer et al. 2021), of transformers"

# Caveats.
_FAILS = (
    "Guided and deconvolution maps fail the randomisation check (Adebayo et al. 2018): they hardly"
    " change where the weights of the upper layers are drawn anew, so they show edges more than"
    " what the model decided by."
)
_NO_TARGET = "Attention rollout knows of no target: its map is the same for every word or answer."

_TABLE = (
    Method("grad-cam", "Grad-CAM, eq. 1-2", "layer", grad_cam),
    Method("counterfactual", "counterfactual explanation, eq. 12", "layer", counterfactual),
    Method("guided-grad-cam", "Guided Grad-CAM, section 3.2", "pixels", grad_cam, "guided", _FAILS),
    Method("deconv-grad-cam", _DECONV_CAM, "pixels", grad_cam, "deconv", _FAILS),
    Method("guided-backprop", _GUIDED, "pixels", rule="guided", caveat=_FAILS),
    Method("deconv", _DECONV, "pixels", rule="deconv", caveat=_FAILS),
    Method("gradient", "plain gradient (Simonyan et al. 2014), section 2", "pixels"),
    Method("occlusion", "drop behind a patch (Zeiler and Fergus 2014), section 8.2", "patches"),
    Method("grad-cam-no-relu", "Table 3: no final ReLU, signed", "layer", no_relu),
    Method("grad-cam-abs", "Table 3: absolute gradients", "layer", absolute_gradients),
    Method("grad-cam-max-pool", "Table 3: global max pooling", "layer", max_pooling),
    Method("grad-cam-guided", "Table 3: guided gradients as weights", "layer", grad_cam, "guided"),
    Method("grad-cam-deconv", _DECONV_WEIGHTS, "layer", grad_cam, "deconv"),
    Method("hirescam", "HiResCAM (Draelos and Carin 2020)", "layer", hires_cam),
    Method("grad-cam++", "Grad-CAM++ (Chattopadhay et al. 2018)", "layer", grad_cam_plus_plus),
    Method("layercam", "LayerCAM (Jiang et al. 2021)", "layer", layer_cam),
    Method("xgrad-cam", "XGrad-CAM (Fu et al. 2020)", "layer", xgrad_cam),
    Method("attention-rollout", _ROLLOUT, "attention", follow=rollout, caveat=_NO_TARGET),
    Method("attention-relevance", _RELEVANCE, "attention", follow=weighted),
)

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}
"""Our own, by name, in the order in which they are listed."""


@cache
def every() -> tuple[Method, ...]:
    """Ours, and those of other packages.

    Raises:
        ValueError: a package registers one whose name is taken.
    """
    return (*_TABLE, *registered(GROUP, Method, taken=METHODS))


def known() -> dict[str, Method]:
    """:func:`every`, by name."""
    return {method.name: method for method in every()}


def get(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: no such method; names the nearest, or all.
    """
    if name in METHODS:
        return METHODS[name]  # without importing what other packages have
    every_one = known()
    if name in every_one:
        return every_one[name]
    raise ValueError(unknown("method", name, every_one))


def at_layer(name: str) -> Method:
    """The method of that name, whose maps live at the layer.

    Raises:
        ValueError: no such method, or its maps live elsewhere.
    """
    method = get(name)
    if method.at != "layer":
        raise ValueError(f"maps of {name} do not live at a layer: choose grad-cam, say")
    return method
