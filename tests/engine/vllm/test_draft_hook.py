"""The plugin on a sampler of this test, without vLLM."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("zmq")
from unwritten_engine.vllm import draft_hook  # noqa: E402
from unwritten_engine.vllm.constraints import extra_args  # noqa: E402
from unwritten_engine.vllm.draft_channel import ChannelSettings, unpack_draft  # noqa: E402

VOCABULARY, WIDTH = 20, 4
SETTINGS = ChannelSettings("ipc:///nowhere", "a shared secret of this test")


class Writer:
    """A socket that keeps what is sent, and may be slow."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.seconds = 0.0

    def send(self, request_id: str, message: bytes) -> None:
        time.sleep(self.seconds)
        self.sent.append((request_id, message))


class Sampler:
    """Three request slots, of which the batch has the last two: one denoises, the other reads its prompt."""

    def __init__(self) -> None:
        self.diffusion_states = SimpleNamespace(
            argmax_canvas=torch.tensor([[0] * WIDTH, [5, 6, 7, 8], [9] * WIDTH]),
            canvas=torch.tensor([[0] * WIDTH, [5, 1, 7, 2], [9] * WIDTH]),
            step=torch.tensor([0, 3, 0], dtype=torch.int32),
            vocab_size=VOCABULARY,
            device=torch.device("cpu"),
        )
        self.batch = SimpleNamespace(
            req_ids=["page", "other"],
            num_reqs=2,
            num_draft_tokens=WIDTH,
            idx_mapping=torch.tensor([1, 2], dtype=torch.int32),
            idx_mapping_np=torch.tensor([1, 2]).numpy(),
            cu_num_logits_np=torch.tensor([0, WIDTH, WIDTH]).numpy(),
        )


@pytest.fixture
def sampler() -> Sampler:
    return Sampler()


@pytest.fixture
def plugin(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(draft_hook, "_is_tp_rank_0", lambda: True)
    monkeypatch.setattr(draft_hook, "DraftWriter", Writer)
    return draft_hook.SamplerPlugin(sampler, SETTINGS)


def writer_of(plugin: Any) -> Writer:
    writer: Writer = plugin._publisher._writer
    return writer


def wait_until_sent(plugin: Any, count: int) -> list[tuple[str, bytes]]:
    end = time.monotonic() + 10
    while len(writer_of(plugin).sent) < count and time.monotonic() < end:
        time.sleep(0.01)
    return writer_of(plugin).sent


def test_a_step_publishes_the_canvases_that_were_denoised(plugin: Any, sampler: Sampler) -> None:
    plugin.after_step(sampler.batch)
    [(request_id, message)] = wait_until_sent(plugin, 1)
    draft = unpack_draft(message)
    assert request_id == "page" and draft is not None and draft.step == 3
    assert list(draft.ids) == [5, 6, 7, 8]
    assert list(draft.accepted) == [True, False, True, False]
    sampler.diffusion_states.step[1] = 0  # it was committed
    plugin.after_step(sampler.batch)
    while plugin._publisher._waiting is not None:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(writer_of(plugin).sent) == 1


def test_the_newest_step_replaces_those_that_were_not_sent(plugin: Any, sampler: Sampler) -> None:
    writer_of(plugin).seconds = 0.3
    start = time.monotonic()
    for step in range(1, 50):
        sampler.diffusion_states.step[1] = step
        plugin.after_step(sampler.batch)
    assert time.monotonic() - start < 0.3, "a step waits for no reader"
    steps: list[int] = []
    end = time.monotonic() + 5
    while (not steps or steps[-1] != 49) and time.monotonic() < end:
        time.sleep(0.05)
        steps = [draft.step for _, message in writer_of(plugin).sent if (draft := unpack_draft(message))]
    assert steps[-1] == 49 and len(steps) < 10


def test_constraints_change_the_logits_of_their_request_only(plugin: Any, sampler: Sampler) -> None:
    arguments = extra_args([3, 0, 0, 0], [3, -1, -1, -1], [], [])
    plugin.add_request(1, SimpleNamespace(extra_args=arguments))
    logits = torch.zeros(WIDTH, VOCABULARY)
    plugin.before_step(logits, sampler.batch)
    assert logits[0].softmax(-1)[3] == 1 and not logits[1:].any()
    plugin.add_request(1, SimpleNamespace(extra_args=None))  # the slot has another request now
    logits.zero_()
    plugin.before_step(logits, sampler.batch)
    assert not logits.any()


def test_faults_of_the_plugin_never_reach_vllm(
    plugin: Any, sampler: Sampler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin.add_request(1, SimpleNamespace(extra_args={"unwritten_mask_ids": "nonsense"}))
    plugin.add_request(1, SimpleNamespace(extra_args=extra_args([99, 0, 0, 0], [99, -1, -1, -1], [], [])))
    plugin.before_step(torch.zeros(WIDTH, VOCABULARY), sampler.batch)
    assert "The constraints of a request are ignored" in caplog.text
    del sampler.diffusion_states.argmax_canvas
    plugin.after_step(sampler.batch)
    assert "Drafts are off from now on" in caplog.text
    plugin.after_step(sampler.batch)

    def fail(settings: ChannelSettings) -> Any:
        raise OSError("the address is in use")

    monkeypatch.setattr(draft_hook, "DraftWriter", fail)
    draft_hook.SamplerPlugin(Sampler(), SETTINGS).after_step(sampler.batch)
    assert "Drafts are off: the address is in use" in caplog.text


def test_without_an_address_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNWRITTEN_DRAFTS", raising=False)
    monkeypatch.setattr(draft_hook, "find_missing", lambda: pytest.fail("vLLM was imported"))
    draft_hook.install()


@pytest.mark.parametrize(
    ("version", "missing", "message"),
    [
        ("0.33.0", [], 'does not support vLLM 0.33.0. Type: pip install "vllm>=0.32'),
        ("0.32.0", ["a.b"], "this vLLM has no a.b"),
    ],
)
def test_an_unknown_vllm_runs_without_drafts(
    version: str, missing: list[str], message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UNWRITTEN_DRAFTS", "5557")
    monkeypatch.setenv("UNWRITTEN_DRAFTS_KEY", SETTINGS.key)
    monkeypatch.setattr(draft_hook, "installed_version", lambda: version)
    monkeypatch.setattr(draft_hook, "find_missing", lambda: missing)
    draft_hook.install()
    assert message in caplog.text
