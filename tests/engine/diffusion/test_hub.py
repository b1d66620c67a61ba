"""Fetching from a hub: a small server of our own speaks its protocol, and a fresh process fetches from it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.checkpoints import edit_config

from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.lfm2.random_model import write_checkpoint as write_lfm2
from unwritten_engine.diffusion.lfm2.random_tokenizer import write_tokenizer

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import sys
from unwritten_engine.diffusion.loader import load_model
from unwritten_engine.errors import EngineError
try:
    loaded = load_model("someone/small", device="cpu", quantize=None, dtype=None, budget_bytes=int(sys.argv[1]),
                  progress=lambda share, doing: print(f"{share:.1f} {doing}"))
    print("LOADED", loaded.name, loaded.quantization)
except EngineError as error:
    print(type(error).__name__, error)
"""


class Hub(ThreadingHTTPServer):
    """A hub with one model, the files of a folder. Counts how many files with weights were fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.weights = folder, 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers what ``snapshot_download`` and ``model_info`` ask."""

    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, Hub)
        return self.server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = {file.name: file for file in sorted(self.hub.folder.iterdir())}
        if not files:  # as if the model were not there
            self.send_error(404)
            return
        if path.startswith("/api/models/someone/small/tree"):
            tree = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": COMMIT}
                for name, file in files.items()
            ]
            data = json.dumps(tree).encode()
        elif path.startswith("/api/models/someone/small"):
            siblings = [{"rfilename": name, "size": file.stat().st_size} for name, file in files.items()]
            data = json.dumps({"id": "someone/small", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/someone/small/resolve/") and (name := path.rsplit("/", 1)[-1]) in files:
            data = files[name].read_bytes()
            self.hub.weights += body and name.endswith(".safetensors")
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with served(write_checkpoint(tmp_path / "model", layers=2)) as server:
        yield server


@contextmanager
def served(folder: Path) -> Iterator[Hub]:
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(hub: Hub, home: Path, budget: int = 100_000_000) -> str:
    """What a fresh process says that fetches and loads the model."""
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    variables = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(budget)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.stdout + ran.stderr


def test_downloads_state_their_size_and_happen_once(hub: Hub, tmp_path: Path) -> None:
    said = run(hub, tmp_path / "home")
    assert "0.0 Downloading someone/small, 1 MB, to" in said
    assert f"to {tmp_path / 'home'}" in said
    assert "LOADED someone/small float32" in said
    again = run(hub, tmp_path / "home")
    assert "LOADED someone/small float32" in again
    assert "Downloading" not in again
    assert hub.weights == 1


def test_downloads_state_the_licence_of_another_family_and_fetch_no_code(tmp_path: Path) -> None:
    folder = write_lfm2(tmp_path / "model")
    write_tokenizer(folder, 1024)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: lfm1.0\n---\n")
    (folder / "modeling_small.py").write_text("raise SystemExit")
    with served(folder) as hub:
        said = run(hub, tmp_path / "home")
    assert "0.0 Downloading someone/small, 1 MB, to" in said
    assert "licence: LFM Open License 1.0: not free for companies with more than 10 million dollars" in said
    assert "LOADED someone/small" in said
    assert not list((tmp_path / "home").rglob("*.py"))


def test_unusable_models_are_refused_before_the_download(hub: Hub, tmp_path: Path) -> None:
    assert "ModelUnsupported This machine has 1 MB" in run(hub, tmp_path / "home", budget=1_000_000)
    edit_config(hub.folder, quantization_config={"quant_method": "awq", "bits": 4})
    assert "ModelUnsupported someone/small is quantized (awq, 4 bits)" in run(hub, tmp_path / "other")
    assert hub.weights == 0


def test_a_missing_model_is_reported(hub: Hub, tmp_path: Path) -> None:
    for file in hub.folder.iterdir():
        file.unlink()
    hub.folder.rmdir()
    hub.folder.mkdir()
    assert "ModelNotFound" in run(hub, tmp_path / "home")
