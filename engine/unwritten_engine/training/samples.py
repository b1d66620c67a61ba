"""Texts by a model that is being trained: the engine's own denoising, without its thread and its queue."""

from __future__ import annotations

import torch

from ..diffusion.batch import Batch
from ..diffusion.body import Body, Piece, tokens_of
from ..diffusion.kv import KV
from ..diffusion.loading.loader import Loaded
from ..diffusion.options import Dial, published
from ..diffusion.tokens.outline import outline
from ..diffusion.tokens.prompts import Speaker
from ..diffusion.tokens.text import Reader
from ..frames import Prompt, Request


class Sampler:
    """Writes texts, one after another.

    Args:
        loaded: the model, which may be in training meanwhile.
        context: tokens of prompt and text together.
    """

    def __init__(self, loaded: Loaded, *, context: int) -> None:
        self._model, self._device = loaded.model, loaded.device
        self._context = context
        self._size = int(loaded.model.config.canvas_length)
        vocabulary = int(loaded.model.config.text_config.vocab_size)
        self._reader = Reader(loaded.tokenizer, loaded.ends, loaded.pad, vocabulary)
        self._speaker = Speaker(loaded.tokenizer, self._reader, None, loaded.name)

    @property
    def end(self) -> int:
        """The token that ends a text."""
        return self._reader.end

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a text."""
        return self._reader.encode(text)

    @torch.no_grad()
    def write(self, prompt: Prompt, *, canvases: int = 1, seed: int = 0, dial: Dial | None = None) -> tuple[str, int]:
        """A text from noise.

        Args:
            prompt: what to write.
            canvases: at most; more only if the opening does not fit.
            seed: of the noise.
            dial: how it is denoised; None takes the checkpoint's own.

        Returns:
            The text, and the steps it took; no text if the prompt is too long.
        """
        ids = self._speaker.ids(prompt)
        canvases = max(canvases, len(self.tokens(self._reader.shield(prompt.opening))) // self._size + 1)
        if len(ids) + canvases * self._size > self._context:
            return "", 0
        settings = dial or published(self._model.generation_config)
        batch, body = self._new()
        plan = outline(Request(prompt, canvases=canvases), self._reader, self._size, batch.masks.place)
        body.encode(Piece(0, 0, tokens_of(ids, self._device)))
        written: list[int] = []
        found, steps = plan.read([], []), 0
        for number in range(canvases):
            held = len(ids) + len(written)
            batch.begin(0, seed=seed, length=held, dial=settings, canvas=plan.canvas(number, self._size))
            while True:
                batch.step(1, held, even=True, shaped=False)
                steps += 1
                looked = batch.look(1)
                if looked.finished[0]:
                    break
            written += looked.best[0]
            found = plan.read(written, [False] * len(written))
            if found.ended or number + 1 == canvases:
                break
            body.encode(Piece(0, held, tokens_of(looked.best[0], self._device)))
        return found.text, steps

    def _new(self) -> tuple[Batch, Body]:
        table = self._model.model.decoder.embed_tokens.weight
        kv = KV(
            self._model.config.text_config,
            rows=1,
            context=self._context,
            canvas=self._size,
            device=self._device,
            dtype=table.dtype,
        )
        body = Body(self._model, kv)
        return Batch(self._model, body), body


def given_back(wanted: str, found: str) -> float:
    """The share of places at which two texts have the same character."""
    same = sum(one == other for one, other in zip(wanted, found, strict=False))
    return same / max(len(wanted), len(found), 1)
