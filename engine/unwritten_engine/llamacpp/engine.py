"""GGUF models in this process, through llama.cpp: the embedded default, and any other ``.gguf`` file.

The life of a request: it waits for a slot (``slots``), a thread of its own calls llama.cpp, which works on all
running requests in one batch and calls back for every token; the callback adds the token to the text (``stream``)
and leaves the newest frame for the event loop to fetch. Nothing queues up: a slow reader skips frames, and only
the last one, with the usage, is sure to come. Returning True from the callback stops the work within one token.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import os
import secrets
import time
import weakref
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..chat_prompts import ControlTokens, to_messages, to_transcript, transcript_sampling, transcript_stops
from ..engine import Abilities, About, Progress
from ..errors import (
    EngineClosed,
    EngineError,
    GenerationFailed,
    MissingPackage,
    ModelUnsupported,
    PromptTooLong,
    RequestRefused,
)
from ..frames import Frame, Priority, Prompt, Request
from ..gguf import GGUFHeader, read_header
from ..json_grammar import grammar_from_schema
from ..options import Option, check_options
from ..request_slots import Slot, SlotScheduler
from ..text_frames import TextFrames
from ..threads import choose_num_threads
from .completion import Completion

CANVAS_LENGTH: Final = 256
"""Tokens in one canvas. llama.cpp has no canvases; this is the length of DiffusionGemma's."""

OPTIONS: Final = (
    Option("threads", None, "count", "threads to compute with; None chooses", 1, 512),
    Option("context", 4096, "count", "tokens that one request may use, prompt and text together", 256, 1 << 20),
    Option("parallel", 4, "count", "requests that are worked on at the same time", 1, 64),
    Option("gpu_layers", None, "count", "layers to put on a GPU; None puts all there if there is one", 0, 1000),
    Option("instruct", None, "flag", "treat the model as an instruct model, or not; None asks the file"),
    Option("log", False, "flag", "let llama.cpp write its log to standard error"),
)
"""Options of the engine, as ``open_engine`` takes them."""

SAMPLING: Final = (
    Option("temperature", 0.7, "number", "0 always takes the likeliest token; higher is more varied", 0, 5),
    Option("top_k", 40, "count", "choose among so many likeliest tokens; 0 for all", 0, 1 << 20),
    Option("top_p", 0.95, "number", "choose among the likeliest tokens that have this share together", 0, 1),
    Option("min_p", 0.05, "number", "drop tokens less likely than this share of the likeliest", 0, 1),
    Option("typical_p", 1.0, "number", "keep tokens whose likelihood is typical; 1 for all", 0, 1),
    Option("repeat_penalty", 1.08, "number", "make tokens that came lately less likely; 1 does not", 0.1, 10),
    Option("repeat_last_n", 256, "count", "how far back the penalties look, in tokens", 0, 1 << 20),
    Option("presence_penalty", 0.0, "number", "make tokens that came at all less likely", -5, 5),
    Option("frequency_penalty", 0.0, "number", "make tokens less likely for each time they came", -5, 5),
    Option("dry_multiplier", 0.8, "number", "strength of the penalty for repeating sequences; 0 for none", 0, 10),
    Option("dry_base", 1.75, "number", "how quickly that penalty grows with the sequence's length", 1, 10),
    Option("dry_allowed_length", 3, "count", "sequences up to this length may repeat", 0, 1 << 20),
    Option("dry_penalty_last_n", 512, "count", "how far back that penalty looks, in tokens", 0, 1 << 20),
    # llama.cpp searches the whole vocabulary for each breaker, at the beginning of every request.
    Option("dry_sequence_breakers", ["\n"], "texts", "texts that end a repeated sequence; each costs 50 ms or more"),
    Option("xtc_probability", 0.0, "number", "chance of leaving out the likeliest tokens", 0, 1),
    Option("xtc_threshold", 0.1, "number", "how likely a token must be to be left out", 0, 1),
    Option("logit_bias", None, "biases", "pairs of a text and a number that makes its tokens more or less likely"),
    Option("grammar", None, "text", "a grammar in GBNF that the text must follow; None for none"),
)
"""Sampling options of a request. The defaults keep small models from repeating themselves."""

