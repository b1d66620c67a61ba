"""Tokenize prompts and find the prefix that prompts share.

With thinking off, answers of DiffusionGemma still begin with an empty thought. The chat template of June 2026 wrote it
at the end of the prompt; since July 2026 the model writes it into the first places of the first canvas. Openings,
schemas and edits are pinned there, so it is appended to the prompt if the template has not done so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ...chat_prompts import ControlTokens, to_messages
from ...errors import RequestRefused
from ...frames import Prompt
from .detokenizer import Detokenizer

if TYPE_CHECKING:
    from .image_processor import ImagePatches, ImageProcessor

_OPEN, _CLOSE = "<|channel>", "<channel|>"
EMPTY_THOUGHT: Final = f"{_OPEN}thought\n{_CLOSE}"
"""What an answer without thinking begins with."""


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A tokenized prompt.

    Attributes:
        ids: the tokens.
        cache_keys: keys of the tokens for prefix caching: the ids, and for images their content.
        num_shared: number of leading tokens that depend only on the system text and the examples.
        images: the images, or None.
    """

    ids: tuple[int, ...]
    cache_keys: tuple[Hashable, ...]
    num_shared: int
    images: ImagePatches | None = None


class PromptTokenizer:
    """Tokenizes prompts for one model.

    Args:
        tokenizer: with a chat template.
        detokenizer: of the model.
        processor: image processor; None if the model cannot see images.
        name: of the model, for messages.
    """

    def __init__(self, tokenizer: Any, detokenizer: Detokenizer, processor: ImageProcessor | None, name: str) -> None:
        self._tokenizer, self._processor, self._name = tokenizer, processor, name
        names = tokenizer.convert_ids_to_tokens(sorted(detokenizer.special_ids))
        self._controls = ControlTokens(piece for piece in names if piece)
        self._shared: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._has_thoughts = _OPEN in str(tokenizer.chat_template) and {_OPEN, _CLOSE} <= tokenizer.get_vocab().keys()

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Tokenize a prompt, without its opening, which belongs to the canvas.

        Raises:
            RequestRefused: the model cannot see images, or an image is invalid.
        """
        shared = self._shared_prefix(prompt)
        if not prompt.images:
            ids = self.token_ids(prompt)
            return TokenizedPrompt(ids, ids, _common(ids, shared))
        if self._processor is None:
            raise RequestRefused(f"{self._name} cannot see images. Leave them out of the prompt.")
        patches = self._processor.process(self._text(prompt), prompt.images)
        ids = tuple(patches.input_ids[0].tolist())
        # All images have the same tokens, so their content is part of the keys.
        digest = hashlib.sha256(b"".join(hashlib.sha256(image).digest() for image in prompt.images)).hexdigest()
        keys = tuple((digest, at) if id == self._processor.image_token_id else id for at, id in enumerate(ids))
        return TokenizedPrompt(ids, keys, _common(keys, shared), patches)

    def _shared_prefix(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens that prompts with this system text and these examples share."""
        key = (prompt.system, prompt.examples)
        cached = self._shared.get(key)
        if cached is None:
            if len(self._shared) >= 256:  # apps have a few
                self._shared.clear()
            probe = Prompt("A", prompt.system, prompt.examples)
            one, other = self.token_ids(probe), self.token_ids(replace(probe, ask="B"))
            cached = self._shared[key] = one[: _common(one, other)]
        return cached

    def token_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens of a prompt without images."""
        return tuple(self._tokenizer(self._text(prompt), add_special_tokens=False)["input_ids"])

    def _text(self, prompt: Prompt) -> str:
        messages: list[dict[str, Any]] = [
            message | {"content": self._controls.escape(message["content"])}
            for message in to_messages(replace(prompt, opening=""))
        ]
        if prompt.images:  # the model was trained with images before the text
            pictures: list[dict[str, str]] = [{"type": "image"} for _ in prompt.images]
            messages[-1]["content"] = [*pictures, {"type": "text", "text": messages[-1]["content"]}]
        text: str = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        if self._has_thoughts and not text.rstrip().endswith(_CLOSE):
            text += EMPTY_THOUGHT
        return text


def _common(one: tuple[Hashable, ...], other: tuple[Hashable, ...]) -> int:
    """Return the length of the common prefix."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
