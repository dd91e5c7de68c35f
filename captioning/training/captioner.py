"""``vlcam train captioner``: train a NeuralTalk captioner on captioned photos.

Up to three phases (``captioning/training/phases.py``), each with a one-cycle learning rate: with
the CNN, with the CNN fixed, and for a reward. Each begins with the running average of the weights
of the one before; what is saved is the running average.

How a killed training is resumed: ``vlcam/training/trainer.py``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioning.data.captions import read_data
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk, save_module
from captioning.models.neuraltalk.word_evidence import WordEvidence
from captioning.training.bleu import bleu
from captioning.training.phases import MAX_WORDS, FixedCnn, Rewarded, WithCnn
from captioning.training.recalled import RECALLED, Recalled, recall
from captioning.training.word_detector import WordDetector, frequent
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.encoder import Encoder
from vlcam.training.photo_trainer import PUBLISHED, PhotoTrainer, PhotoTraining
from vlcam.training.trainer import Phase, Schedule
from vlcam.utils.terminal import progress

OFTEN, SELDOM = 100, 0.003
"""How often captions have words, and what share of that is at their end, that they are unfinished
where they end with them."""

LENGTH_POWERS = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0, 1.3, 1.6, 2.0)
NEAR_BEST = 0.98  # of the best BLEU-4: less than half its standard error of some hundred photos


@dataclass(frozen=True)
class Training(PhotoTraining):
    """What to train, on what, and how; ``captioning/commands/train_captioner.py`` explains each."""

    least = PhotoTraining.least | {
        **dict.fromkeys(("beams", "detected"), 1),
        **dict.fromkeys(("reward_epochs", "reward_truth", "image_decay", "recalled"), 0),
    }

    views: int = 2
    threshold: int = 5
    embedding: int = 256
    hidden: int = 512
    dropout_input: float = 0.3
    dropout_output: float = 0.5
    naming: float = 0.0
    detected: int | None = None
    recalled: float = 0.0
    lr: float = 2e-3
    smoothing: float = 0.0
    image_decay: float | None = None
    reward_epochs: int = 0
    reward_lr: float = 3e-4
    reward_truth: float = 0.0
    beams: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"--smoothing {self.smoothing}: must be at least 0 and less than 1")
        if self.reward_epochs and self.beams < 2:
            raise ValueError("--reward-epochs improve beam search: with --beams of at least 2")
        if not self.cnn_epochs and self.naming:
            raise ValueError("--naming is about training the CNN: with --cnn-epochs")
        if self.detected and not self.naming:
            raise ValueError("--detected: words are detected as --naming teaches it")
        if self.recalled and not self.detected:
            raise ValueError("--recalled adds words to those of --detected: give both")
        if self.recalled and (not self.pretrained or self.cnn_weights not in (None, PUBLISHED)):
            raise ValueError(
                "--recalled is of a CNN as it was published: with --cnn efficientnet_lite2, say,"
                " and without --cnn-weights of a file"
            )

    def schedules(self) -> tuple[Schedule, ...]:
        """Of each phase: with the CNN, with it fixed, and for a reward."""
        reward = Schedule(self.reward_epochs, self.batch, self.reward_lr, self.weight_decay)
        return *super().schedules(), reward


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a captioner, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and validation BLEU, and the final BLEU-1..4 of
    greedy and beam search on validation and, where the data has it, on test.

    Raises ValueError for data, weights or options that do not fit.
    """
    return _Trainer(how).train()


