"""Evaluated prompt prefixes are kept on disk, and nothing that is wrong with a file reaches a text."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from unwritten_engine import Engine, Prompt, Request, open_engine
from unwritten_engine.llamacpp import saved_prefixes
from unwritten_engine.llamacpp.engine import LlamaCppEngine
from unwritten_engine.llamacpp.saved_prefixes import SavedPrefixes, disk_usage, model_identity, open_folder

KEY = "the key"


class FakeLlama(http.server.BaseHTTPRequestHandler):
    """Saves and restores slots as llama.cpp does: files whose contents begin with "state"."""

    folder: Path
    slots: dict[str, bytes]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        slot, action = url.path.rpartition("/")[2], parse_qs(url.query)["action"][0]
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["filename"]
        status, result = 200, {"n_saved": 1, "n_restored": 1}
        if self.headers["Authorization"] != f"Bearer {KEY}":
            status = 401
        elif action == "save":
            (self.folder / name).write_bytes(self.slots.get(slot, b""))
            result = {"n_saved": len(self.slots.get(slot, b""))}
        elif (state := (self.folder / name).read_bytes()).startswith(b"state"):
            self.slots[slot] = state
        else:
            status = 400
        body = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A fake of llama.cpp, whose slot 0 holds a state."""
    folder = open_folder(tmp_path / "cache" / "prefixes")
    assert folder is not None
    slots = {"0": b"state of slot 0"}
    handler = type("Handler", (FakeLlama,), {"folder": folder, "slots": slots})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def opened(*identity: str, key: str = KEY, **options: int) -> SavedPrefixes:
            saved = SavedPrefixes(folder, identity or ("model", "version", "4096"), **options)
            saved.connect(f"http://127.0.0.1:{server.server_port}", key)
            return saved

        yield SimpleNamespace(folder=folder, slots=slots, opened=opened)
        server.shutdown()
        thread.join()


def test_a_prefix_is_restored_in_a_later_process(llama: SimpleNamespace) -> None:
    assert llama.opened().save(0, "You write an encyclopedia.")
    assert llama.opened().restore(3, "You write an encyclopedia.")
    assert llama.slots["3"] == b"state of slot 0"
    assert not llama.opened().restore(4, "You write a forum.")


@pytest.mark.parametrize(
    "identity", [("other", "version", "4096"), ("model", "newer", "4096"), ("model", "version", "2048")]
)
def test_files_of_another_model_version_or_context_are_not_used(
    llama: SimpleNamespace, identity: tuple[str, ...]
) -> None:
    llama.opened().save(0, "prefix")
    assert not llama.opened(*identity).restore(1, "prefix")
    assert llama.opened().restore(1, "prefix")


def test_only_the_owner_can_read_the_files(llama: SimpleNamespace) -> None:
    llama.opened().save(0, "prefix")
    (file,) = llama.folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert llama.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [b"", b"state of slot 1", b"state of slot", b"<html>"])
def test_damaged_files_are_deleted_and_not_restored(llama: SimpleNamespace, damage: bytes) -> None:
    llama.opened().save(0, "prefix")
    (file,) = llama.folder.iterdir()
    file.write_bytes(damage)
    assert not llama.opened().restore(1, "prefix")
    assert "1" not in llama.slots
    assert list(llama.folder.iterdir()) == []


def test_a_file_that_llama_cpp_does_not_accept_is_deleted(llama: SimpleNamespace) -> None:
    llama.slots["0"] = b"a format of another version"
    assert llama.opened().save(0, "prefix")
    assert not llama.opened().restore(1, "prefix")
    assert list(llama.folder.iterdir()) == []


def test_a_symbolic_link_is_not_followed(llama: SimpleNamespace, tmp_path: Path) -> None:
    llama.opened().save(0, "prefix")
    (file,) = llama.folder.iterdir()
    other = file.rename(tmp_path / "elsewhere")
    file.symlink_to(other)
    assert not llama.opened().restore(1, "prefix")
    assert other.exists()


@pytest.mark.parametrize("slot", [0, 7])
def test_nothing_is_left_if_saving_fails(llama: SimpleNamespace, slot: int) -> None:
    wrong_key = llama.opened(key="wrong")
    assert not (wrong_key if slot == 0 else llama.opened()).save(slot, "prefix")  # slot 7 is empty
    assert list(llama.folder.iterdir()) == []


def test_no_server_is_not_an_error(llama: SimpleNamespace) -> None:
    saved = SavedPrefixes(llama.folder, ("model",))
    saved.connect("http://127.0.0.1:1", KEY)
    assert not saved.save(0, "prefix") and not saved.restore(0, "prefix")


