"""What training photos look like, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vlcam.training.world
from vlcam.formats.world import WORLD
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess
from vlcam.training.world import TooFewError, fitted, know_world


def photos(count: int, channels: int, seed: int, shift: float = 0.0) -> Tensor:
    """Vectors whose first channels vary most."""
    scale = torch.arange(1.0, channels + 1).rsqrt()
    draw = torch.Generator().manual_seed(seed)
    return 3 + scale * (torch.randn(count, channels, generator=draw) + shift)


@pytest.mark.parametrize("channels", [3, 96, 1280, 4096])
def test_nineteen_of_twenty_held_out_photos_pass_and_others_do_not(
    tmp_path: Path, channels: int
) -> None:
    own, held_out, new = (photos(200, channels, seed) for seed in range(3))
    world = fitted(own, held_out, world="drawn")
    passing = [(world.scores(some) <= world.threshold).float().mean() for some in (held_out, new)]
    assert 0.95 < passing[0] < 0.97 and passing[1] > 0.85
    assert (world.scores(own).square().mean()) == pytest.approx(1, abs=0.05)
    assert (world.scores(photos(50, channels, 3, shift=4)) > world.threshold).all()
    world.save(tmp_path)
    assert (tmp_path / WORLD).stat().st_size < 200_000


def test_channels_that_never_change_tell_when_they_do() -> None:
    own, others = (torch.cat([photos(100, 4, seed), torch.ones(100, 2)], 1) for seed in (0, 1))
    world = fitted(own, others, world="drawn")
    changed = others[:1] + torch.tensor([0, 0, 0, 0, 1.0, 0])
    assert world.scores(changed).isfinite().all() and world.scores(changed) > world.threshold


def test_too_few_photos_are_refused() -> None:
    for train, held_out in ((99, 40), (100, 39)):
        with pytest.raises(TooFewError, match=f"{train} training photos and {held_out} held out"):
            encoder = Encoder("small", (32, 32))
            several = [Path("no.png")] * train, [Path("no.png")] * held_out
            know_world(encoder, Preprocess(size=(32, 32)), *several, world="none")


def test_many_are_drawn_and_the_network_is_left_as_it_was(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LEAST", 3), ("LEAST_HELD_OUT", 2), ("MOST", 4)):
        monkeypatch.setattr(vlcam.training.world, name, value)
    paths = sorted((scenes / "images").iterdir())
    encoder = Encoder("small", (64, 64)).train()
    passes: list[int] = []
    encoder.net.stem[0].register_forward_hook(lambda *args: passes.append(len(args[2])))
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    worlds = [
        know_world(encoder, Preprocess(size=(64, 64)), paths, paths[:2], world="scenes", seed=seed)
        for seed in (0, 0, 1)
    ]
    assert passes == [4, 2] * 3
    assert torch.equal(worlds[0].mean, worlds[1].mean)
    assert not torch.equal(worlds[0].mean, worlds[2].mean)
    assert encoder.training
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
