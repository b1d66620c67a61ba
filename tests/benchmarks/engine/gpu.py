"""Check the diffusion engine on the GPUs of this machine: what tests on a CPU can only predict.

The full architecture gets random weights, so nothing is downloaded. Each weight format runs in a process of its own, so
that a crash costs one column of the table. On a CPU the same code runs at a small size, and says what was not checked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from tests.benchmarks.engine.bench_model import FULL, BenchModel, ModelSpec, open_bench_model
from tests.benchmarks.engine.machine import describe_machine
from tests.benchmarks.engine.random_weights import full_size_config, write_config
from tests.benchmarks.engine.runners import EngineRunner, ReferenceRunner, random_prompt, run_until, synchronize

from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.diffusion_gemma.memory import memory_needs, prefill_bytes, step_bytes, weight_bytes
from unwritten_engine.diffusion.diffusion_gemma.model_config import ModelConfig, read_model_config
from unwritten_engine.diffusion.diffusion_gemma.quantization import PackedExperts
from unwritten_engine.diffusion.loading import devices
from unwritten_engine.diffusion.loading.memory_plan import PREFILL_CHUNK, gigabytes, required_bytes
from unwritten_engine.diffusion.token_chunk import TokenChunk, to_tensor

ROOT: Final = Path(__file__).parents[3]
KINDS: Final = ("bf16", "int8", "nf4", "float32")
FLOAT32_LAYERS: Final = 2
"""Layers of the model in float32, which would not fit otherwise."""
SMALL: Final = {
    "canvas": 16, "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 128, "moe_intermediate_size": 64,
    "num_hidden_layers": 2, "num_experts": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_global_key_value_heads": 1, "head_dim": 32, "global_head_dim": 64,
}  # fmt: skip
"""Sizes with which everything takes seconds."""
ROWS: Final = (1, 4, 16)
PREFILL: Final = 4096
"""Tokens of a long prompt."""
MIN_SECONDS: Final = 60.0
"""A format is left out if less time remains."""


class BucketedGraphs(CUDAGraphs):
    """Runs steps in the buckets of CUDA graphs without capturing them, for comparison."""

    def run(self, key: Any, work: Callable[[], None]) -> None:
        work()

    def capture(self, key: Any, work: Callable[[], None]) -> None:
        """Do nothing."""


def check_gpus(
    *,
    minutes: float = 8.0,
    device: str | None = None,
    small: bool = False,
    progress: Callable[[str], None] = lambda doing: None,
) -> list[dict[str, Any]]:
    """Check all GPUs, or the CPU if there is none.

    Args:
        minutes: time limit. What does not fit is reported as left out.
        device: torch's name of the only device to check.
        small: check small sizes.
        progress: gets the current measurement.

    Returns:
        One dictionary per device: "device", "name", "machine", "kinds" (results by weight format, each with "problem"
        if it could not be checked), "vllm_ms" and "vllm".
    """
    end = time.monotonic() + 60 * minutes
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [device] if device else [f"cuda:{number}" for number in range(count)] or ["cpu"]
    found = []
    for number, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - number)
        limit = time.monotonic() + share
        on_cpu = torch.device(name).type == "cpu"
        kinds = {}
        for kind, left in zip(KINDS, range(len(KINDS) + (not on_cpu), 0, -1), strict=False):
            progress(f"{name}: {kind}")
            kinds[kind] = _in_process(name, kind, small or on_cpu, *_share_time(limit, left))
        progress(f"{name}: vLLM")
        ms, why = (None, "needs a GPU") if on_cpu else vllm_step_ms(name, limit - time.monotonic())
        where = torch.device(name)
        found.append(
            {
                "device": name, "name": devices.describe_device(where), "machine": describe_machine(where),
                "small": small or on_cpu, "kinds": kinds, "vllm_ms": ms, "vllm": why,
            }
        )  # fmt: skip
    return found


def _share_time(limit: float, left: int) -> tuple[float, float]:
    """Divide the remaining time between formats.

    Args:
        limit: when all must have ended.
        left: formats that are not checked yet, vLLM included.

    Returns:
        When the next one should end, and when it is stopped, so that the others get ``MIN_SECONDS`` each.
    """
    now = time.monotonic()
    remaining = limit - now
    share = max(remaining / left, min(MIN_SECONDS, remaining))
    return now + share, now + max(share, remaining - MIN_SECONDS * (left - 1))


def _in_process(device: str, kind: str, small: bool, end: float, stop: float) -> dict[str, Any]:
    """Check a format in a process of its own.

    Args:
        device: torch's name of the device.
        kind: the format.
        small: use small sizes.
        end: when it should end. Parts that come last are left out then.
        stop: when it is stopped.
    """
    seconds = end - time.monotonic()
    if seconds < (0 if small else MIN_SECONDS):
        return {"problem": "left out: no time"}
    code = f"import sys; from {__name__} import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", code, device, kind, str(int(small)), str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=max(1.0, stop - time.monotonic())
        )
    except subprocess.TimeoutExpired:
        return {"problem": "took too long"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"problem": f"failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def main(device: str, kind: str, small: str, seconds: str) -> None:
    """Check one weight format and print the results as JSON."""
    print(json.dumps(check_kind(torch.device(device), kind, small=small == "1", seconds=float(seconds))))


@torch.inference_mode()
def check_kind(device: torch.device, kind: str, *, small: bool, seconds: float) -> dict[str, Any]:
    """Check one weight format on a device.

    Args:
        device: the device.
        kind: "bf16", "int8", "nf4" or "float32".
        small: use small sizes.
        seconds: parts that come last are left out after this time.
    """
    end = time.monotonic() + seconds
    sizes: dict[str, int] = dict(SMALL) if small else {}
    if kind == "float32":
        sizes["num_hidden_layers"] = FLOAT32_LAYERS
    config = read_model_config(full_size_config(**sizes), "the full architecture")
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    free, needed = devices.free_bytes(device), required_bytes(memory_needs(config), kind)
    if needed > free:
        return {"problem": f"does not fit: {gigabytes(needed)} of {gigabytes(free)}"}
    start = time.monotonic()
    subject = open_bench_model(ModelSpec(FULL, device=str(device), kind=kind, sizes=sizes))
    synchronize(device)
    result: dict[str, Any] = {
        "problem": "",
        "load_s": round(time.monotonic() - start, 1),
        "weights": [subject.weight_bytes, weight_bytes(config, kind)],
        "prefill": [None, prefill_bytes(config, kind, PREFILL)],
        "rows": {},
        "errors": [],
    }

    def attempt(name: str, work: Callable[[], Any], into: dict[Any, Any] = result, key: Any = None) -> None:
        """Store a result. An error costs only this one."""
        if result["rows"] and time.monotonic() > end - 20:
            return
        try:
            into[key or name] = work()
        except Exception as error:
            result["errors"].append(f"{name}: {(str(error).strip() or repr(error)).splitlines()[0]}")

    attempt("floor_ms", lambda: round(1000 * touched_bytes(subject) / read_bandwidth(device), 2))
    attempt("experts_error", lambda: experts_error(subject))
    if on_gpu:
        attempt("prefill", lambda: [_prefill_peak(subject), prefill_bytes(config, kind, PREFILL)])
    for rows in ROWS:
        if required_bytes(memory_needs(config), kind, rows) <= free:
            check = partial(_check_rows, subject, config, rows, small)
            attempt(f"{rows} canvases", check, result["rows"], rows)
    attempt("alone_equals_batch", lambda: alone_equals_batch(subject, small))
    attempt("generate_ms", lambda: _generate_ms(subject))
    return result


def _generate_ms(subject: BenchModel) -> float:
    """Return the milliseconds of a step of ``generate()`` of transformers."""
    seconds = ReferenceRunner(subject).steps([random_prompt(subject, 64, 0)], 4)
    return round(1000 * statistics.median(seconds), 2)


def _check_rows(subject: BenchModel, config: ModelConfig, rows: int, small: bool) -> dict[str, Any]:
    """Compare captured steps with others, and the memory with the plan."""
    device, on_gpu = subject.device, subject.device.type == "cuda"
    context, steps = (64, 3) if small else (4096, 8)
    prompts = [random_prompt(subject, context // 2, seed) for seed in range(rows)]
    plain = EngineRunner(subject, rows=rows, context=context, graphs=BucketedGraphs())
    _timed(plain, prompts, 2)
    allocated = torch.cuda.memory_allocated(device) if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    plain.runner.step(rows, context, equal_lengths=False, constrained=False)
    found: dict[str, Any] = {
        "not_finite": _count_not_finite(plain, rows, context // 2),
        "step": [None, step_bytes(config, rows, subject.kind)],
        "graph": None,
    }
    if on_gpu:
        found["step"][0] = torch.cuda.max_memory_allocated(device) - allocated
    plain_ms, wanted = _timed(plain, prompts, steps)
    found |= {"plain_ms": plain_ms, "captured_ms": None, "equal": None, "captured": 0, "failures": []}
    del plain
    if not on_gpu:
        return found
    torch.cuda.empty_cache()
    before = torch.cuda.mem_get_info(device)[0]
    graphs, start = CUDAGraphs(), time.monotonic()
    engine = EngineRunner(subject, rows=rows, context=context, graphs=graphs)
    synchronize(device)
    found["capture_s"] = round(time.monotonic() - start, 1)
    torch.cuda.empty_cache()
    found["graph"] = before - torch.cuda.mem_get_info(device)[0] - engine.model.cache.nbytes
    captured_ms, outputs = _timed(engine, prompts, steps)
    found |= {"captured_ms": captured_ms, "equal": outputs == wanted, "captured": graphs.captured}
    found["failures"] = sorted(set(graphs.failures.values()))
    return found


def _timed(engine: EngineRunner, prompts: list[tuple[int, ...]], steps: int) -> tuple[float, list[list[int]]]:
    """Return the milliseconds of a step, as the loop runs them, and the tokens."""
    runs = [engine.run(tokens, steps=steps, seed=seed) for seed, tokens in enumerate(prompts)]
    engine.loop.prefill_tokens = sum(map(len, prompts))  # all begin in the same step, so that all end in the same
    for run in runs:
        engine.loop.add(run)
    while len(engine.loop.running) < len(runs):
        engine.loop.step()
    synchronize(engine.subject.device)
    left, start = int(engine.runner.steps_left[: len(runs)].max()), time.perf_counter()
    run_until(engine, [])
    synchronize(engine.subject.device)
    return round(1000 * (time.perf_counter() - start) / max(1, left), 2), [run.output_ids for run in runs]


def _count_not_finite(engine: EngineRunner, rows: int, length: int) -> int:
    runner = engine.runner
    hidden = engine.model.decode(
        runner.tokens[:rows], engine.rule.soft_embeddings[:rows], runner.lengths[:rows], length, padded=True
    )
    logits = torch.mm(hidden[0], engine.rule.head.weight[:4096].t())
    return int((~hidden.isfinite()).sum() + (~logits.isfinite()).sum())


def _prefill_peak(subject: BenchModel) -> int:
    """Return the peak bytes of reading a prompt."""
    engine = EngineRunner(subject, rows=1, context=PREFILL, graphs=BucketedGraphs())
    tokens = random_prompt(subject, PREFILL, 1)
    before = torch.cuda.memory_allocated(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    for start in range(0, PREFILL, PREFILL_CHUNK):
        ids = to_tensor(tokens[start : start + PREFILL_CHUNK], subject.device)
        engine.runner.model.encode(TokenChunk(0, start, ids))
    return torch.cuda.max_memory_allocated(subject.device) - before


def experts_error(subject: BenchModel) -> float:
    """Return the largest difference of one layer's experts from running them one after the other, relative."""
    experts, config = subject.model.model.decoder.layers[0].experts, subject.model.config.text_config
    made = torch.Generator(subject.device).manual_seed(0)
    states = torch.randn(64, config.hidden_size, generator=made, device=subject.device, dtype=subject.dtype)
    weights, chosen = (
        torch.randn(64, config.num_experts, generator=made, device=subject.device)
        .softmax(-1)
        .topk(config.top_k_experts)
    )
    found = experts(states, chosen, weights).float()
    if isinstance(experts, PackedExperts):
        wanted = experts._looped(states, chosen, weights).float()
    else:
        eager: Any = type(experts).forward.__wrapped__
        wanted = eager(experts, states, chosen, weights).float()
    return float((found - wanted).abs().max() / wanted.abs().max())