_SHAPED: Final = {"repeat_penalty": 1.0}
"""Other defaults under a shape: the marks of JSON repeat and must (DRY breaks at quotes and colons by itself)."""

_SPARE_BYTES: Final = 256 << 20
"""The cache may take this much for slots beyond those at work, which keep beginnings warm."""


def open_llamacpp(
    path: str | Path,
    *,
    progress: Progress | None = None,
    name: str = "llamacpp",
    model: str = "",
    licence: str = "",
    reasons: Sequence[str] = (),
    **options: Any,
) -> LlamaCppEngine:
    """Load a GGUF model. Takes seconds; call it in a thread.

    Args:
        path: the file; of a split model, its first.
        progress: called while the model loads.
        name: the engine's name in ``about``.
        model: the model's name for people; the file's own by default.
        licence: the terms of the model.
        reasons: why this model was chosen.
        options: see ``OPTIONS``.

    Raises:
        ModelNotFound, ModelBroken, ModelUnsupported: see ``gguf.read_head``.
        UnknownOption, BadOption: an option that there is not, or that cannot have this value.
    """
    told = progress or (lambda share, doing: None)
    settings = check_options(options, OPTIONS, "The llama.cpp engine")
    told(0.0, f"Reading {Path(path).name}")
    head = read_header(path)
    told(0.1, f"Loading {model or head.name}, {head.weight_bytes / 1e6:,.0f} MB")
    plan = _plan(head, settings)
    server = _load(head, plan, bool(settings["log"]))
    about = About(
        engine=name,
        model=model or head.name,
        device=plan.device,
        quantization=head.quantization,
        memory_bytes=head.weight_bytes + plan.slots * plan.context * head.kv_bytes,
        context=plan.context,
        canvas_length=CANVAS_LENGTH,
        parallel=plan.parallel,
        abilities=Abilities(instruct=plan.instruct, schemas=True, prefetch=True, markup=plan.instruct),
        licence=licence or str(head.metadata.get("general.license", "")),
        reasons=(*reasons, *plan.reasons),
    )
    told(1.0, f"{about.model} is ready")
    return LlamaCppEngine(server, about, plan.slots, head.control_tokens)


@dataclass(frozen=True, slots=True)
class _Plan:
    threads: int
    context: int
    parallel: int
    slots: int
    gpu_layers: int
    instruct: bool
    device: str
    reasons: tuple[str, ...]


def _plan(head: GGUFHeader, settings: dict[str, Any]) -> _Plan:
    """What to load the model with, and why."""
    reasons = []
    gpus = [str(device["description"]) for device in _devices() if "GPU" in str(device["type"])]
    layers = settings["gpu_layers"]
    if not gpus:
        reasons.append("No GPU was found that this build of llama.cpp can use.")
    elif layers == 0:
        reasons.append(f"The GPU ({gpus[0]}) is not used, because gpu_layers is 0.")
    else:
        reasons.append(f"A GPU was found: {gpus[0]}.")
    layers = layers if layers is not None else 999
    threads, why = choose_num_threads()
    if settings["threads"]:
        threads, why = settings["threads"], f"{settings['threads']} threads were asked for."
    reasons.append(why)
    context = min(settings["context"], head.context)
    if context < settings["context"]:
        reasons.append(f"The context is {context:,} tokens: the model was not trained for more.")
    parallel = settings["parallel"]
    spare = _SPARE_BYTES // max(1, context * head.kv_bytes)
    on_gpu = bool(gpus) and layers > 0
    return _Plan(
        threads=threads,
        context=context,
        parallel=parallel,
        slots=parallel + min(parallel, spare),
        gpu_layers=layers if on_gpu else 0,
        instruct=bool(head.chat_template) if settings["instruct"] is None else settings["instruct"],
        device=gpus[0] if on_gpu else f"CPU, {threads} thread{'s' if threads > 1 else ''}",
        reasons=tuple(reasons),
    )


