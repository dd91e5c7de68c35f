"""What VQA models that write their answers share: a prompt is a question with an answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question, Reading
from vlcam.adapters.teacher_forcing import TeacherForced, TokenizedWord, reading, shown


class AnswerPrompt(NamedTuple):
    """A prompt: a question, as the model reads it, and the token ids of an answer to it."""

    question: Prompt
    answer: tuple[int, ...]


class WritingAnswerer(TeacherForced):
    """An adapter whose prompts are :class:`AnswerPrompt` and whose scores are log-probabilities of
    the answer's tokens, each given the photo, the question and the tokens before it.

    A subclass gives the rest of :class:`Adapter` and of :class:`TeacherForced`, and

    * :meth:`understand`: a question as a prompt (``Question.prompt`` is ``AnswerPrompt.question``);
    * :meth:`answer_words`: a text as words and tokens;
    * :meth:`generate_answer`: the model's own answer.
    """

    @abstractmethod
    def understand(self, question: str) -> Question:
        """A question as the model reads it.

        Raises:
            ValueError: there is no word in it, or it is longer than the model reads.
        """

    @abstractmethod
    def answer_words(self, answer: str) -> list[TokenizedWord]:
        """An answer's words with their token ids; unknown words are marked."""

    @abstractmethod
    def generate_answer(
        self, features: FeatureMaps, question: Question, beam: int = 1
    ) -> list[TokenizedWord]:
        """The model's own answer about one image's feature maps; greedy where ``beam`` is 1."""

    def tokens(self, prompt: Prompt) -> tuple[int, ...]:
        assert isinstance(prompt, AnswerPrompt)
        return prompt.answer

    def questions(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The questions of prompts, one per row."""
        return [prompt.question for prompt in prompts if isinstance(prompt, AnswerPrompt)]

    def read_answer(self, question: Question, answer: str) -> Reading:
        """An answer as the model reads it.

        Raises:
            ValueError: there is no word in it.
        """
        words = self.answer_words(answer)
        if not shown(words):
            raise ValueError(f"the answer {answer!r} has no word")
        return _under(question, reading(answer, words))

    def write_answer(self, features: FeatureMaps, question: Question, beam: int = 1) -> Reading:
        """The answer the model writes itself.

        Raises:
            ValueError: it is empty.
        """
        words = self.generate_answer(features.copy(), question, beam)
        if not shown(words):
            raise ValueError(f"{self.name} wrote an empty answer; give one with answers of yours")
        return _under(question, reading(shown(words), words))


def _under(question: Question, answer: Reading) -> Reading:
    prompt = AnswerPrompt(question.prompt, answer.prompt)  # type: ignore[arg-type]
    return Reading(answer.text, prompt, answer.units)