def alone_equals_batch(subject: BenchModel, small: bool, rows: int = 8) -> list[int]:
    """Return how many of some canvases have the same tokens alone and in a batch, and how many there are."""
    length, steps = (16, 3) if small else (256, 8)
    engine = EngineRunner(subject, rows=rows, context=4 * length, graphs=BucketedGraphs())
    runs = [[engine.run(random_prompt(subject, length, n), steps=steps, seed=n) for n in range(rows)] for _ in range(2)]
    for run in runs[0]:
        run_until(engine, [run])
    run_until(engine, runs[1])
    return [sum(one.output_ids == two.output_ids for one, two in zip(*runs, strict=True)), rows]


def touched_bytes(subject: BenchModel) -> int:
    """Return the bytes of weights that a step reads at least: the decoder, with its embedding table once."""
    seen = {}
    decoder = subject.model.model.decoder
    for tensor in (*decoder.parameters(), *decoder.buffers()):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def read_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Return the memory bandwidth in bytes per second, for reading or copying a tensor larger than any cache."""
    numbers = torch.ones((512 if device.type == "cuda" else 64) * 1024**2, device=device)
    target = torch.empty_like(numbers)

    def read() -> object:
        return numbers.sum()

    def copy() -> object:
        return target.copy_(numbers)

    best = 0.0
    for work, size in ((read, numbers.nbytes), (copy, 2 * numbers.nbytes)):
        seconds = []
        for _ in range(repeats):
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            seconds.append(time.perf_counter() - start)
        best = max(best, size / statistics.median(seconds[1:]))
    return best


_VLLM: Final = """
import sys, time, statistics, torch
import vllm.model_executor.models.diffusion_gemma as theirs
from vllm import EngineArgs, SamplingParams
from vllm.v1.engine.llm_engine import LLMEngine

