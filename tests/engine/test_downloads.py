from __future__ import annotations

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unwritten_engine.downloads import download, models_folder, whole_file
from unwritten_engine.errors import EngineError, ModelNotFound


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/short.gguf":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"only this")
        else:
            super().do_GET()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server with the file /model.gguf and one that breaks off, /short.gguf."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"x" * 3_000_000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_states_size_and_folder_first(site: str, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    target = tmp_path / "models" / "model.gguf"
    assert download(f"{site}/model.gguf", target, lambda share, doing: told.append((share, doing))) == target
    assert target.stat().st_size == 3_000_000
    assert told[0] == (0.0, f"Downloading model.gguf, 3 MB, to {target.parent}")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_existing_files_are_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"x")
    download("http://127.0.0.1:9/model.gguf", tmp_path / "model.gguf", lambda share, doing: None)


@pytest.mark.parametrize(
    ("path", "message"), [("/none.gguf", "answers 404"), ("/short.gguf", "ended after 9 of 5,000 bytes")]
)
def test_a_download_that_fails_leaves_nothing(site: str, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        download(site + path, tmp_path / "models" / "x.gguf", lambda share, doing: None)
    assert not list(tmp_path.glob("models/*")) and not list(tmp_path.glob("models/.*"))


def test_an_unreachable_server_suggests_offline_engines(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/x.gguf"
        with pytest.raises(ModelNotFound, match="'embedded' needs no network"):
            download(address, tmp_path / "x.gguf", lambda share, doing: None)


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with pytest.raises(ZeroDivisionError), whole_file(target, 3) as file:
        file.write(b"abc")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    with whole_file(target, 3) as file:
        file.write(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with whole_file(target, 3) as one, whole_file(target, 3) as other:
        one.write(b"aaa")
        other.write(b"bbb")
    assert target.read_bytes() in (b"aaa", b"bbb")
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_reported_before_the_download(tmp_path: Path) -> None:
    full = pytest.raises(EngineError, match=r"The disk is full: file needs .* MB in .*XDG_CACHE_HOME")
    with full, whole_file(tmp_path / "file", 10**18):
        pass


def test_a_disk_that_fills_up_is_reported(tmp_path: Path) -> None:
    said = pytest.raises(EngineError, match="The disk is full")
    with Path("/dev/full").open("wb", buffering=0) as full, said, whole_file(tmp_path / "file", 1):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said = pytest.raises(EngineError, match=r"Cannot write .*XDG_CACHE_HOME")
    with said, whole_file(tmp_path / "file" / "model", 1):
        pass


def test_models_are_kept_in_the_cache_folder(home: Path) -> None:
    assert models_folder().parts[-2:] == ("unwritten", "models")
    assert models_folder().is_relative_to(home.parent)
