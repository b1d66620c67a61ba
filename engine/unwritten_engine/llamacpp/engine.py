"""The llama.cpp engine: the embedded model and any other ``.gguf`` file, in this process.

A request waits for a slot (``request_slots``). Then a thread calls llama.cpp, which runs all requests in one batch and
calls back for every token. The callback appends the token to the text (``text_frames``) and publishes the newest frame.
Nothing queues up: a slow reader skips frames, and only the last one, with the usage, is guaranteed. If the callback
returns True, the work stops within one token.

Prompt prefixes that ``warm`` has evaluated are kept on disk (``saved_prefixes``), and a slot without its prefix loads
it from there. Warming runs only while no request does.
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
from collections.abc import AsyncGenerator, Iterator, Sequence
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
from ..model_size import judge_markup
from ..options import Option, check_options
from ..request_slots import Slot, SlotScheduler
from ..text_frames import TextFrames
from ..threads import choose_num_threads
from .completion import Completion
from .saved_prefixes import SavedPrefixes, model_identity, open_folder, prefixes_folder

CANVAS_LENGTH: Final = 256
"""Tokens in one canvas. llama.cpp has no canvases; this is the canvas length of DiffusionGemma."""

OPTIONS: Final = (
    Option("threads", None, "count", "threads to compute with; None chooses", 1, 512),
    Option("context", 4096, "count", "maximum tokens of one request, prompt and output together", 256, 1 << 20),
    Option("parallel", 4, "count", "requests that run at the same time", 1, 64),
    Option("gpu_layers", None, "count", "layers to put on a GPU; None means all if there is one", 0, 1000),
    Option("instruct", None, "flag", "treat the model as an instruct model; None decides by its chat template"),
    Option("log", False, "flag", "write llama.cpp's log to standard error"),
)
"""Options of the engine, for ``open_engine``."""

SAMPLING: Final = (
    Option("temperature", 0.7, "number", "0 always takes the most likely token; higher is more varied", 0, 5),
    Option("top_k", 40, "count", "sample from this many most likely tokens; 0 for all", 0, 1 << 20),
    Option("top_p", 0.95, "number", "sample from the most likely tokens with this total probability", 0, 1),
    Option("min_p", 0.05, "number", "drop tokens below this share of the highest probability", 0, 1),
    Option("typical_p", 1.0, "number", "keep tokens of typical probability; 1 for all", 0, 1),
    Option("repeat_penalty", 1.08, "number", "penalty for recent tokens; 1 for none", 0.1, 10),
    Option("repeat_last_n", 256, "count", "how far back the penalties look, in tokens", 0, 1 << 20),
    Option("presence_penalty", 0.0, "number", "penalty for tokens that occurred", -5, 5),
    Option("frequency_penalty", 0.0, "number", "penalty for each occurrence of a token", -5, 5),
    Option("dry_multiplier", 0.8, "number", "strength of the penalty for repeated sequences; 0 for none", 0, 10),
    Option("dry_base", 1.75, "number", "growth of that penalty with the sequence's length", 1, 10),
    Option("dry_allowed_length", 3, "count", "sequences up to this length may repeat", 0, 1 << 20),
    Option("dry_penalty_last_n", 512, "count", "how far back that penalty looks, in tokens", 0, 1 << 20),
    # llama.cpp searches the whole vocabulary for each breaker at the start of every request.
    Option("dry_sequence_breakers", ["\n"], "texts", "texts that end a repeated sequence; each costs 50 ms or more"),
    Option("xtc_probability", 0.0, "number", "probability of excluding the most likely tokens", 0, 1),
    Option("xtc_threshold", 0.1, "number", "minimum probability of excluded tokens", 0, 1),
    Option("logit_bias", None, "biases", "pairs of a text and a number that is added to the logits of its tokens"),
    Option("grammar", None, "text", "a GBNF grammar for the text; None for none"),
)
"""Sampling options of a request. The defaults prevent repetition in small models."""

_SCHEMA_DEFAULTS: Final = {"repeat_penalty": 1.0}
"""Defaults for requests with a schema: JSON syntax repeats (DRY breaks at quotes and colons anyway)."""

_SPARE_BYTES: Final = 256 << 20
"""Maximum cache size of the slots beyond ``parallel``, which keep prefixes warm."""


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
        path: the file; the first file of a split model.
        progress: called while the model loads.
        name: the engine's name in ``about``.
        model: display name of the model; by default from the file.
        licence: terms of the model.
        reasons: why this model was chosen.
        options: see ``OPTIONS``.

    Raises:
        ModelNotFound, ModelBroken, ModelUnsupported: see ``gguf.read_header``.
        UnknownOption, BadOption: an unknown option, or an invalid value.
    """
    report = progress or (lambda share, step: None)
    settings = check_options(options, OPTIONS, "The llama.cpp engine")
    report(0.0, f"Reading {Path(path).name}")
    head = read_header(path)
    report(0.1, f"Loading {model or head.name}, {head.weight_bytes / 1e6:,.0f} MB")
    plan = _make_plan(head, settings)
    server, saved = _load(head, plan, bool(settings["log"]))
    about = About(
        engine=name,
        model=model or head.name,
        device=plan.device,
        quantization=head.quantization,
        memory_bytes=head.weight_bytes + plan.slots * plan.context * head.kv_bytes,
        context=plan.context,
        canvas_length=CANVAS_LENGTH,
        parallel=plan.parallel,
        abilities=Abilities(instruct=plan.instruct, schemas=True, patterns=True, prefetch=True, markup=plan.markup),
        licence=licence or str(head.metadata.get("general.license", "")),
        reasons=(*reasons, *plan.reasons),
    )
    report(1.0, f"{about.model} is ready")
    return LlamaCppEngine(server, about, plan.slots, head, saved)


