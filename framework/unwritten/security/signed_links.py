"""Signed links: only links that a page offered cause generation.

A link to an unwritten page carries a signature of its target. A GET with a valid signature starts the generation and
redirects to the clean URL. Without one the response is a page with a button. A crawler that guesses URLs
causes no work.
"""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, unquote

from starlette.types import Scope

from ..core.localization import gettext_lazy as _
from ..core.paths import DATA_SUFFIX, ENCODED_SLASH
from .exposure import Exposure
from .signer import Signer

SIGNATURE = "_s"
"""The query parameter that holds a signature. It is removed before other code reads the URL."""

LinkSource: TypeAlias = Literal["link", "search"]
"""Where a signed URL comes from: a page that links to it, or a form that leads to it."""

_LENGTH = 16
"""Characters of a signature: 96 bits, which cannot be guessed."""

SCOPE_KEY = "unwritten.signature"
"""The key of an ASGI scope under which ``take_signature`` puts the signature of a request."""

SIGNATURE_MARK = f"{SIGNATURE}=".encode()


class SignedLinks:
    """Signs the URLs of unwritten pages, and verifies signatures.

    The setting ``signed_links`` decides whether generating a page requires a signature: on, off, or auto, which
    requires one of everyone but the owner of a private app.
    """

    def __init__(self, setting: str, exposure: Exposure, signer: Signer) -> None:
        self._setting = setting
        self._exposure = exposure
        self._signer = signer

    @property
    def required(self) -> bool:
        """True if links are signed, because someone needs a signature to generate a page."""
        return self._exposure.is_public and self._setting != "off"

    def requires(self, scope: Scope) -> bool:
        """True if a client needs a signed link to generate a page."""
        return self.required and not self._exposure.exempts(scope)

    def signs(self, url: str) -> bool:
        """True if links to this URL are signed while its page is not written.

        A signature also distinguishes a page whose own URL ends in ``.json`` from the data of another page.
        """
        return self.required or url.partition("#")[0].partition("?")[0].endswith(DATA_SUFFIX)

    def sign(self, url: str, source: LinkSource = "link") -> str:
        """Return the URL of an unwritten page, with a signature if its links have one; see ``signs``."""
        if not self.signs(url):
            return url
        path, mark, fragment = url.partition("#")
        return f"{path}{'&' if '?' in path else '?'}{SIGNATURE}={self.signature(path, source)}{mark}{fragment}"

    def signature(self, url: str, source: LinkSource = "link") -> str:
        """Return the signature of a URL. It is the same for all visitors of one world."""
        return self._signer.signature(f"{source} link", _canonical(url), length=_LENGTH)

    def source(self, signature: str, *urls: str) -> LinkSource | None:
        """Return where a signature comes from if it is valid for one of these spellings, otherwise None."""
        sources: tuple[LinkSource, ...] = ("link", "search")
        for source in sources:
            for url in urls:
                if self._signer.verify(f"{source} link", _canonical(url), signature, length=_LENGTH):
                    return source
        return None


def explain_refusal(signature: str | None) -> str:
    """Return a sentence that says why a signature is not valid. Empty if the request had none."""
    if signature is None:
        return ""
    if len(signature) != _LENGTH:
        return _("The link that led here is incomplete: its signature was cut off or changed.")
    return _("The link that led here was signed for another page, or by another app.")


def take_signature(scope: Scope) -> Scope:
    """Return the scope with the signature under ``SCOPE_KEY``, and without it in the query."""
    query: bytes = scope.get("query_string", b"")
    if SIGNATURE_MARK not in query:
        return scope
    others, signature = [], None
    for pair in query.split(b"&"):
        if pair.startswith(SIGNATURE_MARK):
            signature = unquote(pair.removeprefix(SIGNATURE_MARK).decode("latin-1"))
        else:
            others.append(pair)
    return scope if signature is None else {**scope, "query_string": b"&".join(others), SCOPE_KEY: signature}


def url_of(scope: Scope) -> str:
    """Return the path and query of a request as they were sent, without its signature."""
    raw: bytes = scope.get("raw_path") or str(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    return (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def unsigned(url: str) -> str:
    """Return a URL without its signature."""
    if f"{SIGNATURE}=" not in url:
        return url
    before, mark, fragment = url.partition("#")
    path, _, query = before.partition("?")
    query = "&".join(pair for pair in query.split("&") if not pair.startswith(f"{SIGNATURE}="))
    return path + (f"?{query}" if query else "") + mark + fragment


def _canonical(url: str) -> str:
    """Return the text that is signed: the decoded URL, because browsers differ in what they encode."""
    path, _, query = url.partition("?")
    path = unquote(path.replace("%2f", ENCODED_SLASH).replace("%2F", ENCODED_SLASH))
    pairs = parse_qsl(query, keep_blank_values=True)
    return "\0".join([path, *(f"{name}={value}" for name, value in pairs)])
