"""Fixtures of the browser tests: Chromium, htmx in place of the CDN, and apps on a real server."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.browser.packages import packed
from tests.browser.tabs import CDN, OpenTab, Serve, Tab
from tests.support.servers import PATIENCE, served

from unwritten.core.assets import HTMX, HTMX_VERSION, integrity_of

_FLAGS = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rerun a failed browser test once, because its timing depends on other processes on a busy machine.

    The summary counts reruns. A test that is rerun often has a race that should be fixed.
    """
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def htmx() -> dict[str, bytes]:
    """Return the files of htmx by their CDN URL. Their hashes are checked."""
    package = packed("htmx.org", HTMX_VERSION)
    files: dict[str, bytes] = {}
    with tarfile.open(package) as archive:
        for script in HTMX:
            member = archive.extractfile(f"package/{script.path}")
            assert member is not None, f"{package} lacks {script.path}"
            content = member.read()
            assert integrity_of(content) == script.integrity, f"{script.path} in {package} has another hash"
            files[f"{CDN}/{script.path}"] = content
    return files


@pytest.fixture(autouse=True)
def no_copy_of_htmx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the user's offline copy of htmx, so that pages load it from the CDN."""
    monkeypatch.setattr("unwritten.core.assets.htmx_cache", lambda: tmp_path / "no-htmx")


class _Chromium:
    """One Chromium for all browser tests.

    Playwright keeps an event loop running in this thread, but tests in other folders run their own. So it is stopped
    before the first test of another folder, which no fixture scope can express.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._browser: Browser | None = None

    def get(self) -> Browser:
        """Return the browser. Start it if none is running or the last one has crashed."""
        if self._browser is None or not self._browser.is_connected():
            self.stop()
            executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            if executable is None:
                pytest.fail("There is no Chromium on this machine. Install it: apt install chromium")
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            playwright = self._stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=executable, args=[*_FLAGS, *sandbox])
            self._stack.callback(browser.close)
            self._browser = browser
        return self._browser

    def stop(self) -> None:
        """Stop the browser if it is running."""
        self._browser = None
        self._stack.close()


expect.set_options(timeout=PATIENCE * 1000)

_CHROMIUM = _Chromium()
_HERE = Path(__file__).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """Stop Chromium after the last browser test."""
    yield
    if nextitem is None or not nextitem.path.is_relative_to(_HERE):
        _CHROMIUM.stop()


@pytest.fixture
def chromium() -> Browser:
    """Return the Chromium of this machine."""
    return _CHROMIUM.get()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves an app on a real server and returns its URL."""
    with contextlib.ExitStack() as stack:
        yield lambda app: f"http://{stack.enter_context(served(app))}"


@pytest.fixture
def open_tab(chromium: Browser, htmx: dict[str, bytes]) -> Iterator[OpenTab]:
    """Return a function that opens a tab in its own browser profile.

    With ``cdn=False`` the CDN cannot be reached. The other options are those of a Playwright context. At the end of
    the test, no tab may have seen an error, a policy violation or a request to another origin.
    """
    tabs: list[Tab] = []

    def tab(cdn: bool = True, beside: Tab | None = None, **options: object) -> Tab:
        tabs.append(Tab(chromium, htmx if cdn else {}, beside=beside, **options))
        return tabs[-1]

    yield tab
    for tab_ in tabs:
        assert tab_.foreign == [], "requests to other origins"
        assert tab_.faults == [], "errors in the browser"
    for tab_ in tabs:
        tab_.close()
