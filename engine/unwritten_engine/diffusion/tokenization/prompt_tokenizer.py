"""A prompt as the tokens that the encoder reads, with what many prompts share marked off."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from ...chat_prompts import ControlTokens, to_messages
from ...errors import RequestRefused
from ...frames import Prompt
from .detokenizer import Detokenizer
from .image_processor import ImagePatches, ImageProcessor


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt in tokens.

    Attributes:
        ids: the tokens.
        keys: what stands for them when beginnings are compared: the tokens, and for pictures what they show.
        shared: how many of the first tokens depend on the system part and the examples alone.
        seen: the pictures, if there are any.
    """

    ids: tuple[int, ...]
    cache_keys: tuple[Hashable, ...]
    num_shared: int
    images: ImagePatches | None = None


class PromptTokenizer:
    """Makes prompts for one model.

    Args:
        tokenizer: with a chat template.
        reader: of the model.
        processor: for pictures; None if the model cannot see.
        name: of the model, for messages.
    """

    def __init__(self, tokenizer: Any, detokenizer: Detokenizer, processor: ImageProcessor | None, name: str) -> None:
        self._tokenizer, self._processor, self._name = tokenizer, processor, name
        names = tokenizer.convert_ids_to_tokens(sorted(detokenizer.special_ids))
        self._controls = ControlTokens(piece for piece in names if piece)
        self._shared: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """The tokens of a prompt. Its opening is no part of them; the canvas begins with it.

        Raises:
            RequestRefused: there are pictures and the model cannot see, or something is no picture.
        """
        shared = self._shared_prefix(prompt)
        if not prompt.images:
            ids = self.token_ids(prompt)
            return TokenizedPrompt(ids, ids, _common(ids, shared))
        if self._processor is None:
            raise RequestRefused(f"{self._name} cannot see images. Leave them out of the prompt.")
        seen = self._processor.process(self._text(prompt), prompt.images)
        ids = tuple(seen.input_ids[0].tolist())
        # Pictures look alike in tokens: all prompts with one picture would share their beginning.
        digest = hashlib.sha256(b"".join(hashlib.sha256(image).digest() for image in prompt.images)).hexdigest()
        keys = tuple((digest, at) if id == self._processor.image_token_id else id for at, id in enumerate(ids))
        return TokenizedPrompt(ids, keys, _common(keys, shared), seen)

    def _shared_prefix(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens in which prompts with this system part and these examples agree."""
        key = (prompt.system, prompt.examples)
        found = self._shared.get(key)
        if found is None:
            if len(self._shared) >= 256:  # an app has a handful
                self._shared.clear()
            bare = Prompt("A", prompt.system, prompt.examples)
            one, other = self.token_ids(bare), self.token_ids(replace(bare, ask="B"))
            found = self._shared[key] = one[: _common(one, other)]
        return found

    def token_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt without pictures, and nothing else of it."""
        return tuple(self._tokenizer(self._text(prompt), add_special_tokens=False)["input_ids"])

    def _text(self, prompt: Prompt) -> str:
        messages: list[dict[str, Any]] = [
            message | {"content": self._controls.escape(message["content"])}
            for message in to_messages(replace(prompt, opening=""))
        ]
        if prompt.images:  # the model was trained with pictures before the text
            pictures: list[dict[str, str]] = [{"type": "image"} for _ in prompt.images]
            messages[-1]["content"] = [*pictures, {"type": "text", "text": messages[-1]["content"]}]
        text: str = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        return text


def _common(one: tuple[Hashable, ...], other: tuple[Hashable, ...]) -> int:
    """How many of the first elements are the same."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
