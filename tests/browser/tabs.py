"""A browser tab that records requests, errors, events of the client script, and layout shifts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Route, WebSocketRoute
from tests.browser.axe import Findings, check
from tests.support.servers import PATIENCE

from unwritten import App
from unwritten.core.assets import HTMX_VERSION

CDN = f"https://cdn.jsdelivr.net/npm/htmx.org@{HTMX_VERSION}"

_NOTES = """
window.notes = { events: [], shifts: [] };
for (const name of ["frame", "written", "page", "open", "close", "error"]) {
  addEventListener("unwritten:" + name, (event) => notes.events.push({
    name, region: event.target.dataset?.region, state: event.detail.state, frame: event.detail.frame,
    page: event.detail.page, message: event.detail.message, code: event.detail.code,
  }));
}
addEventListener("securitypolicyviolation", (e) => console.error("policy:", e.violatedDirective, e.blockedURI));
const noteShifts = (entries) => {
  for (const entry of entries) {
    if (entry.hadRecentInput) continue;
    const moves = entry.sources.map(({ node, previousRect: was, currentRect: is }) => {
      const element = node?.nodeType === 1 ? node : node?.parentElement;
      const id = element?.id ? "#" + element.id : element?.className ? "." + String(element.className) : "";
      const box = ({ x, y, width, height }) => `${x},${y} ${width}x${height}`;
      return `${element?.nodeName}${id} ${box(was)} > ${box(is)}`;
    });
    notes.shifts.push({ value: entry.value, time: entry.startTime, moves });
  }
};
notes.observer = new PerformanceObserver((list) => noteShifts(list.getEntries()));
notes.observer.observe({ type: "layout-shift", buffered: true });
// Like web-vitals: the largest sum of shifts in a window of at most 5 s without a gap of 1 s.
notes.layoutShift = () => {
  noteShifts(notes.observer.takeRecords());
  let largest = 0, sum = 0, first = 0, last = -Infinity;
  for (const { value, time } of notes.shifts) {
    if (time - last >= 1000 || time - first >= 5000) [sum, first] = [0, time];
    [sum, last] = [sum + value, time];
    largest = Math.max(largest, sum);
  }
  return largest;
};
"""


class Tab:
    """A tab.

    Attributes:
        page: Playwright's page.
        requests: ``METHOD URL`` of every request, in order.
        foreign: requests that went neither to this machine nor to the CDN.
        faults: errors of scripts and policy violations.
        sockets: the live sockets, if ``hold_sockets`` was called. ``close()`` disconnects one.
        quiet: set it to ignore console errors that the test causes on purpose.
    """

    def __init__(self, browser: Browser, htmx: dict[str, bytes], *, beside: Tab | None = None, **options: Any) -> None:
        self._owns = beside is None
        self._context: BrowserContext = beside._context if beside else browser.new_context(**options)
        self.requests: list[str] = []
        self.foreign: list[str] = []
        self.faults: list[str] = []
        self.sockets: list[WebSocketRoute] = []
        self.quiet = False
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self._htmx = htmx
        self.page.add_init_script(_NOTES)
        self.page.route(f"{CDN}/**", self._cdn)
        self.page.on("request", lambda request: self._request(request.method, request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._console)

    def _cdn(self, route: Route) -> None:
        content = self._htmx.get(route.request.url)
        if content is None:
            route.abort("internetdisconnected")
        else:
            headers = {"access-control-allow-origin": "*", "content-type": "text/javascript"}
            route.fulfill(body=content, headers=headers)

    def _request(self, method: str, url: str) -> None:
        self.requests.append(f"{method} {url}")
        host = urlsplit(url).hostname
        if host != "127.0.0.1" and not url.startswith(CDN) and not url.startswith("data:"):
            self.foreign.append(url)

    def _console(self, message: ConsoleMessage) -> None:
        # Failed requests, such as a 404 or an unreachable CDN, are console errors that tests expect.
        if message.type == "error" and not self.quiet and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def goto(self, url: str) -> None:
        """Load a page. Wait for its HTML only."""
        self.page.goto(url, wait_until="domcontentloaded")

    def ready(self) -> None:
        """Wait until htmx and its extension have processed the page."""
        until(lambda: self.js("() => !!window.htmx && !!document.querySelector('a.brand')?._htmx?.preloadListener"))

    def hold_sockets(self) -> None:
        """Add every socket that is opened from now on to ``sockets``."""

        def pass_through(socket: WebSocketRoute) -> None:
            socket.connect_to_server()
            self.sockets.append(socket)

        self.page.route_web_socket("**/_unwritten/live", pass_through)

    def js(self, function: str, argument: object = None) -> Any:
        """Return the result of a JavaScript function."""
        return self.page.evaluate(function, argument)

    def html(self, region: str) -> str:
        """Return the inner HTML of a region without the attributes that htmx adds."""
        return str(self.page.inner_html(f"#region-{region}")).replace(' data-htmx-powered="true"', "")

    def text(self, region: str) -> str:
        """Return the text of a region."""
        return str(self.page.inner_text(f"#region-{region}"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of the client script with this name since the document was loaded."""
        found: list[dict[str, Any]] = self.js("(name) => notes.events.filter((e) => e.name === name)", name)
        return found

    def finished(self, seconds: float = PATIENCE) -> None:
        """Wait for the event that says that the page is written."""
        until(lambda: any(event["state"] == "written" for event in self.events("page")), seconds)

    def axe(self, *, without: tuple[str, ...] = ()) -> Findings:
        """Run axe-core on the current state of the page, in all its frames."""
        return check(self.page, without=without)

    def layout_shift(self) -> float:
        """Return the cumulative layout shift of this document so far, as web-vitals defines it.

        It includes pages that htmx swaps in. ``shifts`` lists the elements that moved.
        """
        return float(self.js("() => notes.layoutShift()"))

    @property
    def shifts(self) -> list[dict[str, Any]]:
        """Return every layout shift without user input: its value, its time, and the elements that moved."""
        found: list[dict[str, Any]] = self.js("() => notes.shifts")
        return found

    def loads(self, path: str) -> int:
        """Return the number of GET requests for a path."""
        return sum(1 for line in self.requests if line.startswith("GET ") and urlsplit(line[4:]).path == path)

    def close(self) -> None:
        """Close the tab, and its profile if no other tab owns it."""
        self.page.close()
        if self._owns:
            self._context.close()


Serve: TypeAlias = Callable[[App], str]
"""The fixture ``serve``: serves an app and returns its URL."""

OpenTab: TypeAlias = Callable[..., Tab]
"""The fixture ``open_tab``: opens a tab in its own browser profile."""


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a function returns a true value.

    Playwright's own ``wait_for_function`` evaluates text, which the policy of pages forbids. Prefer ``expect`` for
    what a locator or the URL shows: never read them directly after a click, a key or a navigation.
    """
    end = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < end, f"the condition was not met within {seconds} s"
        time.sleep(0.02)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except Error as error:
        if "navigation" not in error.message:
            raise
        return False  # the document was replaced while the condition was read


def note(value: object) -> str:
    """Return a value as text for the message of a failed assertion."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
