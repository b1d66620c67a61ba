"""Generate previews with a model in training: the engine's denoising without its thread and queue."""

from __future__ import annotations

import torch

from ..diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from ..diffusion.diffusion_gemma.sampling_params import SamplingParams
from ..diffusion.loader import LoadedModel
from ..diffusion.model_runner import ModelRunner
from ..diffusion.token_chunk import TokenChunk, to_tensor
from ..diffusion.tokenization.canvas_plan import plan_canvases
from ..diffusion.tokenization.detokenizer import Detokenizer
from ..diffusion.tokenization.prompt_tokenizer import PromptTokenizer
from ..frames import Prompt, Request


class PreviewWriter:
    """Generates texts, one after another.

    Args:
        loaded: the model, which may be in training.
        context: maximum tokens of prompt and output together.
    """

    def __init__(self, loaded: LoadedModel, *, context: int) -> None:
        self._model, self._device = loaded.model, loaded.device
        self._context, self._params = context, loaded.checkpoint.sampling_params
        self._size = int(loaded.model.config.canvas_length)
        vocabulary = int(loaded.model.config.text_config.vocab_size)
        self._detokenizer = Detokenizer(loaded.tokenizer, loaded.end_ids, loaded.pad_id, vocabulary)
        self._prompt_tokenizer = PromptTokenizer(loaded.tokenizer, self._detokenizer, None, loaded.name)

    @property
    def end_id(self) -> int:
        """The end token."""
        return self._detokenizer.end_id

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text."""
        return self._detokenizer.encode(text)

    @torch.no_grad()
    def write(
        self, prompt: Prompt, *, canvases: int = 1, seed: int = 0, params: SamplingParams | None = None
    ) -> tuple[str, int]:
        """Generate a text.

        Args:
            prompt: what to write.
            canvases: maximum number of canvases; more only if the opening does not fit.
            seed: of the random numbers.
            params: sampling parameters; None uses the checkpoint's own.

        Returns:
            The text and the number of steps; an empty text if the prompt is too long.
        """
        ids = self._prompt_tokenizer.token_ids(prompt)
        canvases = max(
            canvases, len(self.encode(self._detokenizer.protect_leading_space(prompt.opening))) // self._size + 1
        )
        if len(ids) + canvases * self._size > self._context:
            return "", 0
        settings = params or self._params
        model, rule = DIFFUSION_GEMMA.assemble(self._model, rows=1, context=self._context)
        batch = ModelRunner(model, rule)
        plan = plan_canvases(Request(prompt, canvases=canvases), self._detokenizer, self._size, batch.masks.register)
        model.encode(TokenChunk(0, 0, to_tensor(ids, self._device)))
        written: list[int] = []
        decoded, steps = plan.decode([], []), 0
        for number in range(canvases):
            num_cached = len(ids) + len(written)
            batch.begin_block(0, seed=seed, length=num_cached, params=settings, block=plan.init_block(number))
            while True:
                batch.step(1, num_cached, equal_lengths=True, constrained=False)
                steps += 1
                looked = batch.fetch(1)
                if looked.finished[0]:
                    break
            written += looked.best[0]
            decoded = plan.decode(written, [False] * len(written))
            if decoded.ended or number + 1 == canvases:
                break
            model.encode(TokenChunk(0, num_cached, to_tensor(looked.best[0], self._device)))
        return decoded.text, steps


def matching_share(expected: str, generated: str) -> float:
    """Return the share of positions at which two texts have the same character."""
    same = sum(one == other for one, other in zip(expected, generated, strict=False))
    return same / max(len(expected), len(generated), 1)