@dataclass(frozen=True, slots=True)
class _LoadPlan:
    threads: int
    context: int
    parallel: int
    slots: int
    gpu_layers: int
    instruct: bool
    markup: bool
    device: str
    reasons: tuple[str, ...]


def _make_plan(head: GGUFHeader, settings: dict[str, Any]) -> _LoadPlan:
    """Choose load parameters, with reasons."""
    reasons = []
    gpus = [str(device["description"]) for device in gpu_devices()]
    layers = settings["gpu_layers"]
    if not gpus:
        reasons.append("This build of llama.cpp found no GPU that it can use.")
    elif layers == 0:
        reasons.append(f"The GPU ({gpus[0]}) is not used, because gpu_layers is 0.")
    else:
        reasons.append(f"A GPU was found: {gpus[0]}.")
    layers = layers if layers is not None else 999
    threads, reason = choose_num_threads()
    if settings["threads"]:
        threads, reason = settings["threads"], f"{settings['threads']} threads were requested."
    reasons.append(reason)
    context = min(settings["context"], head.context)
    if context < settings["context"]:
        reasons.append(f"The context is {context:,} tokens, the model's maximum.")
    parallel = settings["parallel"]
    instruct = bool(head.chat_template) if settings["instruct"] is None else settings["instruct"]
    markup = False
    if instruct:  # a base model only continues text
        markup, reason = judge_markup(head.parameters)
        reasons.append(reason)
    on_gpu = bool(gpus) and layers > 0
    return _LoadPlan(
        threads=threads,
        context=context,
        parallel=parallel,
        slots=num_slots(parallel, context * head.kv_bytes),
        gpu_layers=layers if on_gpu else 0,
        instruct=instruct,
        markup=markup,
        device=gpus[0] if on_gpu else f"CPU, {threads} thread{'s' if threads > 1 else ''}",
        reasons=tuple(reasons),
    )


