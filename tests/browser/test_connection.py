"""Pages without a socket, the CDN, the server or JavaScript."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect
from starlette.types import Receive, Scope, Send
from tests.browser.tabs import CDN, OpenTab, Serve, until
from tests.support.apps import make_wiki

from unwritten import App
from unwritten_engine.scripted import HANG, scripted

pytestmark = pytest.mark.browser


LIVE = "**/_unwritten/live"
TEXT = "A lighthouse is a [[Tower]] with a bright lamp, and it stands by the sea for as long as the sea lets it."


def test_a_disconnected_socket_reconnects_and_continues(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(TEXT, delay=0.1)
    url = serve(make_wiki(tmp_path, engine))
    tab = open_tab()
    sent: list[dict[str, Any]] = []
    sockets: list[WebSocketRoute] = []

    def listen(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        sockets.append(socket)

        def on_message(message: str | bytes) -> None:
            sent.append(json.loads(message))
            server.send(message)

        socket.on_message(on_message)

    tab.page.route_web_socket(LIVE, listen)
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: len(tab.events("frame")) > 3)
    sockets[0].close(code=1012, reason="restart")
    tab.finished()
    assert tab.text("body").strip().endswith(TEXT.replace("[[", "").replace("]]", ""))
    assert [event["code"] for event in tab.events("close")] == [1012]
    watches = [message for message in sent if message["type"] == "watch"]
    assert watches[0]["seen"] == {"body": 0}
    assert watches[1]["seen"]["body"] >= 3, "it reports the frames that it has"
    assert len(engine.requests) == 1


def test_a_tab_with_numbers_of_a_clock_that_was_ahead_follows_after_reconnecting(
    serve: Serve, open_tab: OpenTab, tmp_path: Path
) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT, delay=0.2)))
    tab = open_tab()
    sockets: list[WebSocketRoute] = []

    def listen(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    tab.page.route_web_socket(LIVE, listen)
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: len(tab.events("frame")) > 3)
    tab.page.evaluate("document.querySelector('[data-region]').dataset.frame = 2 ** 52")
    sockets[0].close(code=1012, reason="restart")
    until(lambda: tab.events("close"))
    shown = len(tab.events("frame"))
    until(lambda: len(tab.events("frame")) > shown)
    assert tab.events("frame")[-1]["state"] == "writing", "it does not only fetch the page when that is finished"
    tab.finished()
    assert tab.text("body").strip().endswith(TEXT.replace("[[", "").replace("]]", ""))


def test_a_short_disconnection_shows_no_notice(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(["A tower ", HANG])))
    tab = open_tab()
    up = True
    sockets: list[WebSocketRoute] = []

    def flaky(socket: WebSocketRoute) -> None:
        if up:
            socket.connect_to_server()
            sockets.append(socket)
        else:
            socket.close(code=1001)

    tab.page.route_web_socket(LIVE, flaky)
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: tab.events("frame"))
    up = False
    sockets[0].close(code=1001)
    until(lambda: tab.events("close"))
    assert tab.page.locator(".connection").is_hidden()
    up = True
    until(lambda: len(tab.events("open")) > 1)
    until(lambda: tab.page.locator(".connection").is_hidden())


def test_pages_are_generated_without_a_socket(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(TEXT, delay=0.02))

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await app(scope, receive, send)

    url = serve(cast(App, proxy))
    tab = open_tab()
    tab.quiet = True  # Chromium logs each attempt
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    assert "as long as the sea lets it" in tab.text("body")
    expect(tab.page.locator("[data-colophon]")).to_contain_text("Regenerate")
    assert len(tab.events("close")) == 3
    assert tab.page.locator("#region-body a").get_attribute("class") == "unwritten"
    tab.ready()
    tab.page.click("#region-body a")
    tab.page.wait_for_selector("h1:has-text('Tower')")
    until(lambda: "as long as" in tab.text("body"))
    assert len(tab.events("close")) == 3, "the socket is not tried again"


def test_a_refused_socket_is_not_opened_again(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT)))
    tab = open_tab()
    tab.page.route_web_socket(LIVE, lambda socket: socket.close(code=1008))
    tab.goto(f"{url}/wiki/Lighthouse")
    until(lambda: "as long as the sea lets it" in tab.text("body"))
    time.sleep(0.5)
    assert len(tab.events("close")) == 1


def test_a_page_that_the_server_lost_is_reloaded_once(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(["A tower ", HANG])))
    tab = open_tab()

    def forgetful(socket: WebSocketRoute) -> None:
        def on_message(message: str | bytes) -> None:
            key = json.loads(message)["page"]
            socket.send(json.dumps({"type": "page", "page": key, "state": "unwritten", "message": ""}))

        socket.on_message(on_message)

    tab.page.route_web_socket(LIVE, forgetful)
    tab.goto(f"{url}/wiki/Lighthouse")
    expect(tab.page.locator("aside[data-notice]")).to_contain_text("interrupted")
    time.sleep(0.3)
    tab.page.wait_for_load_state()
    assert tab.loads("/wiki/Lighthouse") == 2


def test_without_javascript_the_page_is_complete(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT, delay=0.02)))
    tab = open_tab(java_script_enabled=False)
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.page.wait_for_url("**/wiki/Lighthouse?plain=1")
    tab.page.wait_for_selector(".colophon:has-text('just now')")
    assert "as long as the sea lets it" in tab.text("body")
    assert tab.page.get_by_role("button", name="Stop").count() == 0
    tab.page.click("#region-body a")
    expect(tab.page.locator("h1")).to_have_text("Tower")
    tab.page.wait_for_selector(".colophon:has-text('just now')")
    tab.page.get_by_role("button", name="Regenerate").click()
    tab.page.wait_for_selector(".colophon:has-text('Version 2 of 2')")


def test_everything_works_without_the_cdn(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT, delay=0.02)))
    tab = open_tab(cdn=False)
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    tab.page.click("#region-body a")
    tab.page.wait_for_selector("h1:has-text('Tower')")
    tab.finished()
    assert "as long as the sea lets it" in tab.text("body")
    tab.page.get_by_role("button", name="Regenerate").click()
    tab.page.wait_for_selector(".colophon:has-text('Version 2 of 2')")
    assert tab.js("() => window.htmx === undefined")


def test_a_cdn_that_hangs_delays_nothing(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT)))
    tab = open_tab()
    hanging: list[Route] = []
    tab.page.route(f"{CDN}/**", lambda route: hanging.append(route))
    tab.page.goto(f"{url}/wiki/Lighthouse", wait_until="load")
    tab.finished()
    until(lambda: len(hanging) == 1)
    hanging[0].abort()


def test_a_changed_cdn_file_is_not_executed(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_wiki(tmp_path, scripted(TEXT)))
    tab = open_tab()
    tab.quiet = True  # Chromium logs the reason
    headers = {"access-control-allow-origin": "*", "content-type": "text/javascript"}
    tab.page.route(f"{CDN}/**", lambda route: route.fulfill(body="window.stolen = 1;", headers=headers))
    tab.goto(f"{url}/wiki/Lighthouse")
    tab.finished()
    assert any(line.startswith(f"GET {CDN}") for line in tab.requests)
    assert tab.js("() => window.stolen === undefined && window.htmx === undefined")
