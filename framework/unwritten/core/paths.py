r"""Paths of the framework's own routes, and the check of which URLs lead to pages of this app.

Every redirect, link, form, message and import passes one of the functions below. They parse a URL as browsers do (the
URL standard of the WHATWG), and refuse what leads elsewhere: other schemes and servers, ``//host`` and ``/\host`` in
any spelling, and text that is not a URL. What they return is the normalized path, so later code sees what browsers see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, unquote_to_bytes

FRAMEWORK_PREFIX = "/_unwritten/"
"""Where the framework's own routes are mounted. No page can be there."""

STATIC_PREFIX = "/_unwritten/static"
"""Where static files are served."""

TEXTS_PATH = "/_unwritten/texts.js"
"""Where the texts of the scripts are served."""

WRITE_PATH = "/_unwritten/write"
"""Where the button of an unwritten page posts, to have the page generated."""

BOX_PREFIX = "/_unwritten/box"
"""Where the documents of boxes are served."""

PICTURES_PREFIX = "/_unwritten/picture/"
"""Where pictures are served."""

UPLOADS_PREFIX = "/_unwritten/file/"
"""Where uploads are served."""

FEED_PATH = "/feed.atom"
"""Where the feed of new pages is served."""

WELL_KNOWN_PATHS = ("/robots.txt", "/health", "/metrics", FEED_PATH)
"""Paths of the framework outside of its prefix. An author's route with the same path takes precedence."""

DATA_SUFFIX = ".json"
"""Stands at the end of a page's path in the URL of its data."""

ENCODED_SLASH = "\ue02f"
"""Stands for an encoded slash (%2F) while a path is matched, so that it stays inside its parameter."""

MAX_URL_LENGTH = 8000
"""Maximum length of a path with its query and fragment. Browsers and servers refuse much longer ones."""

# Most keys. Possessive, so that matching takes linear time. Segments that begin with a dot or "_" take the long way.
_PLAIN_PATH = re.compile(r"/(?!_)(?:(?!\.)[A-Za-z0-9!$'()*+,:;=@&~_.-]++/?+)*+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+:")
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_VARY = "vary="
_VARIANT_VALUE = re.compile(r"[A-Za-z0-9._@+~-]{1,64}")
_MAX_DECODED = 4  # a path of 8000 characters could be encoded 4000 times
_STRIPPED = "".join(map(chr, range(33)))  # browsers remove these around a URL

_PATH_CHARACTERS = "/%!$&'()*+,:;=@-._~"
_QUERY_CHARACTERS = "/?%!$&()*+,:;=@-._~"


def site_path(url: str, base: str | None = None) -> str | None:
    r"""Return where a URL leads if that is on this server, or None if it may lead elsewhere.

    Args:
        url: A URL from an untrusted source.
        base: The key of the page that relative URLs are resolved against. None: only absolute paths are accepted.

    Returns:
        The normalized path with its query and fragment, in ASCII. It begins with a single slash.
    """
    if len(url) <= MAX_URL_LENGTH and _PLAIN_PATH.fullmatch(url):
        return url
    text = url.strip(_STRIPPED)
    if len(text) > MAX_URL_LENGTH or _NOT_TEXT.search(text) or _SCHEME.match(text):
        return None
    before, hash_mark, fragment = text.partition("#")
    path, question_mark, query = before.partition("?")
    if "\\" in path or path.startswith("//"):  # browsers read "\" as "/"
        return None
    if not path.startswith("/"):
        if base is None:
            return None
        base_path, base_mark, base_query = base.partition("?")
        if path:
            path = base_path.rpartition("/")[0] + "/" + path
        else:
            path = base_path
            if not question_mark:
                question_mark, query = base_mark, base_query
    path = quote(_without_dot_segments(path), safe=_PATH_CHARACTERS)
    query = quote(query, safe=_QUERY_CHARACTERS)
    if path.startswith("//") or not _decodes_safely(path):
        return None
    found = path + question_mark + query + hash_mark + quote(fragment, safe=_PATH_CHARACTERS + "?")
    return found if len(found) <= MAX_URL_LENGTH else None


def page_path(url: str, base: str | None = None) -> str | None:
    """Return where a URL leads if a page of this app can be there, or None; see ``site_path``.

    The framework's own routes are not pages, in any spelling that a server or proxy might decode.
    """
    path = site_path(url, base)
    if path is None or ("%" not in path and not path.startswith("/_")):
        return path
    readings = _readings(re.split("[?#]", path, maxsplit=1)[0])
    return None if any(f"{reading.lower()}/".startswith(FRAMEWORK_PREFIX) for reading in readings) else path


def page_key(text: str) -> str | None:
    """Return the key of a page in its normalized spelling, or None if no page can have it.

    A fragment is left out, unless it names a variant; see ``variant_key``.
    """
    path = page_path(text)
    if path is None or "#" not in path:
        return path
    url, _, fragment = path.partition("#")
    return path if fragment.startswith(_VARY) and is_variant_value(fragment.removeprefix(_VARY)) else url


def variant_key(url: str, value: str | None) -> str:
    """Return the key of the variant of a page with this value; see ``routing.vary_rule``. None: the shared one."""
    return url if value is None else f"{url}#{_VARY}{value}"


def url_of_key(key: str) -> str:
    """Return the path and query of the URL that leads to a page: its key without the variant."""
    return key.partition("#")[0]


def variant_of(key: str) -> str | None:
    """Return the value of a variant's key, or None if it is that of a shared page."""
    fragment = key.partition("#")[2]
    return fragment.removeprefix(_VARY) if fragment.startswith(_VARY) else None


def is_variant_value(value: str) -> bool:
    """True if a page can have a variant with this value."""
    return _VARIANT_VALUE.fullmatch(value) is not None


def _without_dot_segments(path: str) -> str:
    """Return a path in which "." and ".." are resolved, also if their dots are encoded."""
    if "." not in path and "%2" not in path:
        return path
    segments: list[str] = []
    *parents, last = path.split("/")[1:]
    for segment in parents:
        dots = _dots(segment)
        if dots == "..":
            del segments[-1:]
        elif dots != ".":
            segments.append(segment)
    dots = _dots(last)
    if dots == "..":
        del segments[-1:]
    segments.append("" if dots in {".", ".."} else last)
    return "/" + "/".join(segments)


def _dots(segment: str) -> str:
    return segment if len(segment) > 6 else segment.lower().replace("%2e", ".")


def _decodes_safely(path: str) -> bool:
    """True if a path is UTF-8 without control characters, and leads nowhere else if it is decoded again."""
    if "%" not in path:
        return True
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    if _NOT_TEXT.search(decoded):
        return False
    *others, last = _readings(path)
    return unquote(last) == last and not any(reading.startswith("//") for reading in (*others, last))


def _readings(path: str) -> Iterator[str]:
    """Yield how servers may read a path: decoded once or several times, with "." and ".." as they are or resolved."""
    for _ in range(_MAX_DECODED + 1):
        plain = path.replace("\\", "/")
        yield plain
        yield _without_dot_segments(plain)
        if "%" not in path:
            return
        path = unquote(path)
