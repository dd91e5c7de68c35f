"""What every VQA model shares: questions as prompts, answers as the columns of its scores."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Sequence

import torch

from vlcam.adapter import Adapter, Question, Reading, Unit
from vlcam.explaining import Encoded
from vlcam.targets import Target, unit
from vlcam.untouched import untouched


class Answerer(Adapter):
    """An adapter whose prompts are questions and whose scores are the answers' logits.

    A subclass gives the rest of :class:`Adapter`, and

    * :attr:`answers`: what it can answer, in the order of the scores (N, A) that ``decode`` gives;
    * :meth:`understand`: a question as a prompt.
    """

    answers: Sequence[str]

    @abstractmethod
    def understand(self, question: str) -> Question:
        """A question as the model reads it.

        Raises:
            ValueError: there is no word in it, or none that the model knows.
        """

    def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
        """A question with the answers to be explained (None: all there are).

        Raises:
            ValueError: the model has no such answer; the nearest it has are named.
        """
        chosen = self.answers if answers is None else answers
        columns = {answer: i for i, answer in enumerate(self.answers)}
        units = []
        for answer in chosen:
            if answer not in columns:
                near = difflib.get_close_matches(answer, self.answers, n=5, cutoff=0.5)
                said = f"near: {', '.join(near)}" if near else f"such as {self.answers[0]}"
                raise ValueError(f"{answer!r} is no answer of {self.name}; {said}")
            units.append(Unit(answer, (columns[answer],)))
        return Reading(question.text, question.prompt, tuple(units))


def likeliest(model: Answerer, photo: Encoded, question: str) -> Target:
    """The logit of the answer that a model finds likeliest.

    Raises:
        ValueError: it cannot read the question.
    """
    reading = model.read(model.understand(question))
    features = photo.seen(model, reading.prompt)
    own = features.rows(torch.zeros(1, dtype=torch.long, device=features.maps.device))
    with untouched(model.module), torch.no_grad():
        best = int(model.decode(own, [reading.prompt]).argmax())
    return unit(reading, reading.units[best], "logit")