def _devices() -> list[dict[str, Any]]:
    return list(_runtime().get_device_info())


def _runtime() -> Any:
    """The module xllamacpp. Not imported at the top: it takes a while, and tapes and scripts do without."""
    # The threads meet several hundred times per token, and by default spin for milliseconds until all are there.
    # If something else wants the cores (the server, the browser), that costs nine tenths of the speed. A short
    # spin costs nothing on an idle machine. Read by libgomp when it is loaded, so it must be set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        if "libgomp" in str(error):
            raise MissingPackage("llama.cpp needs the system's libgomp. Type: apt install libgomp1") from error
        raise MissingPackage(f"llama.cpp cannot be loaded ({error}). Type: pip install xllamacpp") from error


def _load(head: GGUFHeader, plan: _Plan, log: bool) -> Any:
    xllamacpp = _runtime()
    params = xllamacpp.CommonParams()
    params.model.path = str(head.path)
    params.n_ctx = plan.context * plan.slots
    params.n_parallel = plan.slots
    params.kv_unified = False  # every slot has its own share: a long request cannot starve another
    params.swa_full = True  # else models with a sliding window (Gemma) forget the beginning that is reused
    params.cache_ram_mib = 0  # the slots are the cache
    params.cache_idle_slots = False
    params.slot_prompt_similarity = 0.0  # slots are chosen here
    if not plan.gpu_layers:
        # Between two batches, all who write get their next token, and who was stopped leaves. A long prompt must
        # not hold them up for seconds; a processor is as quick with small batches as with large ones.
        params.n_batch = params.n_ubatch = 128
    params.n_gpu_layers = plan.gpu_layers
    params.fit_params = False  # do not quietly change what was asked for
    params.cpuparams.n_threads = plan.threads
    params.cpuparams_batch.n_threads = plan.threads
    params.warmup = False
    params.verbosity = 3 if log else -1
    # The runtime listens on a free loopback port whether one wants it or not: lock it, and switch off its pages.
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.endpoint_props = False
    params.ui = False
    params.n_threads_http = 1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        if head.is_diffusion_gemma:
            raise ModelUnsupported(_diffusion_gemma(head)) from error
        raise ModelUnsupported(
            f"llama.cpp could not load {head.path} (architecture {head.architecture!r}, {head.quantization}). "
            f"Either this version does not know the architecture, or there is not enough memory for "
            f"{head.weight_bytes / 1e9:.1f} GB of weights and "
            f"{plan.context * plan.slots * head.kv_bytes / 1e9:.1f} GB of cache. "
            f"Try a smaller context or model; log=True shows what llama.cpp says."
        ) from error


def _diffusion_gemma(head: GGUFHeader) -> str:
    """What to do with a DiffusionGemma if the llama.cpp that is installed does not run it."""
    return (
        f"{head.path} is a DiffusionGemma (architecture {head.architecture!r}, {head.quantization}), and the llama.cpp "
        f"in the package xllamacpp could not load it: so far only builds of llama.cpp's pull request 24423 can. Either "
        f"build that one: git clone https://github.com/ggml-org/llama.cpp && cd llama.cpp && git fetch origin "
        f"pull/24423/head:diffusion-gemma && git checkout diffusion-gemma && cmake -B build -DGGML_CUDA=ON && cmake "
        f"--build build -j --config Release --target llama-diffusion-cli; and open the engine "
        f"'visual:llama.cpp/build/bin/llama-diffusion-cli' with model={head.path}. Or run the checkpoint in this "
        f"process, with the engine 'diffusion', or in vLLM, and open its address."
    )


