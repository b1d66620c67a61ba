"""Files of the hub arrive whole and unchanged, or not at all, and every error says what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.model_hub import COMMIT, FakeHub, fake_hub

from unwritten_engine import hub_files
from unwritten_engine.errors import EngineError, ModelBroken, ModelNotFound
from unwritten_engine.hub_files import DownloadStopped, fetch_hub_file, local_file

REPO, NAME = "someone/Model-GGUF", "model-q4_k_m.gguf"
BODY = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(hub_files, "_PAUSE", 0.0)
    with fake_hub() as hub:
        hub.files[f"{REPO}/{NAME}"] = BODY
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def fetch(repo: str = REPO, name: str = NAME) -> Path:
    return fetch_hub_file(repo, name, lambda share, step: None)


def parts(home: Path) -> list[Path]:
    return list(home.parent.rglob("*.part"))


def test_a_download_states_size_and_folder_first_and_happens_once(hub: FakeHub) -> None:
    told: list[tuple[float, str]] = []
    path = fetch_hub_file(REPO, NAME, lambda share, step: told.append((share, step)))
    assert path.read_bytes() == BODY
    assert told[0] == (0.0, f"Downloading {NAME} from {REPO}, 5 MB, to {path.parent}")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert fetch() == path and len(hub.downloads) == 1
    assert f"GET /{REPO}/resolve/{COMMIT}/{NAME}" in hub.requests  # the version that was described


def test_a_cut_download_continues_where_it_was(hub: FakeHub) -> None:
    hub.cuts = [2_000_000, 1_000_000]
    assert fetch().read_bytes() == BODY
    assert [request.partition("bytes=")[2] for request in hub.downloads] == ["", "2000000-", "3000000-"]


def test_a_later_process_continues_a_download(hub: FakeHub, home: Path) -> None:
    hub.cuts = [3_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(ModelNotFound, match=r"ended after 3,000,000 of 5,120,000 bytes.*same command again: it cont"):
        fetch()
    assert [path.stat().st_size for path in parts(home)] == [3_000_000]
    hub.cuts.clear()
    assert fetch().read_bytes() == BODY
    assert "bytes=3000000-" in hub.downloads[-1]
    assert parts(home) == []


def test_a_server_without_ranges_starts_again(hub: FakeHub) -> None:
    hub.cuts, hub.ranges = [3_000_000], False
    assert fetch().read_bytes() == BODY


def test_the_rest_of_an_older_version_is_not_continued(hub: FakeHub, home: Path) -> None:
    hub.cuts = [3_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(ModelNotFound):
        fetch()
    hub.cuts.clear()
    hub.files[f"{REPO}/{NAME}"] = BODY[::-1]
    assert fetch().read_bytes() == BODY[::-1]
    assert parts(home) == []


def test_a_wrong_hash_is_refused_and_deleted(hub: FakeHub, home: Path) -> None:
    hub.hashes[f"{REPO}/{NAME}"] = "0" * 64
    with pytest.raises(ModelBroken, match=f"arrived damaged: its SHA-256 is .*the hub says {'0' * 64}"):
        fetch()
    assert local_file(REPO, NAME) is None and parts(home) == []


def test_a_damaged_rest_is_found_out(hub: FakeHub, home: Path) -> None:
    hub.cuts = [3_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(ModelNotFound):
        fetch()
    hub.cuts.clear()
    (part,) = parts(home)
    part.write_bytes(b"x" * 3_000_000)
    with pytest.raises(ModelBroken, match="arrived damaged"):
        fetch()
    assert fetch().read_bytes() == BODY


@pytest.mark.parametrize("size", [4_000_000, 6_000_000])
def test_a_hub_that_misreports_sizes(hub: FakeHub, size: int) -> None:
    hub.sizes[f"{REPO}/{NAME}"] = size
    with pytest.raises(ModelBroken, match=f"has {size:,} bytes, but its server sends 5,120,000 bytes"):
        fetch()
    assert local_file(REPO, NAME) is None


def test_a_hub_without_a_hash(hub: FakeHub) -> None:
    hub.hashes[f"{REPO}/{NAME}"] = ""
    with pytest.raises(ModelBroken, match="does not state the size and the SHA-256"):
        fetch()
    assert hub.downloads == []


def test_a_full_disk_is_reported_before_the_download(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(EngineError, match=r"The disk is full: .* needs 5 MB in .*XDG_CACHE_HOME"):
        fetch()
    assert hub.downloads == []


def test_a_disk_that_fills_up_keeps_what_arrived(hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = hub_files._write, 0

    def full(output: object, block: bytes) -> None:
        nonlocal written
        written += len(block)
        if written > 3 << 20:
            raise hub_files._WriteFailed(28, "No space left on device")
        write(output, block)  # type: ignore[arg-type]

    monkeypatch.setattr(hub_files, "_write", full)
    with pytest.raises(EngineError, match="The disk is full"):
        fetch()
    assert [path.stat().st_size for path in parts(home)] == [3 << 20]
    monkeypatch.setattr(hub_files, "_write", write)
    assert fetch().read_bytes() == BODY
    assert len(hub.downloads) == 2


def test_a_missing_file_and_a_missing_repository(hub: FakeHub) -> None:
    with pytest.raises(ModelNotFound, match=f"The repository {REPO} has no file none.gguf. See its files at"):
        fetch(name="none.gguf")
    with pytest.raises(ModelNotFound, match=r"There is no repository someone/none at .*renamed or removed"):
        fetch("someone/none")


def test_a_renamed_repository_is_followed(hub: FakeHub) -> None:
    hub.renamed["old/Model-GGUF"] = REPO
    assert fetch("old/Model-GGUF").read_bytes() == BODY


def test_a_gated_repository_needs_a_token_that_only_the_hub_sees(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated[REPO] = "secret"
    with pytest.raises(ModelNotFound, match=f"behind a licence. Accept it at {hub.endpoint}/{REPO}, and set HF_TOKEN"):
        fetch()
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert fetch().read_bytes() == BODY
    assert hub.downloads and not any("secret" in request for request in hub.downloads)


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        ModelNotFound, match=r"cannot be downloaded from http://127.0.0.1:1.*'embedded' needs no network"
    ):
        fetch()


def test_offline_downloads_nothing_and_opens_what_is_here(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch().read_bytes() == BODY
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        fetch(name="other.gguf")


def test_all_parts_of_a_split_model_are_downloaded(hub: FakeHub) -> None:
    for number in (1, 2, 3):
        hub.files[f"{REPO}/big-0000{number}-of-00003.gguf"] = BODY[:1000] * number
    path = fetch(name="big-00001-of-00003.gguf")
    assert [file.stat().st_size for file in sorted(path.parent.glob("big-*"))] == [1000, 2000, 3000]


def test_the_cache_of_huggingface_hub_is_used(hub: FakeHub, home: Path) -> None:
    cache = home.parent / "home" / "huggingface" / "hub" / "models--someone--Model-GGUF"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    (cache / "snapshots" / COMMIT / NAME).write_bytes(b"from the cache")
    assert fetch().read_bytes() == b"from the cache"
    assert hub.requests == []


PROGRAM = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background commands ignore it
from unwritten_engine.hub_files import fetch_hub_file
told = []
def progress(share, step):
    if not told or told[-1] != step:
        told.append(step)
        print(step, flush=True)
print(fetch_hub_file({REPO!r}, {NAME!r}, progress))
"""


def test_two_processes_download_a_file_once(hub: FakeHub) -> None:
    hub.cuts = [2_000_000] + [1] * 3  # the first one takes some seconds
    running = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert Path(said[0].splitlines()[-1]).read_bytes() == BODY
    assert "waiting for it" in "".join(said)
    assert sum("Downloading" in text for text in said) == 1


def test_ctrl_c_keeps_what_arrived_and_says_how_to_continue(hub: FakeHub, home: Path) -> None:
    hub.cuts = [3_000_000] + [0] * 3
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size == 3_000_000 for path in parts(home)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "DownloadStopped: Stopped. 3 MB of 5 MB are kept in" in errors and "the same command continues." in errors
    hub.cuts.clear()
    assert fetch().read_bytes() == BODY
    assert issubclass(DownloadStopped, KeyboardInterrupt)
