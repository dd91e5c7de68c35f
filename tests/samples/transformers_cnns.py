"""Tiny CNNs of transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers

SMALL: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 2]}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNet", SMALL | {"embedding_size": 6}),
    "resnet-basic": (
        "ResNet",
        SMALL | {"embedding_size": 6, "layer_type": "basic", "downsample_in_first_stage": True},
    ),
    "resnet-caffe": ("ResNet", SMALL | {"embedding_size": 6, "downsample_in_bottleneck": True}),
    "regnet-y": ("RegNet", SMALL | {"embedding_size": 6, "groups_width": 4}),
    "regnet-x": ("RegNet", SMALL | {"embedding_size": 6, "groups_width": 4, "layer_type": "x"}),
    "convnext": ("ConvNext", SMALL | {"num_stages": 2, "drop_path_rate": 0.2}),
    "convnext-patch": (
        "ConvNext",
        SMALL | {"num_stages": 2, "patch_size": 2, "layer_scale_init_value": 0.0},
    ),
    "convnextv2": ("ConvNextV2", SMALL | {"num_stages": 2}),
}


def model_of(name: str, classifier: bool = False) -> Any:
    stem, settings = NETWORKS[name]
    config = getattr(transformers, f"{stem}Config")(**settings)
    kind = "ForImageClassification" if classifier else "Model"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{stem}{kind}")(config)
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data.copy_(0.3 * torch.randn(tensor.shape)).abs_()
    return model.eval()
