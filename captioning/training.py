"""``vlcam train captioner``: train a NeuralTalk captioner on captioned photos.

Two phases. First the likelihood of the captions (teacher forcing), with a one-cycle learning rate.
Then, if asked for, self-critical training (Rennie et al., CVPR 2017, with the other samples' mean
as baseline): captions are sampled, and made likelier the more their BLEU exceeds that of the
photo's other samples. What is saved is the running average of the weights.

Every epoch's randomness follows from (seed, epoch) alone and the whole state is written after each,
so a killed run continues to the very weights it would have reached.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from captioning.bleu import bleu
from captioning.cnn import Encoder
from captioning.data import Example, read_data
from captioning.neuraltalk import Config, NeuralTalk, save
from captioning.photo_cache import Photos, autocast, cached_features, features
from captioning.reward import SentenceBleu
from captioning.vocabulary import END, Vocabulary
from captioning.word_detector import WordDetector
from vlcam.preprocess import Preprocess
from vlcam.writing import written

MAX_WORDS = 20
STATE = "training.safetensors"
REPORT = "report.json"
FIRST_SHARE = 0.75  # of the epochs, on photos of ``first_size``
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Training:
    """What to train, on what, and how; see ``captioning/train_command.py`` for each."""

    data: str
    out: str
    cnn: str = "small"
    cnn_weights: str | None = None
    finetune: bool = False
    size: int = 224
    first_size: int | None = None
    views: int = 2
    threshold: int = 5
    embedding: int = 256
    hidden: int = 512
    dropout_input: float = 0.3
    dropout_output: float = 0.5
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-3
    cnn_lr: float | None = None
    weight_decay: float = 0.05
    naming: float = 0.0
    reward_epochs: int = 0
    reward_lr: float = 3e-4
    samples: int = 5
    beams: int = 5
    seed: int = 0
    half: bool = False
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("size", "views", "threshold", "epochs", "batch", "beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.precision not in PRECISIONS:
            known = " or ".join(PRECISIONS)
            raise ValueError(f"--precision {self.precision}: must be {known}")
        if self.samples < 2:
            raise ValueError(f"--samples {self.samples}: must be at least 2")
        if not self.finetune and self.cnn_weights is None:
            raise ValueError("a frozen CNN needs --cnn-weights FILE; --finetune trains it as well")
        if not self.finetune and (self.naming or self.first_size):
            raise ValueError(
                "--naming and --first-size are about training the CNN: with --finetune"
            )
        if self.first_size is not None and not 1 <= self.first_size <= self.size:
            raise ValueError(f"--first-size {self.first_size}: must be 1 to --size, {self.size}")
        if self.finetune and self.reward_epochs:
            raise ValueError("--reward-epochs needs a frozen CNN, not --finetune")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {self.device}: torch sees no GPU here")


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a captioner, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and validation BLEU, and the final BLEU-1..4 of
    greedy and beam search on validation and, where the data has it, on test.

    Raises ValueError for data, weights or options that do not fit.
    """
    trainer = _Trainer(how)
    while trainer.epoch < how.epochs + how.reward_epochs:
        trainer.run_epoch()
    return trainer.finish()


