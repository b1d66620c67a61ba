"""URLs in spellings that have led browsers, servers and filters to different places."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

_HOST = "evil.example"

_SCHEMES = [
    *("javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "\x01javascript:alert(1)", "vbscript:x"),
    *(
        "data:text/html,x",
        f"blob:https://{_HOST}/1",
        "file:///etc/passwd",
        "about:blank",
        f"view-source:http://{_HOST}",
    ),
    *(f"https://{_HOST}", f"http:{_HOST}", f"https:/{_HOST}", f"http:\\\\{_HOST}", f"ht\ntp://{_HOST}", "mailto:a@b"),
    *(f"http://user:pw@{_HOST}/", f"//user@{_HOST}", f"//{_HOST}:80", "//[::1]", "//[", "http://[::1", "///", "//"),
    *(f"//{_HOST}%2f@x", f"/\\{_HOST}", f"\\\\{_HOST}", f"\\/{_HOST}", f"/\t/{_HOST}", f"/\n\\{_HOST}", f"/\r/{_HOST}"),
    *(
        "//\u2100.example",
        "//\uff0fevil.example",
        "/\uff0fevil.example",
        "//e\u0301vil.example",
        "//xn--evil-9za.example",
    ),
    *(f" //{_HOST}", f"\x00//{_HOST}", f"\u00a0//{_HOST}", f"\u3000/{_HOST}", "//0x7f.1", "//2130706433", "//127.1"),
]
_BEFORE = ["", "/.", "/..", "/./..", "/%2e", "/%2E%2e", "/.%2e", "/x/..", "/x/../..", "/%2e/x/%2e%2e", "/\t.", "/..;"]
_AFTER = [
    "//",
    "/\\",
    "/%2F",
    "/%5C",
    "/%252F",
    "/%255C",
    "/%09/",
    "/\t/",
    "/\r\n/",
    "/%0d%0a/",
    "/%00/",
    "/.//",
    "/ /",
]
_OWN = [
    *(
        "/",
        "/wiki/Tea",
        "/wiki/Great Auk",
        "/wiki/Caf\u00e9?x=\u00e9",
        "/wiki/AC%2FDC",
        "/a//b",
        "/wiki/Tea;v=1",
        "/wiki/@x",
    ),
    *("/wiki/Tea?next=//evil.example#//evil.example", "/wiki/100%25", "/wiki/%", "/wiki/%zz", "/wiki/x?a=%0d%0a&b=%00"),
    *(
        "/wiki/Tea#top",
        "/wiki/a:b",
        "/wiki/\u706f\u53f0",
        "/wiki/\U0001f600",
        "/wiki/'q'?x='q'",
        "/wiki/a/../Tea",
        "/x/./y/.",
    ),
    *(
        "/wiki/..",
        "/a/b/../..",
        "/.well-known/x",
        "/wiki/..%2f..%2fx",
        "/wiki/%2e%2e%2fx",
        "/wiki/%c0%ae%c0%ae/x",
        "/wiki/%ff",
    ),
    *(
        "/wiki/%00",
        "/wiki/%0d%0aSet-Cookie:x",
        "/wiki/a\\b",
        '/wiki/|[]^`{}"<>',
        "Tea",
        "./Tea",
        "../about",
        "?x=1",
        "#x",
        "",
    ),
    *(
        "..",
        "../..//evil.example",
        "..//evil.example",
        "%2e%2e//evil.example",
        "/wiki/" + "x" * 9000,
        "/wiki/\ud800",
        "/wiki/\x7f",
    ),
]
_ROUTES = [
    *(
        "/_unwritten",
        "/_unwritten/",
        "/_unwritten/box?page=/",
        "/_unwritte%6e/edit",
        "/%5funwritten/x",
        "/%255Funwritten/x",
    ),
    *(
        "/x/../_unwritten/live",
        "/x/%2e%2e/_unwritten/edit",
        "/./_unwritten/static/live.js",
        "/%2e/_unwritten/x",
        "/_UNWRITTEN/x",
    ),
    *(
        "/_unwritten%2Fbox",
        "/_unwritten%5cbox",
        "/%2f_unwritten/x",
        "/_un\twritten/x",
        "_unwritten/x",
        "../_unwritten/x",
    ),
    *("/x%2f..%2f_unwritten/x", "/_unwritten;x/", "/_unwritten?x", "/_unwritten#x"),
]

FRAMEWORK_URLS = _ROUTES
"""URLs that lead to the framework's own routes, or may where a proxy decodes them."""


def url_vectors() -> list[str]:
    """Return all URLs, each once."""
    return list(dict.fromkeys(_vectors()))


def _vectors() -> Iterator[str]:
    yield from _SCHEMES
    yield from _OWN
    yield from _ROUTES
    for before, after in product(_BEFORE, _AFTER):
        yield f"{before}{after}{_HOST}/x"
    for scheme, around in product(_SCHEMES, (" {}", "\t{}", "{}\n", "\x1f{}")):
        yield around.format(scheme)
