"""Grad-CAM and Guided Grad-CAM of all T words of a caption: vlcam against other libraries.

    python -m benchmarks.speed.caption [--quick] [--cnn vgg16 resnet50] [--words 1 5 10 20]

Every contender runs the same module (random weights, eval mode, parameters requiring grad) and
explains log p(word t | image, words before t). Levels: *naive* is the library's documented use in a
loop over words; *batched* repeats the image (chunk size tuned for each contender); *expert* is what
someone who knows its source can get. Scopes: A, raw maps on the device; B, maps scaled to [0, 1]
at input size on the host. Maps are checked equal before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.shared import report
from captioning.language.captioner import Captioner, TokenizedWord
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.once_per_image import once_per_image
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Grid, Placement
from vlcam.networks.channels_last import fastest, run_channels_last
from vlcam.networks.encoder import Encoder

LAYERS = {"vgg16": "features.29", "resnet50": "layer4"}
TOLERANCE = 1e-4  # greatest difference of two maps, relative to the greatest value
Maps = Callable[[], Tensor]


class Model(nn.Module):
    """A NeuralTalk2-like captioner: pixels (B, 3, H, W), tokens (B, T) to log-probs (B, T, V)."""

    def __init__(self, encoder: Encoder, words: int = 9488, units: int = 512) -> None:
        super().__init__()
        self.encoder = encoder
        self.embed = nn.Linear(encoder.feature_size, units)
        self.words = nn.Embedding(words, units)
        self.lstm = nn.LSTM(units, units, batch_first=True)
        self.logits = nn.Linear(units, words)

    def states(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Hidden states (B, T, units) from which each token is predicted."""
        start = torch.zeros_like(tokens[:, :1])
        words = self.words(torch.cat([start, tokens[:, :-1]], 1))
        return self.lstm(torch.cat([self.embed(feature)[:, None], words], 1))[0][:, 1:]

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        return self.logits(self.states(self.encoder(pixels), tokens)).log_softmax(-1)


class Ours(Captioner):
    """The adapter of :class:`Model`."""

    name = "benchmark"

    def __init__(self, model: Model, layer: str) -> None:
        self.module, self.layer = model, layer
        self.before, self.after = model.encoder.split(layer)

    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        return FeatureMaps(run_channels_last(self.before, pixels))

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        image = once_per_image(lambda seen: self.after(seen.maps), features)
        return self.module.states(image, tokens)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return self.module.logits(states).log_softmax(-1)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        rows, columns = self.module.encoder.layer(self.layer).shape[1:]
        step = (input_size[0] / rows, input_size[1] / columns)
        return Grid((rows, columns), (step[0] / 2 - 0.5, step[1] / 2 - 0.5), step)

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        raise NotImplementedError("the benchmark starts from pixels")

    def words(self, text: str) -> list[TokenizedWord]:
        raise NotImplementedError("the benchmark starts from tokens")

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        raise NotImplementedError("the benchmark starts from tokens")


class Head(nn.Module):
    """The model behind the layer, with a layer that captum can hook: its expert's use."""

    def __init__(self, ours: Ours) -> None:
        super().__init__()
        self.seam, self.ours_after, self.model = nn.Identity(), ours.after, ours.module

    def forward(self, maps: Tensor, tokens: Tensor) -> Tensor:
        states = self.model.states(self.ours_after(self.seam(maps)), tokens)
        return self.model.logits(states).log_softmax(-1)


class WithTokens(nn.Module):
    """The model as a function of the pixels alone, as pytorch-grad-cam wants it."""

    def __init__(self, model: Model, tokens: Tensor) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels, self.tokens.expand(len(pixels), -1))