times = []
base = theirs.DiffusionSampler.__call__

def call(self, *given, **named):
    out = base(self, *given, **named)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times.append(time.perf_counter())
    return out

theirs.DiffusionSampler.__call__ = call
engine = LLMEngine.from_engine_args(EngineArgs(
    sys.argv[1], load_format="dummy", max_model_len=4096, max_num_seqs=4, limit_mm_per_prompt={"image": 0}))
engine.add_request("one", {"prompt_token_ids": list(range(700, 764))}, SamplingParams(max_tokens=512))
while engine.has_unfinished_requests():
    engine.step()
steps = [end - begin for begin, end in zip(times, times[1:])]
print(1000 * statistics.median(steps[len(steps) // 2:]))
"""


def vllm_step_ms(device: str, seconds: float) -> tuple[float | None, str]:
    """Return the milliseconds of a step of vLLM in bf16 with random weights, or None and why there are none."""
    if importlib.util.find_spec("vllm") is None:
        return None, "not installed"
    if seconds < MIN_SECONDS:
        return None, "left out: no time"
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        write_config(Path(folder), full_size_config())
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device.rpartition(":")[2]}
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        try:
            done = subprocess.run(
                [sys.executable, "-c", _VLLM, folder], capture_output=True, text=True, timeout=seconds, env=environment
            )
        except subprocess.TimeoutExpired:
            return None, "took too long"
    if done.returncode:
        return None, f"failed: {(done.stderr.strip().splitlines() or ['no output'])[-1][:200]}"
    return round(float(done.stdout.strip().splitlines()[-1]), 2), ""


def table(found: dict[str, Any]) -> list[str]:
    """Return the results of a device as the lines of a Markdown table."""
    kinds: dict[str, dict[str, Any]] = found["kinds"]
    lines = [f"| | {' | '.join(kinds)} |", f"|---{'|---' * len(kinds)}|"]

    def add(label: str, value: Callable[[dict[str, Any]], str]) -> None:
        cells = ["-" if result["problem"] else value(result) for result in kinds.values()]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")

    add("weights: measured and planned", lambda result: _pair(result["weights"]))
    add("error of the experts against one after the other", lambda result: _number(result, "experts_error", ".1e"))
    add("reading a prompt: measured and planned", lambda result: _pair(result["prefill"]))
    for rows in ROWS:

        def row(key: str, show: Callable[[Any], str], rows: int = rows) -> Callable[[dict[str, Any]], str]:
            def value(result: dict[str, Any]) -> str:
                part = result["rows"].get(str(rows), result["rows"].get(rows))
                return "-" if part is None or part[key] is None else show(part[key])

            return value

        many = f"{rows} canvas{'es' * (rows > 1)}"
        add(f"{many}: step, captured", row("captured_ms", lambda ms: f"{ms} ms"))
        add(f"{many}: step, not captured", row("plain_ms", lambda ms: f"{ms} ms"))
        add(f"{many}: captured equals not captured", row("equal", lambda equal: "yes" if equal else "**no**"))
        add(f"{many}: captured sizes", row("captured", lambda count: str(count) if count else "-"))
        add(f"{many}: failed captures", row("failures", lambda causes: "; ".join(causes) or "-"))
        add(f"{many}: memory of a step, measured and planned", row("step", _pair))
        add(f"{many}: memory of the graphs", row("graph", lambda size: gigabytes(size)))
        add(f"{many}: numbers that are not finite", row("not_finite", str))
    add("canvases that are the same alone and in a batch of 8", lambda result: _of(result.get("alone_equals_batch")))
    add("lower bound of a step by bandwidth", lambda result: _number(result, "floor_ms"))
    add("one canvas: step of generate()", lambda result: _number(result, "generate_ms"))
    for kind, result in kinds.items():
        problems = [result["problem"], *result.get("errors", ())]
        lines += [f"\n{kind}: {problem.rstrip('.')}." for problem in problems if problem]
    vllm = f"{found['vllm_ms']} ms, bf16, one canvas" if found["vllm_ms"] is not None else found["vllm"]
    return [*lines, "", f"A step of vLLM: {vllm}. In float32 the model has {FLOAT32_LAYERS} layers."]


def not_checked(found: dict[str, Any]) -> str:
    """Return what could not be checked on this device; empty if everything was."""
    if torch.device(found["device"]).type != "cpu":
        return ""
    return (
        "Not checked, because torch finds no GPU: CUDA graphs, the Triton kernel, measured memory against the plan, "
        "step times of the full size, and vLLM. The table is of a small model."
    )


def _pair(pair: list[int | None]) -> str:
    measured, planned = pair
    return "-" if measured is None or planned is None else f"{gigabytes(measured)}, {gigabytes(planned)}"


def _number(result: dict[str, Any], key: str, style: str = "") -> str:
    unit = " ms" if key.endswith("_ms") else ""
    return f"{result[key]:{style}}{unit}" if key in result else "-"


def _of(pair: list[int] | None) -> str:
    return "-" if pair is None else f"{pair[0]} of {pair[1]}"
