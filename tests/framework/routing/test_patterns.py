"""Path patterns: parameters from URLs, and URLs from parameters."""

from __future__ import annotations

import datetime
import unicodedata
import uuid
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten.core.errors import BadURL
from unwritten.core.paths import ENCODED_SLASH, page_key
from unwritten.routing.patterns import PagePattern, decode_text, safe_title

WIKI = PagePattern("/wiki/{title}")
RAW = PagePattern("/user/{name:raw}")
ANY = PagePattern("/{path:path}")


def build(path: str, /, **values: object) -> str:
    """Return the path of a pattern with these parameters."""
    pattern = PagePattern(path)
    return pattern.build(pattern.parse(values))


titles = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            [
                "Great",
                "_",
                " ",
                "AC/DC",
                ENCODED_SLASH,
                "é",
                "e\u0301",
                "..",
                ".",
                "/",
                "\\",
                "%2F",
                "灯",
                "\u202e",
                "\u200d",
                "//",
            ]
        ),
        max_size=6,
    ).map("".join),
)


def test_underscores_are_spaces() -> None:
    assert decode_text("Great_Auk", 120) == decode_text("  Great   Auk ", 120) == "Great Auk"
    assert WIKI.build({"title": "Great Auk"}) == "/wiki/Great_Auk"


def test_text_is_normalized_and_invisible_characters_are_removed() -> None:
    assert decode_text("Cafe\u0301", 120) == "Café"
    assert decode_text("a\u202eb\u200bc\x00d\u2066e\ufefff", 120) == "abcdef"
    assert decode_text("a\nb\tc\u2028d", 120) == "a b c d"
    assert decode_text("نامه\u200cها", 120) == "نامه\u200cها"  # a joiner that Persian needs
    assert WIKI.build({"title": "Café"}) == "/wiki/Caf%C3%A9"


@pytest.mark.parametrize("text", ["_", "   ", ".", "..", "../..", "\u200b\u202e", "\u200d", "\x00", "...", "\\", "/"])
def test_text_without_a_name_is_a_404(text: str) -> None:
    with pytest.raises(BadURL, match="has no name") as caught:
        decode_text(text, 120)
    assert caught.value.status == 404


def test_text_that_is_too_long_is_a_414() -> None:
    assert decode_text("x" * 120, 120) == "x" * 120
    with pytest.raises(BadURL, match=r"121 characters. The limit is 120") as caught:
        decode_text("x" * 121, 120)
    assert caught.value.status == 414
    with pytest.raises(BadURL, match="500 characters"):
        ANY.parse({"path": "a/" * 250}, 120)


def test_invalid_utf_8_is_an_error() -> None:
    for pattern, name in ((WIKI, "title"), (ANY, "path")):
        with pytest.raises(BadURL, match="not UTF-8"):
            pattern.parse({name: "a\ufffd"}, 120)


def test_an_encoded_slash_stays_in_its_parameter() -> None:
    assert WIKI.parse({"title": f"AC{ENCODED_SLASH}DC"}, 120) == {"title": "AC/DC"}
    assert WIKI.build({"title": "AC/DC"}) == "/wiki/AC%2FDC"


def test_special_characters_are_quoted() -> None:
    key = WIKI.build(WIKI.parse({"title": "<script>alert('1')</script>?a=b&c#d"}, 120))
    assert key == "/wiki/%3Cscript%3Ealert('1')%3C%2Fscript%3E%3Fa=b%26c%23d".replace("=", "%3D")
    assert urlsplit(key).path == key


def test_a_path_keeps_its_slashes_and_cannot_have_dots() -> None:
    assert ANY.build(ANY.parse({"path": "docs/a b/c"}, 120)) == "/docs/a%20b/c"
    with pytest.raises(BadURL, match=r'a part "\." or "\.\."'):
        ANY.parse({"path": "docs/../secret"}, 120)


@pytest.mark.parametrize("path", ["/evil.example/x", "//evil.example", "///", "/\u200b/evil.example"])
def test_paths_never_leave_the_server(path: str) -> None:
    key = ANY.build(ANY.parse({"path": path}, 120))
    assert not key.startswith("//")
    assert urlsplit(key).netloc == ""


def test_canonical_maps_spellings_to_one_page() -> None:
    pattern = PagePattern("/wiki/{title}", canonical=lambda text: text[:1].upper() + text[1:])
    assert pattern.parse({"title": "great_auk"}, 120) == {"title": "Great auk"}
    assert pattern.link("great auk", 120) == "/wiki/Great_auk"


def test_titles_map_to_paths() -> None:
    assert WIKI.link("Great Auk", 120) == "/wiki/Great_Auk"
    assert WIKI.link("x" * 121, 120) is None
    assert WIKI.link("..", 120) is None
    assert PagePattern("/{a}/{b}").link("x", 120) is None
    assert PagePattern("/").link("x", 120) is None
    assert ANY.link("Great Auk", 120) == "/Great%20Auk"