class Case:
    """One model, photo and caption of T words, and every contender on it."""

    def __init__(self, cnn: str, layer: str, words: int, size: int = 224, vocabulary: int = 9488):
        torch.manual_seed(0)
        self.size = size
        self.model = Model(Encoder(cnn, (size, size)), vocabulary).eval()
        self.ours = Ours(self.model, layer)
        self.layer = self.model.encoder.net.get_submodule(layer)
        self.pixels = torch.randn(1, 3, size, size)
        self.caption(words)

    def compute_in(self, dtype: torch.dtype) -> None:
        """From now on. From float32 to float64 and back all is as it was."""
        self.model, self.pixels = self.model.to(dtype), self.pixels.to(dtype)

    def caption(self, words: int) -> None:
        """Ask for a caption of that many words from now on."""
        generator = torch.Generator().manual_seed(words)
        count = self.model.words.num_embeddings
        self.tokens = torch.randint(1, count, (1, words), generator=generator)
        self.asked = [(t, int(w)) for t, w in enumerate(self.tokens[0])]

    def targets(self) -> list[Target]:
        prompt = tuple(self.tokens[0].tolist())
        return [Target(str(t), (Term(1.0, prompt, (t,)),)) for t, _ in self.asked]

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.model(self.pixels, self.tokens)

    def channels_last(self) -> Tensor:
        with torch.no_grad():
            return self.model.encoder(fastest(self.pixels))

    def encoder(self) -> Tensor:
        with torch.no_grad():
            return self.model.encoder(self.pixels)

    # Grad-CAM -------------------------------------------------------------------------------

    def vlcam(self) -> Tensor:
        features = encode(self.ours, self.pixels)
        return explain_at_layer(self.ours, features, self.targets(), METHODS["grad-cam"])[1]

    def captum_naive(self) -> Tensor:
        return self._captum(1)

    def captum_batched(self, chunk: int) -> Tensor:
        return self._captum(chunk)

    def _captum(self, chunk: int) -> Tensor:
        from captum.attr import LayerGradCam

        explainer = LayerGradCam(self.model, self.layer)
        maps = []
        for part in _chunks(self.asked, chunk):
            inputs, tokens = self._repeated(len(part))
            maps.append(
                explainer.attribute(
                    inputs,
                    target=part,
                    additional_forward_args=(tokens,),
                    relu_attributions=True,
                )
            )
        return torch.cat(maps)[:, 0].detach()

    def captum_expert(self) -> Tensor:
        from captum.attr import LayerGradCam

        with torch.no_grad():
            maps = self.ours.encode(self.pixels).maps
        head = Head(self.ours)
        count = len(self.asked)
        result = LayerGradCam(head, head.seam).attribute(
            maps.repeat(count, 1, 1, 1),
            target=self.asked,
            additional_forward_args=(self.tokens.expand(count, -1),),
            relu_attributions=True,
        )
        return result[:, 0].detach()

    def torchcam_naive(self) -> Tensor:
        return self._torchcam(1)

    def torchcam_batched(self, chunk: int) -> Tensor:
        return self._torchcam(chunk)

    def _torchcam(self, chunk: int) -> Tensor:
        from torchcam.methods import GradCAM

        maps = []
        with GradCAM(self.model, self.layer) as cam:
            for part in _chunks(self.asked, chunk):
                scores = self.model(*self._repeated(len(part)))
                wanted = [_pick(t, w) for t, w in part]
                maps += cam(scores=scores, targets=wanted, normalized=False)
        return torch.cat(maps)

    def torchcam_expert(self) -> Tensor:
        """One forward pass, and one backward pass through the kept graph per word."""
        from torchcam.methods import GradCAM

        with GradCAM(self.model, self.layer) as cam:
            scores = self.model(self.pixels, self.tokens)
            maps = [
                cam(scores=scores, targets=_pick(t, w), normalized=False, retain_graph=True)[0]
                for t, w in self.asked
            ]
        return torch.cat(maps)

    def pgc_naive(self) -> Tensor:
        return self._pgc(1)

    def pgc_batched(self, chunk: int) -> Tensor:
        return self._pgc(chunk)

    def pgc_expert(self) -> Tensor:
        """Only the layer's last convolution is trainable, so the backward pass ends there."""
        last = [p for m in self._up_to_layer() for p in m.parameters(recurse=False)][-1]
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter is last)
        try:
            return self._pgc(1)
        finally:
            self.model.requires_grad_(True)

    def _up_to_layer(self) -> list[nn.Module]:
        modules = list(self.model.encoder.net.modules())
        inside = list(self.layer.modules())
        convolutions = [m for m in inside if isinstance(m, nn.Conv2d)]
        before = modules[: modules.index(self.layer)]
        return convolutions or [m for m in before if isinstance(m, nn.Conv2d)]

    def _pgc(self, chunk: int) -> Tensor:
        from pytorch_grad_cam import GradCAM

        maps = []
        with GradCAM(WithTokens(self.model, self.tokens), [self.layer]) as cam:
            for part in _chunks(self.asked, chunk):
                pixels, _ = self._repeated(len(part))
                maps.append(torch.from_numpy(cam(pixels, [_pick(t, w) for t, w in part])))
        self.model.zero_grad()
        return torch.cat(maps)

    # Guided Grad-CAM ------------------------------------------------------------------------

    def vlcam_guided(self) -> Tensor:
        method = METHODS["guided-grad-cam"]
        return explain_at_pixels(self.ours, self.pixels, self.targets(), method)[1]

    def captum_guided_naive(self) -> Tensor:
        return self._captum_guided(1)

    def captum_guided_batched(self, chunk: int) -> Tensor:
        return self._captum_guided(chunk)

    def _captum_guided(self, chunk: int) -> Tensor:
        from captum.attr import GuidedGradCam

        explainer = GuidedGradCam(self.model, self.layer)
        maps = []
        for part in _chunks(self.asked, chunk):
            pixels, tokens = self._repeated(len(part))
            found = explainer.attribute(
                pixels.requires_grad_(),
                target=part,
                additional_forward_args=(tokens,),
                interpolate_mode="bilinear",
            )
            maps.append(found.detach().abs().amax(1))
        return torch.cat(maps)

    def captum_guided_expert(self) -> Tensor:
        """Guided Backpropagation word by word, times Grad-CAM of the cached feature maps."""
        from captum.attr import GuidedBackprop

        explainer = GuidedBackprop(self.model)
        maps = []
        for target in self.asked:
            pixels, tokens = self._repeated(1)
            found = explainer.attribute(
                pixels.requires_grad_(), target=target, additional_forward_args=(tokens,)
            )
            maps.append(found.detach().abs().amax(1))
        return torch.cat(maps) * self.at_input_size(self.captum_expert())

    def _repeated(self, count: int) -> tuple[Tensor, Tensor]:
        return self.pixels.repeat(count, 1, 1, 1), self.tokens.repeat(count, 1)

    def at_input_size(self, maps: Tensor) -> Tensor:
        """Naive stretching, the same for all who do not bring their own."""
        size = (self.size, self.size)
        return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    def on_host(self, maps: Tensor) -> Tensor:
        """Scope B: pytorch-grad-cam's own scaling, before and after stretching."""
        return _unit(self.at_input_size(_unit(maps))).cpu()


