"""Chat models of transformers that are shown a photo: what all of them share.

A language model reads one sequence of tokens: a question in the words of the model's own chat
template, with the photo's tokens in it, which a vision transformer and a projector made, and the
answer so far. It writes the answer sub-word by sub-word; a word's score is the sum of its tokens'
log-probabilities. The feature maps are the photo's tokens at a layer of the vision transformer, or
behind the projector, laid out as their patches lie in the photo.

The layers of the language model itself are not explained: from the first one on they mix the
photo's tokens with the question's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question, Reading
from vlcam.adapters.image_processor import assumed, image_processor
from vlcam.adapters.once_per_image import once_per_image
from vlcam.adapters.pretrained import generate
from vlcam.adapters.subwords import Subwords
from vlcam.adapters.teacher_forcing import TokenizedWord, padded
from vlcam.attribution.backward_rules import outside_cnn
from vlcam.formats.folders.files import model_name
from vlcam.formats.folders.tokenizer import tokenize
from vlcam.formats.pretrained import about, load_pretrained, save_pretrained
from vlcam.models import configuration
from vlcam.utils.files.text_files import read_json, read_text
from vlcam.utils.messages.errors import one_line
from vqa.answering.writing_answerer import WritingAnswerer
from vqa.models.chat.template import rendered

DESCRIBE = "Describe the image."
"""The question that a caption answers, unless told otherwise."""

LONGEST = 64
"""New tokens at most, for models whose own settings do not say."""

_SETTINGS = ("processor_config.json", "preprocessor_config.json")
_TEMPLATES = ("chat_template.json", "chat_template.jinja")
_ANSWER = "x"  # to see what a template puts before an answer
_AROUND = 64  # tokens of question and answer, for a first guess of the memory needed


@dataclass(frozen=True)
class Parts:
    """A chat model and what comes with it in its folder.

    Attributes:
        name: as results carry it.
        module: the model.
        tokenizer: a fast one.
        processor: of its photos, one of transformers' image processors.
        template: of its chats (Jinja).
        files: settings of the processor and templates, as they lie there: names to texts.
        assumed: what no file says of how photos and chats are prepared.
    """

    name: str
    module: Any
    tokenizer: Any
    processor: Any
    template: str
    files: Mapping[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


class ChatModel(WritingAnswerer):
    """A chat model that is shown one photo.

    It answers questions, and captions: its answer to ``ask`` is its caption.

    A subclass gives :meth:`prepare`, :meth:`encode` and :meth:`grid` of :class:`Adapter`, and

    * :meth:`image_text`: what stands for the photo in the prompt;
    * :meth:`image_tokens`: what the language model reads in its place.

    Args:
        parts: the model.
        ask: the question a caption answers.
        longest: new tokens at most in the model's own answers, where its settings do not say.

    Raises:
        ValueError: the tokenizer is no fast one or has no token for a photo; the template does not
            place one.
    """

    module: Any  # a model of transformers; its own annotations do not follow it

    def __init__(self, parts: Parts, ask: str = DESCRIBE, longest: int = LONGEST) -> None:
        self.name, self.module = parts.name, parts.module
        self.ask, self.longest = ask, longest
        self._parts = parts
        self._tokenizer = parts.tokenizer
        self._subwords = Subwords(parts.tokenizer)
        self._image_id: int = self.module.config.image_token_id
        self._image = self._tokenizer.convert_ids_to_tokens(self._image_id)
        known = self._image_id < self._language().get_input_embeddings().num_embeddings
        if not known or not self._image or self._ids(self._image, False) != [self._image_id]:
            raise ValueError(
                f"{self.name}: the tokenizer has no token {self._image_id}, which stands for a"
                " photo (image_token_id in config.json)"
            )
        self._text = self.module.config.get_text_config()
        self._before_answer, self._gap = self._prompt(ask), self._blanks(ask)

    @abstractmethod
    def image_text(self, features: FeatureMaps) -> str:
        """What the processor puts in the place of the photo's one token, for photos of such
        features."""

    @abstractmethod
    def image_tokens(self, features: FeatureMaps) -> Tensor:
        """What the language model reads as the photo's tokens, (N, tokens, H), in its order; or
        several such side by side, (N, tokens, some H), for :meth:`_read` to split."""

    def understand(self, question: str) -> Question:
        """The question in the words of the chat template."""
        if not question.strip():
            raise ValueError(f"the question {question!r} has no word")
        return Question(question, self._prompt(question))

    def prompt_ids(self, question: Question, features: FeatureMaps) -> list[int]:
        """The tokens the language model reads before its answer about photos of such features.

        Raises:
            ValueError: they are more than it reads.
        """
        return self._prompt_ids([question.prompt], features)[0]

    def answer_words(self, answer: str) -> list[TokenizedWord]:
        """An answer's words with the tokens they have behind the template's prompt."""
        if not answer.strip():
            return []
        words = self._subwords.read(self._gap + answer.strip(), self._before_answer)
        if any(self._image_id in word.tokens for word in words):
            raise ValueError(f"the answer holds {self._image}, which stands for a photo")
        return words

    def read(self, caption: str) -> Reading:
        """A caption: an answer to ``ask``."""
        return self.read_answer(self.understand(self.ask), caption)

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading:
        """The model's own caption: its answer to ``ask``."""
        return self.write_answer(features, self.understand(self.ask), beam)

    def states(self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor) -> Tensor:
        questions = self._prompt_ids(self.questions(prompts), features)
        # The last token of the longest answer is predicted, but never read.
        rows = [
            [*question, *answer[:-1]]
            for question, answer in zip(questions, tokens.tolist(), strict=True)
        ]
        ids = self._in_rows(rows).to(tokens.device)
        hidden = self.hidden(ids, features).to(tokens.device)
        first = torch.tensor([len(question) - 1 for question in questions], device=tokens.device)
        steps = first[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        return hidden.gather(1, steps[..., None].expand(-1, -1, hidden.shape[2]))

    def hidden(self, ids: Tensor, features: FeatureMaps) -> Tensor:
        """The language model's last states (N, L, H) at N rows of tokens (N, L), padded on the
        right: each token attends only to those before it, so padding needs no mask."""
        image = once_per_image(self.image_tokens, features)
        embedded, where = self._embedded(ids, image)
        return self._read(embedded, where, ids=ids, image=image, features=features)

    def log_probabilities(self, states: Tensor) -> Tensor:
        with outside_cnn():
            return super().log_probabilities(self.module.lm_head(states))

    def generate_answer(
        self, features: FeatureMaps, question: Question, beam: int = 1
    ) -> list[TokenizedWord]:
        """What transformers' ``generate`` of the model gives, under the model's own settings."""
        prompt = self.prompt_ids(question, features)
        ids = torch.tensor([prompt], device=features.device)
        settings = self.module.generation_config
        limited = settings.max_new_tokens or settings.max_length
        new = generate(
            self._writer(),
            beam,
            start=len(prompt),
            ends=settings.eos_token_id,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_encoder_outputs={"image": self._encoder_output(self.image_tokens(features))},
            **self._more_inputs(ids, features),
            **({} if limited else {"max_new_tokens": self.longest}),
        )
        return self._subwords.written(new)

    def kept_bytes(self, features: FeatureMaps) -> int:
        """Of the language model, which keeps far more per row than the feature maps have."""
        tokens = self.image_text(features).count(self._image) + _AROUND
        width: int = self._text.hidden_size
        inner: int = getattr(self._text, "intermediate_size", 4 * width)
        layers: int = self._text.num_hidden_layers
        bytes_each = self.module.lm_head.weight.element_size()
        return tokens * layers * (8 * width + 4 * inner) * bytes_each

    def describe(self) -> dict[str, Any]:
        return {
            "family": self.module.config.model_type,
            **about(self.module),
            "ask": self.ask,
            "assumed as published": list(self._parts.assumed),
        }

    def save(self, folder: Path) -> None:
        """As transformers' ``save_pretrained``, with the settings of the processor."""
        folder.mkdir(parents=True, exist_ok=True)
        save_pretrained(folder, self.module, self._tokenizer, self._parts.processor)
        (folder / "chat_template.jinja").write_text(self._parts.template, "utf-8")
        for name, text in self._parts.files.items():
            (folder / name).write_text(text, "utf-8")

    def _processed(self, photo: Image.Image | list[list[Image.Image]], **options: Any) -> Any:
        """What the model's own image processor makes of a photo.

        Raises:
            ValueError: the processor refuses the photo.
        """
        try:
            return self._parts.processor(photo, return_tensors="pt", **options)
        except (ValueError, RuntimeError) as error:
            reason = one_line(error)[:200]
            raise ValueError(f"{self.name} cannot be shown this photo: {reason}") from error

    def _read(
        self, embedded: Tensor, where: Tensor, *, ids: Tensor, image: Tensor, features: FeatureMaps
    ) -> Tensor:
        """The language model's last states at rows of embedded tokens (N, L, H).

        Args:
            where: (N, L), which of them are the photo's.
            ids: the tokens (N, L).
            image: the photos' tokens, of :meth:`image_tokens`.
            features: the feature maps they were made of.
        """
        with outside_cnn():
            read: Tensor = self._language()(
                inputs_embeds=embedded, use_cache=False
            ).last_hidden_state
        return read

    def _language(self) -> Any:
        """The language model, without its head."""
        return self.module.model.language_model

    def _encoder_output(self, image: Tensor) -> Any:
        """One photo's tokens (1, tokens, H), as transformers takes them instead of the photo."""
        tokens: Any = [image[0]]
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def _more_inputs(self, ids: Tensor, features: FeatureMaps) -> dict[str, Any]:
        """Further inputs of ``generate`` for a prompt (1, L)."""
        return {}

    def _writer(self) -> Any:
        """What generates: the model, or, where it keeps state, one that shares its weights."""
        return self.module

    def _embedded(self, ids: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (N, L, H) of tokens, the photo's in their places, and a mask (N, L) of these
        places."""
        words = self._language().get_input_embeddings()(ids)
        where = (ids == self._image_id).to(words.device)
        own = image[..., : words.shape[2]].to(words.device, words.dtype)
        return words.masked_scatter(where[..., None], own), where

    def _prompt_ids(self, questions: Sequence[Prompt], features: FeatureMaps) -> list[list[int]]:
        """The token ids of questions, the photo's among them.

        Raises:
            ValueError: one is longer than the model reads.
        """
        image = self.image_text(features)
        found: dict[Prompt, list[int]] = {}
        for question in dict.fromkeys(questions):
            text = str(question).replace(self._image, image)
            bos = self._tokenizer.bos_token
            found[question] = self._ids(text, special=not (bos and text.startswith(bos)))
            most = getattr(self._text, "max_position_embeddings", None)
            if most and len(found[question]) > most:
                raise ValueError(
                    f"question and photo have {len(found[question])} tokens; {self.name} reads at"
                    f" most {most}"
                )
        return [found[question] for question in questions]

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = tokenize(self._tokenizer, text, add_special_tokens=special)["input_ids"]
        return ids

    def _in_rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Token ids (N, L), padded on the right with a token that is not the photo's."""
        longest = max(len(row) for row in rows)
        other = int(self._image_id == 0)
        return padded([[*row, *[other] * (longest - len(row))] for row in rows])

    def _prompt(self, question: str) -> str:
        """A question in the words of the template, up to where the answer begins.

        Raises:
            ValueError: the template, or the question, does not place exactly one photo.
        """
        prompt = self._chat(question)
        places = prompt.count(self._image)
        if self._image in question:
            raise ValueError(f"the question holds {self._image}, which stands for a photo")
        if places != 1:
            raise ValueError(
                f"{self.name}: the chat template has {places} places for a photo ({self._image}),"
                " not one"
            )
        return prompt

    def _blanks(self, question: str) -> str:
        """The white space that the template itself puts before an answer."""
        whole, prompt = self._chat(question, _ANSWER), self._prompt(question)
        gap = whole.removeprefix(prompt).partition(_ANSWER)[0]
        return gap if whole.startswith(prompt) and not gap.strip() else ""

    def _chat(self, question: str, answer: str | None = None) -> str:
        """A chat of one question, and its answer, in the words of the template."""
        shown = [{"type": "image"}, {"type": "text", "text": question}]
        chat = [{"role": "user", "content": shown}]
        if answer is not None:
            chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        template, begun = self._parts.template, answer is None
        known = {"messages": chat, "tools": None, "documents": None, "add_generation_prompt": begun}
        try:
            return rendered(template, **self._tokenizer.special_tokens_map, **known)
        except Exception as error:  # whatever a template may stumble over
            reason = one_line(error)[:200]
            raise ValueError(f"{self.name}: the chat template cannot be used ({reason})") from error


def load_parts(
    kinds: Mapping[str, Any],
    path: Path,
    default_processor: Callable[[Any], Any],
    *,
    default_template: Callable[[Any, Any], str] | None = None,
    read: Sequence[str] = (),
) -> Parts:
    """A chat model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Args:
        kinds: classes of transformers by their ``model_type``.
        default_processor: the image processor for a module, where the folder says nothing of one.
        default_template: the chat template for a module and its tokenizer, where it has none.
        read: settings that the image processor must have.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer does not fit; one line says which.
    """
    folder = path if path.is_dir() else path.parent
    module, tokenizer = load_pretrained(kinds[configuration(folder)["model_type"]], folder)
    files = {name: text for name in (*_SETTINGS, *_TEMPLATES) if (text := _text(folder / name))}
    settings = {name: _json(folder / name) for name in (*_SETTINGS, _TEMPLATES[0])}
    try:
        processor = image_processor(folder, default := default_processor(module))
    except ValueError as error:
        raise ValueError(f"{folder}: the image processor cannot be loaded ({error})") from error
    # A processor of another kind prepares photos in a way that the model does not know.
    for setting in read:
        if not hasattr(type(processor), setting):
            raise ValueError(
                f"{folder}: the image processor is a {type(processor).__name__} without {setting},"
                f" not a {type(default).__name__}"
            )
    told = assumed(folder, processor)
    template = (
        settings[_SETTINGS[0]].get("chat_template")
        or settings[_TEMPLATES[0]].get("chat_template")
        or files.get(_TEMPLATES[1])
        or tokenizer.chat_template
    )
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    if template is None and default_template is not None:
        template = default_template(module, tokenizer)
        told = (*told, f"chat template: {template}")
    if template is None:
        raise ValueError(
            f"{folder}: no chat template; expected {' or '.join(_TEMPLATES)}, or one in"
            " tokenizer_config.json"
        )
    return Parts(
        model_name(folder),
        module=module,
        tokenizer=tokenizer,
        processor=processor,
        template=template,
        files=files,
        assumed=told,
    )


def _text(file: Path) -> str:
    """A text file; empty where there is none."""
    return read_text(file) if file.is_file() else ""


def _json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    said = read_json(file) if file.is_file() else {}
    if not isinstance(said, dict):
        raise ValueError(f"{file}: not an object of settings")
    return said