class _Trainer:
    """The captioner, its running average, the optimizer and the data they meet."""

    def __init__(self, how: Training) -> None:
        self.how = how
        self.out = Path(how.out)
        self.device = torch.device(how.device)
        splits = read_data(Path(how.data), how.seed)
        self.examples = {n: getattr(splits, n) for n in ("train", "val", "test")}
        captions = [words for example in splits.train for words in example.captions]
        vocabulary = Vocabulary.count(captions, how.threshold)
        preprocess = Preprocess(size=(how.size, how.size))

        torch.manual_seed(how.seed)
        config = Config(
            how.cnn,
            vocabulary,
            preprocess,
            how.embedding,
            how.hidden,
            how.dropout_input,
            how.dropout_output,
        )
        model = NeuralTalk(config)
        if how.cnn_weights:
            model.encoder.load_weights(Path(how.cnn_weights))
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.cache = self.out / "cache"
        self.photos = {
            name: Photos([example.photo for example in examples], preprocess, self.cache)
            for name, examples in self.examples.items()
            if examples
        }
        self.tokens = [
            [vocabulary.tokens(words[:MAX_WORDS]) for words in example.captions]
            for example in splits.train
        ]
        if not how.finetune:
            self._freeze()
        self.average = copy.deepcopy(self.model).eval()
        self.before, self.after = self.model.encoder.split()
        self.naming = WordDetector(self.model.encoder.layer().shape[0], self.tokens, vocabulary)
        self.naming.to(self.device)
        self.optimizer = self._new_optimizer()
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self._resume()

    # -- the encoder ------------------------------------------------------------------------

    def _freeze(self) -> None:
        """Fix the CNN, look at every photo once, and standardise what it sees."""
        encoder = self.model.encoder.requires_grad_(False).eval()
        self.features = {
            (name, view): self._cached(encoder, name, view)
            for name in self.photos
            for view in range(self.how.views if name == "train" else 1)
        }
        plain = self.features["train", 0]
        scale = self.model.standardise
        assert scale.running_mean is not None and scale.running_var is not None
        scale.running_mean.copy_(plain.mean(0))
        # Half the usual scale, and no unit that hardly ever answers is blown up.
        scale.running_var.copy_((2 * plain.std(0) + 1e-3).square())

    def _cached(self, encoder: Encoder, name: str, view: int) -> Tensor:
        # What is reported is of the captioner as it is used, so in float32.
        kind = PRECISIONS[self.how.precision if name == "train" else "float32"]
        photos, seed = self.photos[name], self.how.seed
        return cached_features(encoder, photos, view, seed, self.device, kind, self.cache)

    def _train_mode(self) -> None:
        self.model.train()
        # Batch statistics of a few photos would undo the normalisation of a pretrained network.
        if self.how.cnn_weights or not self.how.finetune:
            self.model.encoder.eval()
        if not self.how.finetune:
            self.model.standardise.eval()  # measured once, on all photos

    # -- one epoch --------------------------------------------------------------------------

    def run_epoch(self) -> None:
        how = self.how
        rewarding = self.epoch >= how.epochs
        if self.epoch == how.epochs:
            self.model.load_state_dict(self.average.state_dict())
            self.optimizer = self._new_optimizer()
        torch.manual_seed(how.seed * 1_000_003 + self.epoch + 1)
        rng = np.random.default_rng([how.seed, self.epoch])
        phase = (how.epochs, how.reward_epochs)[rewarding]
        batches: list[Any] = list(
            self._photo_batches(rng) if rewarding else self._caption_batches(rng)
        )
        done = (self.epoch - how.epochs * rewarding) * len(batches)
        values = []
        started = time.perf_counter()
        bar = tqdm(batches, f"epoch {self.epoch + 1}", unit="batch", mininterval=1)
        for i, batch in enumerate(bar, start=done + 1):
            self._train_mode()
            self._set_rates(i / (phase * len(batches)), rewarding)
            loss, value = (self._reward_loss if rewarding else self._caption_loss)(batch, rng)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0 if rewarding else 5.0)
            self.optimizer.step()
            self._update_average(done + i, 0.99 if rewarding else 0.998)
            values.append(value)
            bar.set_postfix({"reward" if rewarding else "loss": f"{np.mean(values[-50:]):.3f}"})
        self.epoch += 1
        scores = bleu(*self._write("val", 1))
        self.history.append(
            {
                "epoch": self.epoch,
                "reward" if rewarding else "loss": float(np.mean(values)),
                "val_bleu_greedy": scores,
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        tqdm.write(
            f"epoch {self.epoch}: {'reward' if rewarding else 'loss'} {np.mean(values):.3f}, "
            f"validation BLEU-1..4 {_line(scores)} (greedy)"
        )
        self._save_state()

    def _caption_batches(self, rng: np.random.Generator) -> Iterator[list[tuple[int, int]]]:
        """(photo, caption) pairs: every caption once, those of like length together.

        Where the CNN is trained, it is the photos that cost: each comes once, with a caption drawn.
        """
        size = self.how.batch
        if self.how.finetune:
            order = rng.permutation(len(self.tokens)).tolist()
            pairs = [(i, int(rng.integers(len(self.tokens[i])))) for i in order]
            parts = [pairs[i : i + size] for i in range(0, len(pairs), size)]
            # A photo left over alone has no batch statistics.
            yield from parts[:-1] if len(parts[-1]) == 1 < len(parts) else parts
            return
        pairs = [(i, k) for i, captions in enumerate(self.tokens) for k in range(len(captions))]
        order = rng.permutation(len(pairs)).tolist()
        batches = []
        for start in range(0, len(order), size * 16):
            window = [pairs[i] for i in order[start : start + size * 16]]
            window.sort(key=lambda pair: len(self.tokens[pair[0]][pair[1]]))
            batches += [window[i : i + size] for i in range(0, len(window), size)]
        yield from (batches[i] for i in rng.permutation(len(batches)))

    def _photo_batches(self, rng: np.random.Generator) -> Iterator[list[int]]:
        order = rng.permutation(len(self.tokens)).tolist()
        size = max(1, self.how.batch // self.how.samples)
        yield from (order[i : i + size] for i in range(0, len(order), size))

    def _seen_features(self, rows: list[int], rng: np.random.Generator) -> Tensor:
        """Features (N, F) of training photos in a random view each, computed before."""
        views = rng.integers(self.how.views, size=len(rows)).tolist()
        chosen = [self.features["train", v][i] for v, i in zip(views, rows, strict=True)]
        return torch.stack(chosen).to(self.device)

    def _look(self, rows: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Feature maps (N, K, u, v) and features (N, F), all of one random view of the photos."""
        pixels = self.photos["train"].pixels(rows, int(rng.integers(self.how.views)), rng)
        if self.how.first_size and self.epoch < FIRST_SHARE * self.how.epochs:
            size = (self.how.first_size, self.how.first_size)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        # The CNN gains by half the bits; the LSTM would not, and sums long chains of small terms.
        with autocast(self.device, PRECISIONS[self.how.precision]):
            maps = self.before(pixels.to(self.device))
            feature = self.after(maps)
        return maps.float(), feature.float()

    def _caption_loss(
        self, batch: list[tuple[int, int]], rng: np.random.Generator
    ) -> tuple[Tensor, float]:
        """What is to be minimised, and its part that is the words' and the end's mean loss."""
        rows = [i for i, _ in batch]
        tokens, inside = self._padded([self.tokens[i][k] for i, k in batch])
        if self.how.finetune:
            maps, feature = self._look(rows, rng)
        else:
            feature = self._seen_features(rows, rng)
        states = self.model.hidden_states(feature, tokens)
        targets = functional.pad(tokens, (0, 1), value=END)[inside]
        loss = functional.cross_entropy(self.model.logits(states[inside]), targets)
        value = loss.item()
        if self.how.naming:
            loss = loss + self.how.naming * self.naming.loss(maps, [self.tokens[i] for i in rows])
        return loss, value

    def _reward_loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        """Sampled captions' log-likelihoods, weighted by how much better they are than others."""
        samples = self.how.samples
        feature = self._seen_features(batch, rng).repeat_interleave(samples, 0)
        texts = self._sample(feature)
        values = torch.tensor(
            [self._rewards[batch[row // samples]](text) for row, text in enumerate(texts)]
        ).view(-1, samples)
        others = (values.sum(1, keepdim=True) - values) / (samples - 1)
        advantage = ((values - others) / (values.std() + 1e-6)).flatten().to(self.device)
        tokens, inside = self._padded(texts)
        logits = self.model.logits(self.model.hidden_states(feature, tokens)[inside])
        targets = functional.pad(tokens, (0, 1), value=END)[inside]
        losses = functional.cross_entropy(logits, targets, reduction="none")
        weights = advantage.unsqueeze(1).expand(inside.shape)[inside]
        return (losses * weights).mean(), float(values.mean())

    @torch.no_grad()
    def _sample(self, feature: Tensor) -> list[list[int]]:
        """A random caption for each feature, without dropout and without ``UNK``."""
        self.model.eval()
        state: tuple[Tensor, ...] = self.model.start(feature)
        tokens = torch.full((len(feature),), END, device=self.device)
        writing = torch.ones_like(tokens, dtype=torch.bool)
        columns = []
        for _ in range(MAX_WORDS):
            log_probs, state = self.model.step(tokens, state)
            log_probs[:, self.model.config.vocabulary.unknown] = -torch.inf
            tokens = torch.multinomial(log_probs.exp(), 1)[:, 0] * writing
            writing = writing & (tokens != END)
            columns.append(tokens)
            if not writing.any():
                break
        self._train_mode()
        return [row[: row.index(END)] if END in row else row for row in _rows(columns)]

    def _padded(self, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Tokens (N, L) padded with END, and which of L + 1 targets (the end's too) count."""
        longest = max(map(len, texts))
        tokens = torch.full((len(texts), longest), END)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text)
        lengths = torch.tensor([len(text) for text in texts])
        inside = torch.arange(longest + 1) <= lengths.unsqueeze(1)
        return tokens.to(self.device), inside.to(self.device)

    @property
    def _rewards(self) -> list[SentenceBleu]:
        if not hasattr(self, "_sentence_bleu"):
            self._sentence_bleu = [SentenceBleu(captions) for captions in self.tokens]
        return self._sentence_bleu

    # -- optimisation -----------------------------------------------------------------------

    def _new_optimizer(self) -> torch.optim.Optimizer:
        cnn = [p for p in self.model.encoder.parameters() if p.requires_grad]
        known = set(map(id, cnn))
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        rest += self.naming.parameters()
        groups = [{"params": rest, "scale": 1.0}]
        if cnn:
            scale = 1.0 if self.how.cnn_lr is None else self.how.cnn_lr / self.how.lr
            groups.append({"params": cnn, "scale": scale})
        return torch.optim.AdamW(groups, lr=self.how.lr, weight_decay=self.how.weight_decay)

    def _set_rates(self, progress: float, rewarding: bool) -> None:
        """One cycle: up over a twentieth of the phase, down to zero along a cosine."""
        top = self.how.reward_lr if rewarding else self.how.lr
        rate = top * min(1.0, 20 * progress) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]

    @torch.no_grad()
    def _update_average(self, step: int, keep: float) -> None:
        weight = 1 - min(keep, step / (step + 20))
        own = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(own[name], weight)
            else:
                value.copy_(own[name])

    # -- captions and scores ----------------------------------------------------------------

    def _write(self, split: str, beams: int) -> tuple[list[list[str]], list[Any]]:
        """Captions of a split by the average model, and the references."""
        if self.how.finetune:
            feature = features(self.average.encoder, self.photos[split], 0, 0, self.device)
        else:
            feature = self.features[split, 0]
        vocabulary = self.model.config.vocabulary
        captions = [
            vocabulary.text(caption.tokens)
            for part in feature.split(256)
            for caption in self.average.write(part.to(self.device), beams)
        ]
        examples: tuple[Example, ...] = self.examples[split]
        return captions, [example.captions for example in examples]

    def finish(self) -> dict[str, Any]:
        scores = {
            split: {
                name: bleu(*self._write(split, beams))
                for name, beams in (("greedy", 1), (f"beam {self.how.beams}", self.how.beams))
            }
            for split in ("val", "test")
            if self.examples[split]
        }
        save(self.average, self.out, self.how.half)
        report = {"training": asdict(self.how), "epochs": self.history, "bleu": scores}
        with written(self.out / REPORT) as path:
            path.write_text(json.dumps(report, indent=1), "utf-8")
        for split, by_search in scores.items():
            for name, values in by_search.items():
                print(f"{split}, {name}: BLEU-1..4 {_line(values)}")
        return report

    # -- stopping and going on --------------------------------------------------------------

    def _save_state(self) -> None:
        tensors = {
            **{f"model.{k}": v for k, v in self.model.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"naming.{k}": v for k, v in self.naming.state_dict().items()},
        }
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{i}.{k}": v for k, v in state.items()})
        about = {
            "training": json.dumps(asdict(self.how)),
            "epoch": str(self.epoch),
            "history": json.dumps(self.history),
        }
        with written(self.out / STATE) as path:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path, about)

    def _resume(self) -> None:
        path = self.out / STATE
        if not path.is_file():
            return
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        before, now = json.loads(about["training"]), asdict(self.how)
        other = [name for name in now if now[name] != before.get(name) and name != "out"]
        if other:
            raise ValueError(
                f"{path}: a training with other options ({', '.join(other)}); "
                "choose another --out, or delete it to start anew"
            )
        self.epoch, self.history = int(about["epoch"]), json.loads(about["history"])
        optimizer = self.optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".")
                optimizer["state"].setdefault(int(i), {})[name] = value
        self.model.load_state_dict(_part(tensors, "model."))
        self.average.load_state_dict(_part(tensors, "average."))
        self.naming.load_state_dict(_part(tensors, "naming."))
        self.optimizer.load_state_dict(optimizer)
        print(f"continuing after epoch {self.epoch}", file=sys.stderr)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _rows(columns: list[Tensor]) -> list[list[int]]:
    rows: list[list[int]] = torch.stack(columns, 1).tolist()
    return rows


def _line(scores: tuple[float, ...]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)