class _Trainer(PhotoTrainer):
    """The training of a captioner."""

    how: Training
    model: NeuralTalk
    average: NeuralTalk

    def __init__(self, how: Training) -> None:
        splits = read_data(Path(how.data), how.seed)
        for line in splits.skipped:
            print(f"skipped: {line}", file=sys.stderr)
        super().__init__(how, vars(splits))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        captions = [words for example in self.examples["train"] for words in example.captions]
        return Vocabulary.count(captions, self.how.threshold, RECALLED if self.how.recalled else ())

    @cached_property
    def tokens(self) -> list[list[list[int]]]:
        """Of the captions of each training photo."""
        return [
            [self.vocabulary.tokens(words[:MAX_WORDS]) for words in example.captions]
            for example in self.examples["train"]
        ]

    def make_model(self) -> NeuralTalk:
        how = self.how
        self.learned = self._learned(how.detected) if how.detected else ()
        recalled = tuple(RECALLED) if how.recalled else ()
        config = Config(
            cnn=how.cnn,
            detected=(*self.learned, *recalled),
            vocabulary=self.vocabulary,
            unfinished=unfinished(self.tokens, self.vocabulary),
            preprocess=how.preprocess,
            embedding=how.embedding,
            hidden=how.hidden,
            dropout_input=how.dropout_input,
            dropout_output=how.dropout_output,
        )
        model = NeuralTalk(config)
        if not how.cnn_epochs:
            model.start_blind()
        return model

    def make_helpers(self, model: NeuralTalk) -> Mapping[str, nn.Module]:
        if model.config.detected:
            evidence = cast(WordEvidence, model.encoder.get_submodule("words"))
            self.naming = self._detector(evidence, self.vocabulary.tokens(self.learned))
            if self.how.recalled:
                recall(model.encoder, RECALLED, evidence)
            return {}
        channels, tokens = model.encoder.layer().shape[0], len(self.vocabulary)
        self.naming = self._detector(WordEvidence(channels, tokens), range(tokens))
        return {"naming": self.naming.to(self.device)}

    def _detector(self, evidence: WordEvidence, words: Sequence[int]) -> WordDetector:
        return WordDetector(evidence, words, self.tokens, pretrained=self.how.pretrained)

    def _learned(self, photos: int) -> tuple[str, ...]:
        """The words whose detectors are learned: those of so many photos that are not recalled."""
        but = {self.vocabulary.unknown}
        if self.how.recalled:
            but |= set(self.vocabulary.tokens(tuple(RECALLED)))
        found = [token for token in frequent(self.tokens, photos) if token not in but]
        if not found:
            raise ValueError(f"--detected {photos}: no word is in the captions of so many photos")
        return tuple(self.vocabulary.text(found))

    def _recalled(self) -> Recalled:
        published = Encoder(self.how.cnn, self.how.preprocess.size)
        published.load_published()
        before, _ = self.views().halves(published.to(self.device))
        words = cast(WordEvidence, self.model.encoder.get_submodule("words"))
        return Recalled(before, words, len(RECALLED), self.how.recalled)

    # -- phases -----------------------------------------------------------------------------

    def make_phase(self, index: int) -> Phase:
        how, schedule = self.how, self.schedules[index]
        if index == 0:
            return WithCnn(
                self.model,
                schedule,
                views=self.views(),
                pretrained=how.pretrained,
                tokens=self.tokens,
                naming=self.naming,
                helpers=() if self.model.config.detected else (self.naming,),
                naming_weight=how.naming,
                recalled=self._recalled() if how.recalled else None,
            )
        if index == 1:
            return FixedCnn(
                self.model,
                schedule,
                see=self.see(),
                tokens=self.tokens,
                smoothing=how.smoothing,
                image_decay=how.image_decay,
            )
        return Rewarded(
            self.model,
            schedule,
            see=self.see(),
            tokens=self.tokens,
            beams=how.beams,
            truth=how.reward_truth,
        )

    def leave_phase(self, phase: Phase) -> None:
        """The language model that was learned beside a changing CNN begins anew."""
        if not (isinstance(phase, WithCnn) and self.how.epochs):
            return  # a reward alone does not teach it to write
        torch.manual_seed(self.how.seed)
        fresh = NeuralTalk(self.model.config)
        fresh.start_blind()
        state = fresh.state_dict()
        own = self.model.state_dict()
        kept = {k: v for k, v in own.items() if k.startswith(("encoder.", "standardise."))}
        for model in (self.model, self.average):
            model.load_state_dict(state | kept)

    def measure(self, plain: Tensor) -> None:
        # Half the usual scale for a CNN that first learned something else; and a unit that is
        # hardly ever active is not blown up.
        unit = 2 if self.how.pretrained else 1
        for model in (self.model, self.average):
            scale = model.standardise
            assert scale.running_mean is not None and scale.running_var is not None
            scale.running_mean.copy_(plain.mean(0))
            scale.running_var.copy_((unit * plain.std(0) + 1e-3).square())

    # -- captions and scores ----------------------------------------------------------------

    def validate(self) -> tuple[dict[str, Any], str]:
        scores = bleu(*self._write("val", 1))
        return {"val_bleu_greedy": scores}, f"validation BLEU-1..4 {_line(scores)} (greedy)"

    def _write(self, split: str, beams: int) -> tuple[list[list[str]], list[Any]]:
        """Captions of a split by the average model, and the references."""
        feature = self.seen(split)
        vocabulary = self.model.config.vocabulary
        captions = []
        with progress.of(f"captions of {split}", len(feature), unit="caption") as work:
            for part in feature.split(256):
                for caption in self.average.write(part.to(self.device), beams):
                    captions.append(vocabulary.text(caption.tokens))
                    work.advance()
        return captions, [example.captions for example in self.examples[split]]

    def _choose_length_power(self) -> None:
        """Set that of :data:`LENGTH_POWERS` with which beam search writes the best captions of
        the validation photos; of several as good (:data:`NEAR_BEST`) that of the shortest, in which
        more is true. The model writes with that search from now on."""
        if self.how.beams == 1:
            return
        scores = []
        for power in LENGTH_POWERS:
            self.average.config = replace(self.average.config, length_power=power)
            scores.append(bleu(*self._write("val", self.how.beams))[3])
        good = zip(LENGTH_POWERS, scores, strict=True)
        best = next(power for power, score in good if score >= NEAR_BEST * max(scores))
        self.average.config = replace(self.average.config, length_power=best, beams=self.how.beams)

    def finish(self) -> dict[str, Any]:
        self.stop_training()
        self._choose_length_power()
        scores = {
            split: {
                name: bleu(*self._write(split, beams))
                for name, beams in (("greedy", 1), (f"beam {self.how.beams}", self.how.beams))
            }
            for split in self.examples
            if split != "train"
        }
        save_module(self.average, self.out, self.how.half)
        for split, by_search in scores.items():
            for name, values in by_search.items():
                print(f"{split}, {name}: BLEU-1..4 {_line(values)}")
        return self.write_report(bleu=scores)


def unfinished(captions: Sequence[Sequence[Sequence[int]]], known: Vocabulary) -> tuple[str, ...]:
    """The words, and the pairs of words, that captions of photos have often and next to never at
    their end. Captions may end "in black" and not "in a black"."""
    every = [tuple(tokens) for some in captions for tokens in some if len(tokens) < MAX_WORDS]
    found: set[tuple[int, ...]] = set()
    for length in (1, 2):
        parts = (t[i : i + length] for t in every for i in range(len(t) - length + 1))
        counts = Counter(part for part in parts if known.unknown not in part)
        last = Counter(tokens[-length:] for tokens in every)
        found |= {
            part
            for part, n in counts.items()
            if n >= OFTEN and last[part] <= SELDOM * n and part[1:] not in found
        }
    return tuple(" ".join(known.text(part)) for part in sorted(found))


def _line(scores: tuple[float, ...]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)