@pytest.mark.parametrize("answer", [[], None, {"n_saved": None, "n_restored": None}, {"n_restored": "all"}])
def test_an_unknown_answer_is_not_an_error(
    llama: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    llama.opened().save(0, "prefix")
    monkeypatch.setattr(saved_prefixes, "json", SimpleNamespace(dumps=json.dumps, loads=lambda text: answer))
    assert not llama.opened().restore(1, "prefix") and not llama.opened().save(0, "other")


def test_a_folder_that_became_read_only_is_not_an_error(
    llama: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.slots["0"] = b"a format of another version"
    llama.opened().save(0, "prefix")

    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("unlink", "replace", "chmod"):
        monkeypatch.setattr(Path, name, refuse)
    assert not llama.opened().restore(1, "prefix") and not llama.opened().save(0, "other")


def test_a_full_disk_is_left_alone(llama: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    assert not llama.opened().save(0, "prefix")
    assert list(llama.folder.iterdir()) == []


def test_the_least_recently_used_files_make_room(llama: SimpleNamespace) -> None:
    llama.slots["0"] = b"state" * 20  # 100 bytes
    saved = llama.opened(max_bytes=400)
    for number in range(4):
        saved.save(0, f"prefix {number}")
        (newest,) = llama.folder.glob(f"{saved._hash(f'prefix {number}')}-*")
        os.utime(newest, times=(time.time(), time.time() - 100 + number))
    assert saved.restore(1, "prefix 0")  # which uses it
    saved.save(0, "prefix 4")
    assert disk_usage(llama.folder) == (4, 400)
    assert [saved.restore(1, f"prefix {number}") for number in range(5)] == [True, False, True, True, True]


def test_a_file_may_not_take_all_the_room(llama: SimpleNamespace) -> None:
    llama.slots["0"] = b"state" * 20
    assert not llama.opened(max_bytes=300).save(0, "prefix")
    assert disk_usage(llama.folder) == (0, 0)


def test_old_and_unfinished_files_are_deleted_and_other_files_are_not(llama: SimpleNamespace) -> None:
    saved = llama.opened()
    saved.save(0, "old")
    (old,) = llama.folder.iterdir()
    for name, seconds in {"new.part": 10, "old.part": 7200, "strange.prefix": 10, "notes.txt": 10**8}.items():
        (llama.folder / name).write_text("x")
        os.utime(llama.folder / name, times=(time.time(), time.time() - seconds))
    os.utime(old, times=(time.time(), time.time() - 40 * 86400))
    saved.clean()
    assert sorted(path.name for path in llama.folder.iterdir()) == ["new.part", "notes.txt"]


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert open_folder(tmp_path / "file" / "prefixes") is None
    (tmp_path / "link").symlink_to(tmp_path)
    assert open_folder(tmp_path / "link") is None


def test_a_changed_model_file_is_another_model(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"one")
    before = model_identity([model])
    os.utime(model, (1, 1))
    assert model_identity([model]) != before


# -- with the embedded model ------------------------------------------------------------------------------------------

PROMPTS = [
    Prompt("An article about rain.", system=f"The {part} part of a small encyclopedia, calm and exact. " * 12)
    for part in ("first", "second", "third")
]


async def cached_share(engine: Engine, prompt: Prompt) -> float:
    """Return how much of a new prompt with the same prefix was in the cache."""
    request = Request(replace(prompt, ask="An article about tea."), max_tokens=1)
    (*_, last) = [frame async for frame in engine.generate(request)]
    assert last.usage is not None
    return last.usage.cached_tokens / last.usage.prompt_tokens


@pytest.mark.anyio
@pytest.mark.model
async def test_the_embedded_model_uses_the_prefixes_of_an_earlier_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten_engine.llamacpp.engine.prefixes_folder", lambda: tmp_path / "prefixes")

    async def opened() -> Engine:
        return await asyncio.to_thread(open_engine, "embedded", context=1024, parallel=1)

    engine = await opened()
    assert await cached_share(engine, PROMPTS[0]) < 0.1
    assert disk_usage(tmp_path / "prefixes") == (0, 0)  # the texts of visitors are not kept
    await engine.warm(PROMPTS[:2])
    await engine.close()
    assert disk_usage(tmp_path / "prefixes")[0] == 2
    engine = await opened()
    assert await cached_share(engine, PROMPTS[0]) > 0.8
    assert await cached_share(engine, PROMPTS[1]) > 0.8
    assert await cached_share(engine, PROMPTS[2]) < 0.1
    await engine.close()
    for file in (tmp_path / "prefixes").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    engine = await opened()
    assert await cached_share(engine, PROMPTS[0]) < 0.1
    await engine.close()


@pytest.mark.anyio
@pytest.mark.model
async def test_a_click_stops_warming_which_continues_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten_engine.llamacpp.engine.prefixes_folder", lambda: tmp_path / "prefixes")
    engine = await asyncio.to_thread(open_engine, "embedded", context=2048, parallel=2)
    llama = engine.engine
    assert isinstance(llama, LlamaCppEngine)
    long = [replace(prompt, system=prompt.system * 6) for prompt in PROMPTS[:2]]
    warming = asyncio.create_task(engine.warm(long))
    while not llama._warming:
        await asyncio.sleep(0.001)
    texts = engine.generate(Request(replace(PROMPTS[2], ask="An article about tea."), max_tokens=8))
    async for frame in texts:
        assert not llama._warming and not warming.done()
        assert llama._slots.busy <= 1 or frame.done
    await asyncio.wait_for(warming, 300)
    assert disk_usage(tmp_path / "prefixes")[0] == 2
    assert await cached_share(engine, long[1]) > 0.8
    await engine.close()
