"""What every captioner shares: captions as prompts, words as sums of token log-probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps, Prompt, Reading
from vlcam.adapters.teacher_forcing import TeacherForced, TokenizedWord, padded, reading, shown

__all__ = ["Captioner", "TokenizedWord", "padded", "reading"]


class Captioner(TeacherForced):
    """An adapter whose prompts are captions: tuples of token ids, without a start token.

    A subclass gives :meth:`encode`, :meth:`grid` and :meth:`prepare` of :class:`Adapter`, and

    * :meth:`teacher_force`: what the model says at each step, given the caption so far;
    * :meth:`words`: a text as words and tokens;
    * :meth:`generate`: the model's own caption.
    """

    @abstractmethod
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        """Logits of the next token at each step of N captions.

        Args:
            features: N rows.
            tokens: (N, L) token ids, padded with 0 on the right.

        Returns:
            (N, L, V), row l the logits from which token l is predicted (it has seen the tokens
            before l); or any hidden states (N, L, H) that :meth:`log_probabilities` understands.
            What stands at padding is not read.
        """

    def states(self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor) -> Tensor:
        return self.teacher_force(features, tokens)

    @abstractmethod
    def words(self, text: str) -> list[TokenizedWord]:
        """A caption's words with their token ids. Unknown words are marked; they keep the tokens
        that stand in for them, since the words behind them are conditioned on those."""

    @abstractmethod
    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The model's own caption for one image's feature maps; greedy where ``beam`` is 1."""

    def generate_all(
        self, images: Sequence[FeatureMaps], beam: int = 1
    ) -> list[list[TokenizedWord]]:
        """:meth:`generate` for each of several images."""
        return [self.generate(features.copy(), beam) for features in images]

    def read(self, caption: str) -> Reading:
        """A caption as the model reads it.

        Raises:
            ValueError: there is no word in it.
        """
        words = self.words(caption)
        if not shown(words):
            raise ValueError(f"the caption {caption!r} has no word")
        return reading(caption, words)

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading:
        """The caption the model writes itself.

        Raises:
            ValueError: it is empty.
        """
        (words,) = self.generate_all([features], beam)
        if not shown(words):
            raise ValueError(
                f"{self.name} wrote an empty caption; give one with a caption of yours"
            )
        return reading(shown(words), words)
