"""Attempts to read, change, stop or own what is not theirs."""

from __future__ import annotations

import contextlib
import html
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from tests.torture.app import SECRET
from tests.torture.app_server import AppServer, app_server, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer
from websockets.exceptions import WebSocketException


def protected(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Try to read a protected page, to forge what the server has signed, and to stop what others have started."""
    session = server.get("/login?as=alice").headers["set-cookie"].partition(";")[0]
    member = {"Cookie": session}
    other = {"Cookie": server.get("/login?as=bob").headers["set-cookie"].partition(";")[0]}
    assert SECRET in server.get("/secret/plan?plain=1", headers=member).text, "the check needs a protected page"
    read = _read_by_strangers(server)
    leaked = _visitor_values(server, member, other)
    forged = 0
    page = server.whole("/board/forged")
    action = re.search(r'action="([^"]+/add\?[^"]+)"', page.text)
    assert action is not None
    good = html.unescape(action[1])
    for bad in (
        re.sub(r"_form=[^&]*", "_form=ffffff.AAAA.1", good),
        re.sub(r"_page=[^&]*", "_page=/board/other", good),
        good.replace("/board/forged/add", "/board/other/add"),
        re.sub(r"[?].*", "", good),
    ):
        forged += server.post(bad, {"text": "forged"}).status in {200, 303}
    cross = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    forged += server.post(good, {"text": "forged"}, headers=cross).status in {200, 303}
    name, _, value = session.partition("=")
    for cookie in (f"{name}={value[:-1]}A", f"{name}={value[:20]}", f"{name}=eyJuYW1lIjogIngifQ==.x.y"):
        forged += SECRET in server.get("/secret/plan?plain=1", headers={"Cookie": cookie}).text
    with contextlib.suppress(OSError, WebSocketException), server.live_socket(headers={"Origin": cross["Origin"]}):
        forged += 1
    return {
        "protected_pages_read": read,
        "values_of_others": leaked,
        "forgeries_accepted": forged,
        "stopped_by_strangers": _stopped_by_strangers(server),
    }


def _read_by_strangers(server: AppServer) -> int:
    """Return in how many ways a stranger reads a protected page, or learns that it is written."""
    key, ways = "/secret/plan", []
    for path in (
        key, f"{key}?plain=1", f"{key}?version=1", f"/_unwritten/history?page={key}", f"/_unwritten/edit?page={key}",
        f"/_unwritten/box?page={key}&region=body", f"/_unwritten/developer?page={key}", "/",
    ):  # fmt: skip
        if SECRET in server.get(path, new_address()).text:
            ways.append(path)
    for route in ("write", "rewrite", "edit"):
        form = {"page": key, "region": "body", "base": "1", "means": "by hand", "text": "Changed."}
        names = ["page"] if route == "write" else ["page", "seed"] if route == "rewrite" else list(form)
        reply = server.post(f"/_unwritten/{route}", {name: form.get(name, "") for name in names}, new_address())
        if reply.status < 400 and not str(reply.headers.get("location", "")).endswith("/login"):
            ways.append(f"POST {route}: {reply.status}")
    for kind in ("watch", "follow"):
        with contextlib.suppress(OSError, WebSocketException), server.live_socket(new_address()) as live:
            live.send(json.dumps({"type": kind, "page": key, "seen": {}}))
            end = time.monotonic() + 1
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < end:
                    if SECRET in str(live.recv(0.5)):
                        ways.append(f"socket {kind}")
                        break
    for way in ways:
        print(f"    a stranger gets at a protected page: {way}")
    return len(ways)


def _visitor_values(server: AppServer, member: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return how many messages to one visitor hold the name of another."""
    key, leaked, updates = "/member/room", 0, 0
    server.get(f"{key}?plain=1", headers=member)
    with (
        server.live_socket(headers=member) as first,
        server.live_socket(headers=other) as second,
        server.live_socket() as third,
    ):
        for live in (first, second, third):
            live.send(json.dumps({"type": "follow", "page": key, "seen": {}}))
        time.sleep(0.3)
        server.add_note("A note for members")
        time.sleep(2)
        for live, names in ((first, ["bob"]), (second, ["alice"]), (third, ["alice", "bob"])):
            with contextlib.suppress(TimeoutError, WebSocketException):
                while True:
                    text = str(live.recv(0.05))
                    leaked += sum(f"Read by {name}" in text for name in names)
                    updates += live is first and "A note for members" in text
        assert updates, "the check needs a page that is updated"
    for cookie, name in ((other, "alice"), ({}, "alice"), ({}, "bob")):
        leaked += f"Read by {name}" in server.get(key, headers=cookie).text
    return leaked


def _stopped_by_strangers(server: AppServer) -> int:
    """Return 1 if a stranger can stop a page before the socket of the visitor who started it connects."""
    server.get("/markdown/slow-1", new_address(), {"Sec-Fetch-Mode": "navigate"})
    with contextlib.suppress(TimeoutError, WebSocketException), server.live_socket(new_address()) as live:
        live.send(json.dumps({"type": "watch", "page": "/markdown/slow-1", "seen": {}}))
        live.send(json.dumps({"type": "stop", "page": "/markdown/slow-1"}))
        end = time.monotonic() + 8
        while (left := end - time.monotonic()) > 0:
            message = json.loads(live.recv(left))
            if message["type"] == "page" and message["state"] in {"written", "stopped", "failed"}:
                return int(message["state"] != "written")
    raise AssertionError("the page was not written, so the check says nothing")


def owner(folder: Path, model: HostileServer) -> Figures:
    """Reach a server that trusts no proxy through a bare one, under other hosts, and with spoofed headers."""
    given, hosts, spoofed = [], 0, 0
    flags = {"--host": "127.0.0.1", "--hosts": "", "--edits": "auto", "--signed-links": "auto"}
    forwarded: list[dict[str, str]] = [
        {}, {"CF-Connecting-IP": "203.0.113.7"}, {"True-Client-IP": "203.0.113.7"}, {"Via": "1.1 proxy"},
        {"Fly-Client-IP": "203.0.113.7"}, {"X-Real-IP": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ]  # fmt: skip
    with app_server(folder, model.url, flags, metrics=False) as server:
        for headers in forwarded:
            for path in ("/metrics", "/_unwritten/developer?page=/"):
                reply = server.get(path, headers=headers)
                if reply.status == 200:
                    given.append(f"{path} with {headers or 'nothing'}")
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            for path in ("/", "/metrics", "/health"):
                hosts += server.get(path, headers={"Host": host}).status not in {400, 421, 403} if host else 0
    flags = {"--host": "127.0.0.1", "--hosts": "*", "--signed-links": "on", "--edits": "auto"}
    with app_server(folder, model.url, flags, metrics=False) as server:
        hosts += server.get("/metrics", headers={"Host": "evil.example"}).status == 200
        for number in range(20):
            headers = {"X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Host": "evil.example"}
            reply = server.get(f"/short/unsigned-{number}?_s=AAAAAAAAAAAAAAAA", headers=headers)
            spoofed += "evil.example" in reply.text + str(reply.headers)
        spoofed += sum(model.requests[f"unsigned-{number}"] for number in range(20))
    for text in given:
        print(f"    owner rights: {text}")
    return {"owner_rights_given": len(given), "rebinding_answers": hosts, "spoofed_headers_believed": spoofed}