def num_slots(parallel: int, slot_bytes: int) -> int:
    """Return the number of cache slots for so many requests at once, with slots of this size."""
    return parallel + min(parallel, _SPARE_BYTES // max(1, slot_bytes))


def gpu_devices() -> list[dict[str, Any]]:
    """Return the GPUs that this build of llama.cpp can use."""
    return [device for device in _runtime().get_device_info() if "GPU" in str(device["type"])]


def _runtime() -> Any:
    """Return the module xllamacpp. It is imported on demand because the import is slow."""
    # The threads synchronize hundreds of times per token and by default spin for milliseconds. If the server or the
    # browser needs the cores, that costs 90 % of the speed. A short spin costs nothing on an idle machine. libgomp
    # reads the variable when it is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        if "libgomp" in str(error):
            raise MissingPackage("llama.cpp needs the system's libgomp. Type: apt install libgomp1") from error
        raise MissingPackage(f"llama.cpp cannot be loaded ({error}). Type: pip install xllamacpp") from error


def _load(head: GGUFHeader, plan: _LoadPlan, log: bool) -> tuple[Any, SavedPrefixes | None]:
    """Load the model. Return llama.cpp's server, and the saved prefixes if they can be kept."""
    xllamacpp = _runtime()
    params = xllamacpp.CommonParams()
    params.model.path = str(head.path)
    params.n_ctx = plan.context * plan.slots
    params.n_parallel = plan.slots
    params.kv_unified = False  # every slot has its own share: a long request cannot starve another
    params.swa_full = True  # otherwise models with a sliding window (Gemma) lose the reusable prefix
    params.cache_ram_mib = 0  # the slots are the cache
    params.cache_idle_slots = False
    params.slot_prompt_similarity = 0.0  # slots are chosen here
    if not plan.gpu_layers:
        # Running requests get their next token, and stopped ones end, between two batches. Small batches keep a
        # long prompt from delaying them for seconds, and are as fast as large ones on a CPU.
        params.n_batch = params.n_ubatch = 128
    params.n_gpu_layers = plan.gpu_layers
    params.fit_params = False  # do not change requested values silently
    params.cpuparams.n_threads = plan.threads
    params.cpuparams_batch.n_threads = plan.threads
    params.warmup = False
    params.verbosity = 3 if log else -1
    # The runtime always listens on a loopback port: protect it with a key and disable its pages.
    key = secrets.token_urlsafe(32)
    params.api_keys = [key]
    params.endpoint_slots = False
    params.endpoint_props = False
    params.ui = False
    params.n_threads_http = 1
    saved = None
    if folder := open_folder(prefixes_folder()):
        depends_on = (*model_identity(head.files), xllamacpp.__version__, plan.device, str(plan.gpu_layers))
        saved = SavedPrefixes(folder, (*depends_on, str(plan.context), str(plan.instruct)))
        params.slot_save_path = f"{folder}{os.sep}"
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        if head.is_diffusion_gemma:
            raise ModelUnsupported(_diffusion_gemma_help(head)) from error
        raise ModelUnsupported(
            f"llama.cpp could not load {head.path} (architecture {head.architecture!r}, {head.quantization}). "
            f"Either this version does not support the architecture, or there is not enough memory for "
            f"{head.weight_bytes / 1e9:.1f} GB of weights and "
            f"{plan.context * plan.slots * head.kv_bytes / 1e9:.1f} GB of cache. "
            f"Try a smaller context or model; log=True shows llama.cpp's log."
        ) from error
    if saved is not None:
        saved.connect(server.listening_address, key)
    return server, saved


def _diffusion_gemma_help(head: GGUFHeader) -> str:
    """Return advice for a DiffusionGemma that the installed llama.cpp cannot run."""
    return (
        f"{head.path} is a DiffusionGemma (architecture {head.architecture!r}, {head.quantization}), and the llama.cpp "
        f"in the package xllamacpp could not load it: so far only builds of llama.cpp's pull request 24423 can. Either "
        f"unpack a bundle of https://github.com/unslothai/llama.cpp/releases, and open the engine "
        f"'visual:PATH/llama-diffusion-gemma-visual-server' with model={head.path}. Or run the checkpoint in this "
        f"process, with the engine 'diffusion', or in vLLM, and open its address."
    )


class LlamaCppEngine:
    """An engine for one loaded GGUF model. Created by ``open_llamacpp``."""

    def __init__(
        self,
        server: Any,
        about: About,
        slots: int,
        head: GGUFHeader,
        saved: SavedPrefixes | None = None,
    ) -> None:
        self._server = server
        self._saved = saved
        self._about = about
        self._slots = SlotScheduler(slots, about.parallel)
        self._control_tokens = ControlTokens(head.control_tokens)
        # The answers of some instruct models have sections, which begin with control tokens of the chat template.
        self._bans = _bans(head, except_in=head.chat_template if about.abilities.instruct else "")
        self._grammar_bans = _bans(head)
        self._completions: set[Completion] = set()
        self._acquired: dict[Completion, Slot] = {}
        self._warming: set[Completion] = set()
        self._warm_lock = asyncio.Lock()
        self._num_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        _open_engines.add(self)

    @property
    def about(self) -> About:
        """See ``Engine.about``."""
        return self._about

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. Options are those in ``SAMPLING``."""
        if self._closing:
            raise EngineClosed("The engine is closed. Open it again.")
        call, budget = self._build_call(request), self._budget(request)
        arrival = time.monotonic()
        with self._running():
            await self._stop_warming()
            slot = await self._slots.acquire(self._shared_prefix(request.prompt), request.priority, request)
            completion = self._start(request, call, budget, slot, time.monotonic() - arrival)
            try:
                while True:
                    frame = await completion.next_frame()
                    if frame.done:
                        self._release_slot(completion)  # before the thread ends, for the next request
                    yield frame
                    if frame.done:
                        return
            finally:
                completion.stop()

    def check(self, request: Request) -> None:
        """See ``Engine.check``."""
        self._build_call(request)
        self._budget(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Evaluate the shared prefixes of these prompts, one slot per prefix, and save them for the next process.

        A request stops this at once. It continues when no request runs, from where it was.
        """
        prefixes = {self._shared_prefix(p): replace(p, ask="A", facts=(), opening="") for p in prompts}
        async with self._warm_lock:  # the processes that share an engine have the same prefixes
            for prefix, prompt in list(prefixes.items())[: len(self._slots)]:
                with contextlib.suppress(EngineError):
                    while not self._closing and not await self._warm_prefix(prefix, prompt):
                        await self._idle.wait()
        if self._saved is not None:
            await asyncio.to_thread(self._saved.clean)

    async def _warm_prefix(self, prefix: str, prompt: Prompt) -> bool:
        """Evaluate a prefix. Return False if a request runs, or interrupted it."""
        if not self._idle.is_set():
            return False
        request = Request(prompt, max_tokens=1, priority=Priority.PREFETCH)
        call, budget = self._build_call(request), self._budget(request)
        slot = await self._slots.acquire(prefix, request.priority, request)
        if not self._idle.is_set():
            self._slots.release(slot)
            return False
        completion = self._start(request, call, budget, slot, 0.0, is_warming=True)
        self._warming.add(completion)
        try:
            await completion.ended.wait()
        except asyncio.CancelledError:
            completion.stop()
            raise
        finally:
            self._warming.discard(completion)
        return completion.is_evaluated or not completion.is_stopped

    async def _stop_warming(self) -> None:
        """Stop what ``warm`` evaluates, and wait until its slot is free. It takes about one batch of the prompt."""
        warming = list(self._warming)
        for completion in warming:
            completion.stop()
        for completion in warming:
            await completion.ended.wait()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Count a request, from its arrival to its end."""
        self._num_requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_requests -= 1
            if not self._num_requests:
                self._idle.set()

    async def close(self) -> None:
        """See ``Engine.close``."""
        if self._closing:
            return
        self._closing = True
        self._slots.close()
        completions = list(self._completions)
        for completion in completions:
            completion.fail(EngineClosed("The engine was closed during the generation."))
        await asyncio.to_thread(_join_and_free, completions, self._take_server())

    def stop(self) -> None:
        """Stop all work at once, from any thread. Used at the end of the process."""
        self._closing = True
        completions = list(self._completions)
        for completion in completions:
            completion.stop()
        _join_and_free(completions, self._take_server())

    def _take_server(self) -> list[Any]:
        """Return the server in a list that holds its only reference."""
        server, self._server = [self._server], None
        return server

    def _shared_prefix(self, prompt: Prompt) -> str:
        """Return the part of the prompt that other prompts share: the common prefix for two different asks."""
        stable = replace(prompt, facts=(), opening="", images=())
        one, other = (self._prompt_text(replace(stable, ask=ask)) for ask in ("A", "B"))
        return one[: next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)]

    def _prompt_text(self, prompt: Prompt) -> str:
        """Return the prompt as text. For an instruct model, the text is only used to compare prefixes."""
        if not self._about.abilities.instruct:
            return self._control_tokens.escape(to_transcript(prompt))
        return "".join(f"{message['role']}: {message['content']}\n" for message in self._messages(prompt))

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        messages = to_messages(prompt, prefill=True)
        return [message | {"content": self._control_tokens.escape(message["content"])} for message in messages]

    def _build_call(self, request: Request) -> dict[str, Any]:
        """Return the arguments for llama.cpp that do not depend on the slot.

        Raises:
            RequestRefused, UnknownOption, BadOption: the request is not supported.
        """
        if request.prompt.images:
            raise RequestRefused(f"{self._about.model} cannot see images. Leave them out of the prompt.")
        if request.draft is not None:
            raise RequestRefused(f"{self._about.model} cannot edit a draft. Put the text into the prompt's facts.")
        options = check_options(request.options, SAMPLING, "The llama.cpp engine")
        if request.schema is not None:
            if options["grammar"] is not None:
                raise RequestRefused("A request has a schema or a grammar, not both. Leave one out.")
            if request.prompt.opening.strip():
                raise RequestRefused("A request with a schema cannot have an opening. Leave it out.")
            options |= {key: value for key, value in _SCHEMA_DEFAULTS.items() if key not in request.options}
            options["grammar"] = grammar_from_schema(request.schema)
        call = {key: value for key, value in options.items() if value is not None}
        call = self._tuned(call, request)
        # A grammar compares texts: control tokens match it wherever it allows any character.
        bans = self._grammar_bans if "grammar" in call else self._bans
        call["logit_bias"] = [*call.get("logit_bias", ()), *bans]
        if self._about.abilities.instruct:
            return call | {
                "messages": self._messages(request.prompt),
                "chat_template_kwargs": {"enable_thinking": False},
            }
        return call | {"prompt": self._prompt_text(request.prompt)}

    def _tuned(self, call: dict[str, Any], request: Request) -> dict[str, Any]:
        """Return the arguments with what restricts a base model to the form of the examples.

        Options of the request win.
        """
        if self._about.abilities.instruct:
            return call
        tuned = transcript_sampling(request.prompt, schema=request.schema)
        return call | {key: value for key, value in tuned.items() if key not in request.options}

    def _budget(self, request: Request) -> int:
        """Return the maximum number of tokens to generate.

        Raises:
            PromptTooLong: no room remains for a prompt.
        """
        budget = request.budget(CANVAS_LENGTH)
        if budget >= self._about.context:
            raise PromptTooLong(
                f"{budget:,} tokens of text do not fit into the context of {self._about.context:,} tokens. "
                f"Ask for fewer canvases, or open the engine with a larger context."
            )
        return budget

    def _start(
        self,
        request: Request,
        call: dict[str, Any],
        budget: int,
        slot: Slot,
        queued: float,
        *,
        is_warming: bool = False,
    ) -> Completion:
        """Start the work in a thread that releases the slot at its end."""
        base = not self._about.abilities.instruct
        seed = secrets.randbelow(2**32 - 1) if request.seed is None else request.seed
        call |= {
            "stream": True,
            # Results of different batches differ in the last bits, and then in the words. With a seed, the prompt
            # is always evaluated from its first token, so that the text is reproducible.
            "cache_prompt": request.seed is None,
            "timings_per_token": True,
            "return_progress": True,
            "max_tokens": budget,
            "id_slot": slot.number,
            "seed": seed % (2**32 - 1),  # the largest means "random" to llama.cpp
        }
        ends = transcript_stops(request.prompt) if base and request.schema is None else ()
        loop = asyncio.get_running_loop()

        server, saved, prefix = self._server, self._saved, slot.prefix or ""
        on_end = self._on_thread_end

        def work(completion: Completion) -> None:
            nonlocal server
            try:
                if server is None:
                    raise EngineClosed("The engine was closed before the generation started.")
                if saved is not None and call["cache_prompt"] and not slot.is_evaluated:
                    slot.is_evaluated = saved.restore(slot.number, prefix)
                (server.handle_completions if base else server.handle_chat_completions)(call, completion.on_chunk)
                if is_warming and saved is not None and completion.is_evaluated:
                    saved.save(slot.number, prefix)  # the slot is not released yet
            except EngineError as error:
                completion.fail(error)
            except Exception as error:
                completion.fail(GenerationFailed(f"llama.cpp failed: {error}. Try again."))
            finally:
                server = None  # the model is freed with the last reference
                completion.finish()
                with contextlib.suppress(RuntimeError):  # the event loop is closed
                    loop.call_soon_threadsafe(on_end, completion)

        completion = Completion(
            loop,
            TextFrames(request.prompt.opening, ends, request.stop, CANVAS_LENGTH, budget),
            context=self._about.context,
            budget=budget,
            queued=queued,
            seed=seed,
            work=work,
        )
        self._completions.add(completion)
        self._acquired[completion] = slot
        try:
            completion.start()
        except RuntimeError as error:  # the system allows no more threads
            self._on_thread_end(completion)
            raise GenerationFailed(f"No thread could be started: {error}. Try again later.") from error
        return completion

    def _on_thread_end(self, completion: Completion) -> None:
        """Forget a completion whose thread has ended."""
        completion.ended.set()
        self._completions.discard(completion)
        self._release_slot(completion)

    def _release_slot(self, completion: Completion) -> None:
        """Release the slot of a completion, once."""
        slot = self._acquired.pop(completion, None)
        if slot is not None:
            slot.is_evaluated = slot.is_evaluated or completion.is_evaluated
            self._slots.release(slot)


def _bans(head: GGUFHeader, except_in: str = "") -> list[tuple[int, bool]]:
    """Return biases, for llama.cpp, with which a text has no control tokens except those that end it.

    Args:
        head: the header of the model.
        except_in: control tokens in this text remain allowed.
    """
    return [
        (number, False)
        for token, number in head.control_tokens.items()
        if token not in head.end_tokens and token not in except_in
    ]


def _join_and_free(completions: Sequence[Completion], server: list[Any]) -> None:
    """Wait for the threads, which stop at their next token, and free the model."""
    for completion in completions:
        completion.join()
    server.clear()


_open_engines: weakref.WeakSet[LlamaCppEngine] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop all threads before the interpreter shuts down."""
    for engine in list(_open_engines):
        engine.stop()