def _unit(maps: Tensor) -> Tensor:
    low = maps.amin((1, 2), keepdim=True)
    return (maps - low) / ((maps - low).amax((1, 2), keepdim=True) + 1e-7)


def _pick(step: int, word: int) -> Callable[[Tensor], Tensor]:
    return lambda scores: scores[step, word]


def _chunks(asked: Sequence[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    return [list(asked[i : i + size]) for i in range(0, len(asked), size)]


def relative_difference(maps: Tensor, reference: Tensor) -> float:
    """The greatest difference over the greatest value of the reference; one number for all maps."""
    if maps.shape != reference.shape:
        raise ValueError(f"maps of shape {tuple(maps.shape)}, expected {tuple(reference.shape)}")
    return float((maps - reference).abs().amax() / reference.abs().amax())


def check_equal(name: str, maps: Tensor, reference: Tensor) -> None:
    """AssertionError where a contender computes something else (NaN included)."""
    difference = relative_difference(maps, reference)
    assert difference <= TOLERANCE, f"{name}: its maps differ by {difference:.1e} of the greatest"


def summary(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and first and third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return middle, low, high


def interleaved(
    contenders: dict[str, Callable[[], object]], seconds: float
) -> dict[str, list[float]]:
    """Milliseconds of each contender, run in turn; each stops when ``seconds`` are spent on it.

    One warm-up run each, then 3 to 30 timed runs (2 where one alone takes longer than ``seconds``).
    """
    wanted, samples = {}, {name: list[float]() for name in contenders}
    for name, run in contenders.items():
        spent = _timed(run)
        wanted[name] = 2 if spent > seconds else max(3, min(30, int(seconds / spent)))
    for repetition in range(max(wanted.values())):
        for name, run in contenders.items():
            if repetition < wanted[name]:
                samples[name].append(1e3 * _timed(run))
    return samples


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def tuned(run: Callable[[int], Tensor], words: int) -> tuple[int, Callable[[], Tensor]]:
    """The quickest chunk size for a batched contender, and it with that size."""
    sizes = sorted({min(size, words) for size in (2, 5, 10, 20)})
    times = {size: _timed(lambda size=size: run(size)) for size in sizes} if words > 1 else {1: 0.0}
    best = min(times, key=lambda size: times[size])
    return best, lambda: run(best)


def grad_cam_contenders(case: Case) -> tuple[dict[str, Maps], dict[str, Maps], dict[str, int]]:
    """Contenders of scope A, of scope B, and the quickest chunk sizes."""
    count = len(case.asked)
    chunks: dict[str, int] = {}
    batched: dict[str, Maps] = {}
    for name, run in (
        ("captum batched", case.captum_batched),
        ("torch-cam batched", case.torchcam_batched),
        ("pytorch-grad-cam batched", case.pgc_batched),
    ):
        chunks[name], batched[name] = tuned(run, count)
    raw: dict[str, Maps] = {
        "vlcam": case.vlcam,
        "captum naive": case.captum_naive,
        "captum batched": batched["captum batched"],
        "captum expert": case.captum_expert,
        "torch-cam naive": case.torchcam_naive,
        "torch-cam batched": batched["torch-cam batched"],
        "torch-cam expert": case.torchcam_expert,
    }
    host: dict[str, Maps] = {
        "vlcam": lambda: case.on_host(case.vlcam()),
        "pytorch-grad-cam naive": case.pgc_naive,
        "pytorch-grad-cam batched": batched["pytorch-grad-cam batched"],
        "pytorch-grad-cam expert": case.pgc_expert,
    }
    return raw, host, chunks


def guided_contenders(case: Case) -> tuple[dict[str, Maps], dict[str, int]]:
    chunk, batched = tuned(case.captum_guided_batched, len(case.asked))
    return {
        "vlcam": case.vlcam_guided,
        "captum naive": case.captum_guided_naive,
        "captum batched": batched,
        "captum expert": case.captum_guided_expert,
    }, {"captum batched": chunk}


def check_case(case: Case, guided: bool = True) -> None:
    """AssertionError where a contender's maps do not equal ours."""
    reference = case.vlcam()
    two = min(2, len(case.asked))
    for name, maps in {
        "captum naive": case.captum_naive(),
        "captum batched": case.captum_batched(two),
        "captum expert": case.captum_expert(),
        "torch-cam naive": case.torchcam_naive(),
        "torch-cam batched": case.torchcam_batched(two),
        "torch-cam expert": case.torchcam_expert(),
    }.items():
        check_equal(name, maps, reference)
    for name, maps in {
        "pytorch-grad-cam naive": case.pgc_naive(),
        "pytorch-grad-cam batched": case.pgc_batched(two),
        "pytorch-grad-cam expert": case.pgc_expert(),
    }.items():
        check_equal(name, maps, case.on_host(reference))
    if guided:
        check_guided(case)


def check_guided(case: Case) -> None:
    """In float64: in float32 some inputs of a ReLU are so near to zero that rounding decides their
    sign, and with it whether a gradient passes (captum's own maps of VGG-16 are up to 1 % off those
    of float64)."""
    case.compute_in(torch.float64)
    two = min(2, len(case.asked))
    # Ours multiplies by the map placed by its cells' true centres, captum by the stretched one:
    # compare captum's product with our two factors, stretched as it does.
    method = METHODS["guided-backprop"]
    pixels = explain_at_pixels(case.ours, case.pixels, case.targets(), method)[1]
    plain = explain_at_pixels(case.ours, case.pixels, case.targets(), METHODS["gradient"])[1]
    assert relative_difference(pixels, plain) > 0.01, "the guided rule changed nothing"
    product = pixels * case.at_input_size(case.vlcam())
    for name, maps in {
        "captum guided naive": case.captum_guided_naive(),
        "captum guided batched": case.captum_guided_batched(two),
        "captum guided expert": case.captum_guided_expert(),
    }.items():
        check_equal(name, maps, product)
    case.compute_in(torch.float32)


def encoder_rows(case: Case, run: Callable[[], object]) -> int:
    """How many images go through the encoder's first convolution."""
    rows = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal rows
        rows += len(inputs[0])

    first = next(m for m in case.model.encoder.net.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return rows


def frozen_row(case: Case, contenders: dict[str, Maps]) -> dict[str, str]:
    """ms of each contender with every parameter frozen, or the error it ends with."""
    case.model.requires_grad_(False)
    result = {}
    try:
        for name, run in contenders.items():
            if name == "pytorch-grad-cam expert":
                continue  # it is about which parameters are trainable
            try:
                result[name] = f"{1e3 * min(_timed(run) for _ in range(2)):.0f}"
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                result[name] = f"fails ({type(error).__name__})"
    finally:
        case.model.requires_grad_(True)
    return result


def endurance(calls: int, method: str, size: int = 64) -> list[tuple[float, float]]:
    """(ms per call, resident MB) for each tenth of ``calls`` on a small network."""
    case = Case("small", "stage4", 5, size, 500)
    run = case.vlcam if method == "grad-cam" else case.vlcam_guided
    run()
    rows = []
    for _ in range(10):
        seconds = _timed(lambda: [run() for _ in range(calls // 10)])
        rows.append((1e3 * seconds / (calls // 10), _resident() / 2**20))
    return rows


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_growth(cnn: str, contender: str, words: int) -> float:
    """MB that the peak resident size of this fresh process grows by, while it explains T words."""
    case = Case(cnn, LAYERS[cnn], words)
    case.forward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run: Callable[..., Tensor] = getattr(case, contender)
    _ = run(words) if contender.endswith("batched") else run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _in_fresh_process(cnn: str, contender: str, words: int) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.caption",
        "--peak",
        cnn,
        contender,
        str(words),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["MB"])


def measure(
    cnn: str, words: Sequence[int], guided: Sequence[int], seconds: float
) -> Iterator[list[str]]:
    """The report's section on one CNN, in Markdown lines; a part for each T, as it is measured."""
    start = time.perf_counter()
    case = Case(cnn, LAYERS[cnn], max(min(words), 2))
    lines = [f"## {cnn} + LSTM, layer {LAYERS[cnn]}", ""]
    check_case(case)
    lines += ["Maps of all contenders equal (1e-4 relative): checked.", ""]
    for count in words:
        case.caption(count)
        raw, host, chunks = grad_cam_contenders(case)
        base = {
            "forward pass": case.forward,
            "encoder pass (floor)": case.encoder,
            "encoder pass, channels last": case.channels_last,
        }
        samples = interleaved({**base, **raw}, seconds)
        lines += _table(f"Grad-CAM, T = {count}, scope A", samples, case, raw, chunks)
        lines += _table(
            f"Grad-CAM, T = {count}, scope B",
            interleaved({**base, **host}, seconds),
            case,
            host,
            chunks,
        )
        if count == 10:
            frozen = frozen_row(case, {**raw, **host, "vlcam": case.vlcam})
            row = "; ".join(f"{name} {value}" for name, value in frozen.items())
            lines += [f"All parameters frozen, T = 10 (ms): {row}.", ""]
        if count in guided:
            pixel, chunks = guided_contenders(case)
            samples = interleaved({**base, **pixel}, seconds)
            lines += _table(f"Guided Grad-CAM, T = {count}", samples, case, pixel, chunks)
        yield lines
        lines = []
        print(f"{cnn} T={count}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def _table(
    title: str,
    samples: dict[str, list[float]],
    case: Case,
    contenders: dict[str, Maps],
    chunks: dict[str, int],
) -> list[str]:
    ours, forward = summary(samples["vlcam"])[0], summary(samples["forward pass"])[0]
    floor = summary(samples["encoder pass (floor)"])[0]
    lines = [
        f"### {title}",
        "",
        "| | ms, median (IQR) | runs | forward passes | floors | times vlcam | images encoded |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in samples.items():
        middle, low, high = summary(values)
        rows = encoder_rows(case, contenders[name]) if name in contenders else 1
        chunk = f" (chunks of {chunks[name]})" if name in chunks else ""
        lines.append(
            f"| {name}{chunk} | {middle:.0f} ({low:.0f}-{high:.0f}) | {len(values)}"
            f" | {middle / forward:.2f} | {middle / floor:.2f} | {middle / ours:.2f} | {rows} |"
        )
    return [*lines, ""]


def memory_section(counts: Sequence[int]) -> list[str]:
    lines = ["## Peak memory against T (ResNet-50, a fresh process each)", ""]
    lines += [f"| growth of peak RSS, MB | {' | '.join(f'T = {c}' for c in counts)} |"]
    lines += ["|" + "---|" * (len(counts) + 1)]
    for contender in ("vlcam", "captum_naive", "captum_batched", "torchcam_expert", "pgc_batched"):
        cells = [f"{_in_fresh_process('resnet50', contender, c):.0f}" for c in counts]
        lines.append(f"| {contender.replace('_', ' ')} | {' | '.join(cells)} |")
    return [*lines, ""]


def endurance_section(calls: int) -> list[str]:
    lines = [f"## {calls} calls in one process (small CNN, 64 x 64, T = 5)", ""]
    for method in ("grad-cam", "guided-grad-cam"):
        rows = endurance(calls, method)
        times = ", ".join(f"{ms:.1f}" for ms, _ in rows)
        sizes = ", ".join(f"{mb:.0f}" for _, mb in rows)
        lines += [f"{method}: ms per call, each tenth: {times}; resident MB: {sizes}.", ""]
    return lines


def header(threads: int) -> list[str]:
    packages = ("torch", "torchvision", "captum", "grad-cam", "torchcam")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        "# Explaining every word of a caption: time and memory",
        "",
        f"Written by `{report.command()}`.",
        f"{versions}; Python {sys.version.split()[0]}; {report.processor()},"
        f" {threads} threads; float32; load average at the start {load}.",
        "Scope A: raw maps on the device. Scope B: scaled maps at input size on the host (the only"
        " one pytorch-grad-cam has). Building explainers is included for all (their examples"
        " do it for each image). Forward pass: the whole model, one image, T words, no_grad.",
        "pytorch-grad-cam's Guided Backpropagation edits the model and torch-cam has none: neither"
        " is in the guided tables.",
        "vlcam's adapters of CNNs compute them with channels last in memory (also for captum's"
        " expert); nobody else is given pixels in that order, which no library's documentation"
        " advises. The encoder's pass is timed both ways.",
        "",
    ]


def write(path: Path, lines: Sequence[str]) -> None:
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n")
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="T = 1 and 10 and fewer runs")
    parser.add_argument("--cnn", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--words", nargs="+", type=int, default=None, help="T (default 1 5 10 20)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="spent on each contender")
    parser.add_argument("--calls", type=int, default=1000, help="of the endurance run")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # captum warns on every guided call
    torch.set_num_threads(options.threads)
    if options.peak:
        cnn, contender, words = options.peak
        print(json.dumps({"MB": peak_growth(cnn, contender, int(words))}))
        return
    counts = options.words or ([1, 10] if options.quick else [1, 5, 10, 20])
    guided = [10] if options.quick else [1, 10]
    lines = header(options.threads)
    for cnn in options.cnn:
        for part in measure(cnn, counts, guided, 1.0 if options.quick else options.seconds):
            lines += part
            write(options.out, lines)
    lines += endurance_section(options.calls)
    write(options.out, lines)
    lines += memory_section([1, 20] if options.quick else [1, 5, 10, 20, 40])
    write(options.out, lines)
    print(options.out.read_text())


if __name__ == "__main__":
    main()
