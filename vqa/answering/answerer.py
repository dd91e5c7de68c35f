"""What every VQA model shares: questions as prompts, answers as the columns of its scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from vlcam.adapters.adapter import Adapter, Question, Reading
from vlcam.adapters.asking import listed
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.targets import Target, unit
from vlcam.utils.untouched import untouched


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
        units = listed(self.name, self.answers, answers)
        return Reading(question.text, question.prompt, units)


def likeliest(model: Answerer, photo: Encoded, question: str) -> Target:
    """The logit of the answer that a model finds likeliest.

    Raises:
        ValueError: it cannot read the question.
    """
    reading = model.read(model.understand(question))
    own = photo.seen(model, reading.prompt).copy()
    with untouched(model.module), torch.no_grad():
        best = int(model.decode(own, [reading.prompt]).argmax())
    return unit(reading, reading.units[best], "logit")
