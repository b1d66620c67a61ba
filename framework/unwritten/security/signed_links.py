"""Gates: only a link that was really offered causes writing.

A link to a page that nobody has written carries a signature of its target, made with the world's secret. A GET that
brings it begins the writing, and is led on to the clean address. One that does not is told that there is no such page
yet, with a button for people. A crawler that guesses addresses causes no work at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, unquote

from starlette.types import Scope

from ..core.paths import ENCODED_SLASH
from ..core.settings import Settings
from .client_address import is_local_client, is_loopback

SIGNATURE = "_s"
"""The query parameter that holds a signature. It is taken off before anything else reads the address."""


LinkSource: TypeAlias = Literal["link", "search"]
"""Where a signed address comes from: a page that links to it, or a form that leads to it."""


_BYTES = 12
"""Of a signature: 2^96 guesses are more than anybody makes."""


_LENGTH = _BYTES * 4 // 3


_TAKEN = "unwritten.signature"


_QUERY = f"{SIGNATURE}=".encode()


class SignedLinks:
    """Says whether links are signed in this app, signs them, and knows its own signatures again.

    Gates are closed by the setting ``gates``: on, off, or auto. "auto" closes them where others can reach the app: if
    it listens beyond this machine, answers to a public name or stands behind a proxy; and, as a server that somebody
    else started does not tell us, from the first request on that does not certainly come from this machine.

    Args:
        settings: ``gates``, ``host``, ``hosts`` and ``trusted_proxies``.
        secret: the world's secret.
    """

    def __init__(self, settings: Settings, secret: Callable[[], bytes]) -> None:
        self._setting: str = settings.gates
        self._secret = secret
        hosts = [name.strip() for name in str(settings.hosts).split(",") if name.strip()]
        self.beyond = (
            self._setting == "on"
            or not is_loopback(settings.host)
            or bool(settings.trusted_proxies)
            or not all(map(is_loopback, hosts))
        )

    @property
    def required(self) -> bool:
        """Whether writing takes a signature."""
        return self.beyond and self._setting != "off"

    def notice(self, scope: Scope) -> None:
        """See a connection: one from elsewhere closes the gates from now on."""
        if not self.beyond and not is_local_client(scope):
            self.beyond = True

    def sign(self, address: str, source: LinkSource = "link") -> str:
        """An address of an unwritten page, signed if it has to be. Whoever follows it causes the page to be written."""
        if not self.required:
            return address
        path, mark, fragment = address.partition("#")
        return f"{path}{'&' if '?' in path else '?'}{SIGNATURE}={self.signature(path, source)}{mark}{fragment}"

    def signature(self, address: str, source: LinkSource = "link") -> str:
        """The signature of an address: the same for the same world and target, whoever sees it."""
        digest = hmac.digest(self._secret(), f"{source}\0{_meant(address)}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:_BYTES]).decode()

    def source(self, signature: str, *addresses: str) -> LinkSource | None:
        """Where a signature comes from, if it is ours for one of these spellings of an address; None if it is not."""
        sources: tuple[LinkSource, ...] = ("link", "search")
        given = signature.encode("utf-8", "replace")
        for source in sources:
            for address in addresses:
                if hmac.compare_digest(given, self.signature(address, source).encode()):
                    return source
        return None


def explain_refusal(signature: str | None) -> str:
    """Why a signature does not open a gate, in a sentence; "" if there is none."""
    if signature is None:
        return ""
    if len(signature) != _LENGTH:
        return "The link that led here is incomplete: a part of its signature was cut off or changed."
    return "The link that led here was signed for another page, or in another world."


def take_signature(scope: Scope) -> Scope:
    """A request without the signature in its query, which ``signature_of`` still knows."""
    query: bytes = scope.get("query_string", b"")
    if _QUERY not in query:
        return scope
    kept, taken = [], None
    for pair in query.split(b"&"):
        if pair.startswith(_QUERY):
            taken = unquote(pair.removeprefix(_QUERY).decode("latin-1"))
        else:
            kept.append(pair)
    return scope if taken is None else {**scope, "query_string": b"&".join(kept), _TAKEN: taken}


def signature_of(scope: Scope) -> str | None:
    """The signature that a request came with, if any."""
    signature: str | None = scope.get(_TAKEN)
    return signature


def address_of(scope: Scope) -> str:
    """The address that a request asks for, as it was written, without its signature."""
    raw: bytes = scope.get("raw_path") or str(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    return (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def unsigned(address: str) -> str:
    """An address without its signature."""
    if f"{SIGNATURE}=" not in address:
        return address
    before, mark, fragment = address.partition("#")
    path, _, query = before.partition("?")
    kept = "&".join(pair for pair in query.split("&") if not pair.startswith(f"{SIGNATURE}="))
    return path + (f"?{kept}" if kept else "") + mark + fragment


def _meant(address: str) -> str:
    """What is signed: the address as it is meant, for browsers spell some characters in their own way."""
    path, _, query = address.partition("?")
    path = unquote(path.replace("%2f", ENCODED_SLASH).replace("%2F", ENCODED_SLASH))
    pairs = parse_qsl(query, keep_blank_values=True)
    return "\0".join([path, *(f"{name}={value}" for name, value in pairs)])