def test_a_title_has_no_path_if_the_parameter_is_a_number() -> None:
    assert PagePattern("/thread/{n:int}").link("Great Auk", 120) is None
    assert PagePattern("/thread/{n:int}").link("7", 120) is None
    assert PagePattern("/thread/{n:uuid}").link("x", 120) is None


@pytest.mark.parametrize("title", ["//evil.example", "/evil.example", "/", "../..", "a/../../b", "\\\\evil.example"])
def test_titles_never_leave_the_server(title: str) -> None:
    for pattern in (WIKI, ANY):
        key = pattern.link(title, 120)
        assert key is None or (not key.startswith("//") and ".." not in key.split("/"))


def test_safe_titles_have_no_brackets_that_make_links() -> None:
    assert safe_title(" a [[b]]\nc ") == "a b c"
    assert safe_title("[]][x") == "x"
    assert safe_title("array[0]") == "array[0]"
    assert safe_title("[[]]") == "Untitled"


def test_a_raw_parameter_is_not_changed() -> None:
    user = PagePattern("/user/{name:raw}", canonical=str.lower)
    for name, path in {
        "john_doe": "/user/john_doe",
        "John Doe": "/user/John%20Doe",
        "a/b": "/user/a%2Fb",
        "50%": "/user/50%25",
        "a?b#c&d=e": "/user/a%3Fb%23c%26d%3De",
        "é": "/user/%C3%A9",
    }.items():
        assert user.parse({"name": name}) == {"name": name}
        assert user.build({"name": name}) == path
        assert user.link(name) == path
    assert user.parse({"name": f"a{ENCODED_SLASH}b"}) == {"name": "a/b"}
    for name in ("", "..", ".", "a/../b", "/", "x" * 121):
        assert user.link(name) is None
        with pytest.raises(BadURL):
            user.parse({"name": name})


def test_numbers_and_dates_can_be_given_as_they_are() -> None:
    date = datetime.date(2026, 11, 30)
    assert build("/day/{date}", date=date) == "/day/2026-11-30"
    assert build("/at/{time}", time=datetime.datetime(2026, 11, 30, 9, 5)) == "/at/2026-11-30_09:05:00"
    assert build("/wiki/{title}", title=7) == "/wiki/7"
    assert build("/user/{name:raw}", name=date) == "/user/2026-11-30"
    assert build("/{path:path}", path=date) == "/2026-11-30"
    assert build("/thread/{n:int}", n=7) == build("/thread/{n:int}", n="7") == "/thread/7"
    assert build("/price/{p:float}", p=1.5) == build("/price/{p:float}", p="1.5") == "/price/1.5"
    id = uuid.UUID(int=1)
    assert build("/id/{id:uuid}", id=id) == build("/id/{id:uuid}", id=str(id)) == f"/id/{id}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/wiki/{x}", None),
        ("/wiki/{x}", ""),
        ("/wiki/{x}", "x" * 121),
        ("/user/{x:raw}", None),
        ("/thread/{x:int}", "seven"),
        ("/thread/{x:int}", -1),
        ("/thread/{x:int}", [1]),
        ("/price/{x:float}", "free"),
        ("/price/{x:float}", float("nan")),
        ("/id/{x:uuid}", "Lighthouse"),
        ("/{x:path}", "a/../b"),
    ],
)
def test_a_parameter_that_no_path_can_hold_is_an_error(path: str, value: object) -> None:
    with pytest.raises(BadURL):
        build(path, x=value)


def test_a_canonical_form_without_a_name_is_an_error() -> None:
    pattern = PagePattern("/wiki/{title}", canonical=lambda text: text.strip("?! "))
    with pytest.raises(BadURL, match="has no name"):
        pattern.parse({"title": "?!"})


@few_examples
@given(titles)
def test_a_key_is_ascii_and_parses_to_itself(title: str) -> None:
    for pattern, name in ((WIKI, "title"), (RAW, "name"), (ANY, "path")):
        try:
            key = pattern.build(pattern.parse({name: title}, 120))
        except BadURL:
            continue
        assert page_key(key) == key
        assert key.isascii()
        assert key.startswith("/") and not key.startswith("//")
        assert urlsplit(key).path == key
        assert not set(key) & set("\"'<> \\\\") - {"'"}
        # A request for the key has the same key.
        prefix = pattern.path.partition("{")[0]
        again = pattern.parse({name: unquote(key.removeprefix(prefix).replace("%2F", quote_of_slash()))}, 120)
        assert pattern.build(again) == key
        assert unicodedata.is_normalized("NFC", next(iter(again.values())))


def quote_of_slash() -> str:
    """Return what a route passes to the pattern for an encoded slash, percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in ENCODED_SLASH.encode())