class LlamaCppEngine:
    """An engine over one loaded GGUF model. Made by ``open_llamacpp``."""

    def __init__(self, server: Any, about: About, slots: int, controls: Sequence[str]) -> None:
        self._server = server
        self._about = about
        self._slots = SlotScheduler(slots, about.parallel)
        self._controls = ControlTokens(controls)
        self._jobs: set[Completion] = set()
        self._held: dict[Completion, Slot] = {}
        self._closing = False
        _open_engines.add(self)

    @property
    def about(self) -> About:
        """What this engine is, and why it was chosen."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Write one text. See ``Engine.generate``; options are those in ``SAMPLING``."""
        if self._closing:
            raise EngineClosed("The engine is closed. Open it again.")
        call, budget = self._call(request), self._budget(request)
        asked = time.monotonic()
        slot = await self._slots.acquire(self._beginning(request.prompt), request.priority, request)
        job = self._start(request, call, budget, slot, time.monotonic() - asked)
        try:
            while True:
                frame = await job.next_frame()
                if frame.done:
                    self._free(job)  # now, not when the thread has ended: the next request may want it
                yield frame
                if frame.done:
                    return
        finally:
            job.stop()

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._call(request)
        self._budget(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Evaluate what each of these prompts shares with others of its kind, one slot per beginning."""
        beginnings = {self._beginning(p): replace(p, ask="A", facts=(), opening="") for p in prompts}
        for prompt in list(beginnings.values())[: len(self._slots)]:
            try:
                async for _ in self.generate(Request(prompt, max_tokens=1, priority=Priority.PREFETCH)):
                    pass
            except EngineError:
                continue

    async def close(self) -> None:
        """Stop all work and free the model. Running generations raise ``EngineClosed``."""
        if self._closing:
            return
        self._closing = True
        self._slots.close()
        jobs = list(self._jobs)
        for job in jobs:
            job.fail(EngineClosed("The engine was closed while it was writing."))
        await asyncio.to_thread(_release, jobs, self._take_server())

    def stop(self) -> None:
        """Stop all work at once, from any thread; for the end of the process."""
        self._closing = True
        jobs = list(self._jobs)
        for job in jobs:
            job.stop()
        _release(jobs, self._take_server())

    def _take_server(self) -> list[Any]:
        """The server, in a list that is its only owner."""
        server, self._server = [self._server], None
        return server

    def _beginning(self, prompt: Prompt) -> str:
        """What the prompt shares with others of its kind: where two asks of one letter part."""
        bare = replace(prompt, facts=(), opening="", images=())
        one, other = (self._text(replace(bare, ask=ask)) for ask in ("A", "B"))
        return one[: next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)]

    def _text(self, prompt: Prompt) -> str:
        """The prompt as one text; for an instruct model, what stands for it when beginnings are compared."""
        if not self._about.abilities.instruct:
            return self._controls.escape(to_transcript(prompt))
        return "".join(f"{message['role']}: {message['content']}\n" for message in self._messages(prompt))

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        messages = to_messages(prompt, prefill=True)
        return [message | {"content": self._controls.escape(message["content"])} for message in messages]

    def _call(self, request: Request) -> dict[str, Any]:
        """What llama.cpp is called with, but for what depends on the slot.

        Raises:
            RequestRefused, UnknownOption, BadOption: what this engine cannot do.
        """
        if request.prompt.images:
            raise RequestRefused(f"{self._about.model} cannot see images. Leave them out of the prompt.")
        if request.draft is not None:
            raise RequestRefused(f"{self._about.model} cannot edit a draft. Put the text into the prompt's facts.")
        options = check_options(request.options, SAMPLING, "The llama.cpp engine")
        if request.schema is not None:
            if options["grammar"] is not None:
                raise RequestRefused("A request has a shape or a grammar, not both. Leave one out.")
            if request.prompt.opening.strip():
                raise RequestRefused("A request with a shape cannot have an opening. Leave it out.")
            options |= {key: value for key, value in _SHAPED.items() if key not in request.options}
            options["grammar"] = grammar_from_schema(request.schema)
        call = {key: value for key, value in options.items() if value is not None}
        if self._about.abilities.instruct:
            return call | {
                "messages": self._messages(request.prompt),
                "chat_template_kwargs": {"enable_thinking": False},
            }
        # Hold the text to the form of the examples, unless the request says otherwise.
        tuned = transcript_sampling(request.prompt, constrained=request.schema is not None)
        call |= {key: value for key, value in tuned.items() if key not in request.options}
        return call | {"prompt": self._text(request.prompt)}

    def _budget(self, request: Request) -> int:
        """The tokens that may be written.

        Raises:
            PromptTooLong: if they leave no room for a prompt.
        """
        budget = request.budget(CANVAS_LENGTH)
        if budget >= self._about.context:
            raise PromptTooLong(
                f"{budget:,} tokens of text do not fit into the context of {self._about.context:,} tokens. "
                f"Ask for fewer canvases, or open the engine with a larger context."
            )
        return budget

    def _start(self, request: Request, call: dict[str, Any], budget: int, slot: Slot, queued: float) -> Completion:
        """Begin the work in a thread of its own, which gives the slot back at its end."""
        base = not self._about.abilities.instruct
        seed = secrets.randbelow(2**32 - 1) if request.seed is None else request.seed
        call |= {
            "stream": True,
            # What was evaluated in another batch differs in the last bits, and then in the words: a text that is
            # to be repeated is evaluated from its first token each time.
            "cache_prompt": request.seed is None,
            "timings_per_token": True,
            "return_progress": True,
            "max_tokens": budget,
            "id_slot": slot.number,
            "seed": seed % (2**32 - 1),  # the largest means "random" to llama.cpp
        }
        ends = transcript_stops(request.prompt) if base and request.schema is None else ()
        loop = asyncio.get_running_loop()

        server = self._server
        ended = self._ended

        def work(job: Completion) -> None:
            nonlocal server
            try:
                if server is None:
                    raise EngineClosed("The engine was closed before the work began.")
                (server.handle_completions if base else server.handle_chat_completions)(call, job.on_chunk)
            except EngineError as error:
                job.fail(error)
            except Exception as error:
                job.fail(GenerationFailed(f"llama.cpp broke off: {error}. Try again."))
            finally:
                server = None  # the model is freed with the last reference
                job.finish()
                with contextlib.suppress(RuntimeError):  # the event loop is closed, and the slots with it
                    loop.call_soon_threadsafe(ended, job)

        job = Completion(
            loop,
            TextFrames(request.prompt.opening, ends, request.stop, CANVAS_LENGTH, budget),
            context=self._about.context,
            budget=budget,
            queued=queued,
            seed=seed,
            work=work,
        )
        self._jobs.add(job)
        self._held[job] = slot
        try:
            job.start()
        except RuntimeError as error:  # the system allows no more threads
            self._ended(job)
            raise GenerationFailed(f"The work could not begin: {error}. Try again later.") from error
        return job

    def _ended(self, job: Completion) -> None:
        """The thread of a job is done."""
        self._jobs.discard(job)
        self._free(job)

    def _free(self, job: Completion) -> None:
        """Give the slot of a job back, once."""
        slot = self._held.pop(job, None)
        if slot is not None:
            self._slots.release(slot)


def _release(jobs: Sequence[Completion], server: list[Any]) -> None:
    """Wait for the threads, which stop with their next token, and free the model."""
    for job in jobs:
        job.join()
    server.clear()


_open_engines: weakref.WeakSet[LlamaCppEngine] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """No thread may call back into an interpreter that is gone."""
    for engine in list(_open_engines):
        engine.stop()
