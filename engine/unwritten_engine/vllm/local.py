"""vLLM on this machine. Its model runs in processes of its own; this process has its client, in a thread.

If vLLM's processes die, the requests that run report it, and the next request starts vLLM again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final

from ..errors import EngineClosed, GenerationFailed, MissingPackage, ModelUnsupported, RequestRefused
from .backend import CanvasRequest, FinishedCanvas, OnDraft, StepDraft
from .draft_channel import (
    ADDRESS_VARIABLE,
    KEY_VARIABLE,
    ChannelSettings,
    address_of_machine,
    connect_reader,
    make_reader,
    new_key,
    unpack_draft,
)
from .internals import vllm_object

log = logging.getLogger("unwritten_engine")
_PLUGIN: Final = "unwritten_drafts"
"""Name of the entry point."""
_RAY_COPIES: Final = "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"
"""Names of variables that vLLM copies to its processes on other machines."""
_CONNECT_SECONDS: Final = 30
"""How long the plugin may take to connect after vLLM has started."""


class LocalVLLM:
    """A vLLM that this process has started. See ``Backend``.

    Args:
        engine_args: of vLLM's ``AsyncEngineArgs``.
        scratch: a temporary folder with the model, removed at the end; None for none.

    Raises:
        ModelUnsupported: vLLM cannot load the model.
        MissingPackage: vLLM runs without the plugin.
    """

    def __init__(self, engine_args: Mapping[str, Any], scratch: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self._engine_args, self._scratch = dict(engine_args), scratch
        self._folder = tempfile.TemporaryDirectory(prefix="unwritten-")  # only this user can enter it
        self._on_ray = engine_args.get("distributed_executor_backend") == "ray"
        address = f"ipc://{self._folder.name}/drafts"
        if self._on_ray:  # the process with the sampler may be on another machine
            address = address_of_machine(vllm_object("vllm.utils.network_utils.get_ip")())
        self._channel = ChannelSettings(address, new_key())
        self._prefix = f"uw-{secrets.token_hex(4)}-"
        self._numbers = itertools.count(1)
        self._callbacks: dict[str, Callable[[StepDraft], None]] = {}
        self._closed = False
        self._client: Any = None
        self._loop = asyncio.new_event_loop()
        self._restarting: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="unwritten-vllm", daemon=True)
        self._thread.start()
        try:
            self._call(self._listen()).result()
            self._start()
            self._call(self._check_writer()).result()
        except BaseException:
            self._stop()
            raise

    async def write_canvas(self, request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        """See ``Backend.write_canvas``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        here, ended = asyncio.get_running_loop(), asyncio.Event()
        wanted = True

        def deliver(draft: StepDraft) -> None:
            if wanted:
                on_draft(draft)

        def pass_on(draft: StepDraft) -> None:
            _call_in(here, deliver, draft)

        async def work() -> FinishedCanvas:
            try:
                return await self._write(request, pass_on)
            finally:
                _call_in(here, ended.set)

        future = self._call(work())
        try:
            finished: FinishedCanvas = await asyncio.wrap_future(future)
            return finished
        except asyncio.CancelledError:
            await ended.wait()  # until vLLM has aborted the request
            raise
        finally:
            wanted = False

    async def close(self) -> None:
        """See ``Backend.close``."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._stop)

    def _call(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _start(self) -> None:
        """Start vLLM. Takes seconds to minutes."""
        with _environment(self._channel):
            self._client = self._start_client()
        if self._closed:  # meanwhile
            self._shut_down()
            raise EngineClosed("The engine is closed. Open it again.")

    def _shut_down(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.shutdown()

    def _start_client(self) -> Any:
        client_class = vllm_object("vllm.v1.engine.async_llm.AsyncLLM")
        args_class = vllm_object("vllm.engine.arg_utils.AsyncEngineArgs")
        try:
            return client_class.from_engine_args(args_class(**self._engine_args))
        except Exception as error:
            hint = "If it says that memory is short, use a smaller context=… or parallel=…"
            if self._on_ray:
                hint = (
                    "If it says that Ray is missing or has too few GPUs, type: ray status. It lists the machines; "
                    "start Ray on the first with 'ray start --head', and on the others with "
                    "'ray start --address=FIRST:6379'"
                )
            raise ModelUnsupported(
                f"vLLM cannot run {self._engine_args['model']}: {_last_line(error)}. Its log above says why. {hint}."
            ) from error

    def _stop(self) -> None:
        """Stop vLLM and the thread."""
        self._shut_down()
        self._call(self._cancel_all()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._folder.cleanup()
        if self._scratch is not None:
            self._scratch.cleanup()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _listen(self) -> None:
        """Start to read drafts."""
        import zmq.asyncio

        context = zmq.asyncio.Context()
        socket = make_reader(context, [], self._prefix)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        connect_reader(socket, self._channel)
        self._listener = asyncio.create_task(self._read_drafts(context, socket), name="drafts")

    async def _check_writer(self) -> None:
        """Check that the plugin runs: its socket has connected."""
        if not await self._monitor.poll(1000 * _CONNECT_SECONDS):
            raise MissingPackage(
                "vLLM runs, but publishes no drafts. Its log says why. On every machine, Unwritten must be installed "
                'in the environment of vLLM: pip install "unwritten[vllm]"'
            )

    async def _read_drafts(self, context: Any, socket: Any) -> None:
        try:
            while True:
                topic, *parts = await socket.recv_multipart()
                # vLLM appends a random part to the id.
                on_draft = self._callbacks.get(topic.decode("utf-8", "replace").rpartition("-")[0])
                draft = unpack_draft(b"".join(parts)) if on_draft is not None else None
                if draft is not None and on_draft is not None:  # else a draft of a finished request
                    on_draft(draft)
        finally:
            socket.disable_monitor()
            self._monitor.close()
            socket.close()
            context.term()

    async def _write(self, request: CanvasRequest, on_draft: Callable[[StepDraft], None]) -> FinishedCanvas:
        params_class = vllm_object("vllm.SamplingParams")
        output_kind = vllm_object("vllm.sampling_params.RequestOutputKind")
        refusal: type[Exception] = vllm_object("vllm.exceptions.VLLMValidationError")
        client = await self._running_client()
        request_id = f"{self._prefix}{next(self._numbers)}"
        params = params_class(
            max_tokens=request.width,
            ignore_eos=True,  # the engine finds the end
            detokenize=False,
            output_kind=output_kind.CUMULATIVE,
            extra_args={**request.arguments(), **({"diffusion_read_only": True} if request.last else {})},
        )
        finished = FinishedCanvas([], 0)
        self._callbacks[request_id] = on_draft
        try:
            prompt = {"prompt_token_ids": list(request.prompt)}
            async with contextlib.aclosing(
                client.generate(prompt, params, request_id, priority=request.priority)
            ) as outputs:
                async for output in outputs:
                    finished = FinishedCanvas(list(output.outputs[0].token_ids), output.num_cached_tokens or 0)
        except (refusal, ValueError) as error:
            raise RequestRefused(f"vLLM refuses the request: {_last_line(error)}.") from error
        except Exception as error:
            raise GenerationFailed(
                f"vLLM failed ({_last_line(error)}). Its own messages say why. The next request starts it again."
            ) from error
        finally:
            self._callbacks.pop(request_id, None)
        return finished

    async def _running_client(self) -> Any:
        """Return the client. If vLLM has stopped unexpectedly, restart it."""
        if self._client is None or self._client.errored:
            if self._restarting is None or self._restarting.done():
                self._restarting = asyncio.create_task(self._restart(), name="vLLM restart")
            await asyncio.shield(self._restarting)  # other requests need it, even if this one is cancelled
        return self._client

    async def _restart(self) -> None:
        log.warning("vLLM has stopped unexpectedly. Restarting it.")
        await asyncio.to_thread(self._shut_down)
        await asyncio.to_thread(self._start)


@contextlib.contextmanager
def _environment(channel: ChannelSettings) -> Iterator[None]:
    """Set the variables that vLLM's processes inherit, while they are started."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # this process has threads
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order of nvidia-smi, which the checks use
    values = {ADDRESS_VARIABLE: channel.address, KEY_VARIABLE: channel.key}
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and _PLUGIN not in allowed.split(","):
        values["VLLM_PLUGINS"] = f"{allowed},{_PLUGIN}"
    copied = [os.environ.get(_RAY_COPIES, ""), ADDRESS_VARIABLE, KEY_VARIABLE]
    values[_RAY_COPIES] = ",".join(filter(None, copied))
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in another thread's event loop, unless it is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _last_line(error: Exception) -> str:
    """Return the line of an error message that says what is wrong, without pydantic's details."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("For further information")]
    return (lines[-1].partition(" [type=")[0] if lines else type(error).__name__).rstrip(".")[:400]
