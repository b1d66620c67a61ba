"""Between URLs as people type them and the keys under which pages are kept."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples

from unwritten.core.errors import BadAddress
from unwritten.core.paths import ENCODED_SLASH
from unwritten.routing.patterns import PagePattern, decode_text, safe_title

WIKI = PagePattern("/wiki/{title}")
ANY = PagePattern("/{path:path}")

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


def test_underscores_and_spaces_are_the_same() -> None:
    assert decode_text("Great_Auk", 120) == decode_text("  Great   Auk ", 120) == "Great Auk"
    assert WIKI.build({"title": "Great Auk"}) == "/wiki/Great_Auk"


def test_text_is_normalised_and_what_cannot_be_seen_goes() -> None:
    assert decode_text("Cafe\u0301", 120) == "Café"
    assert decode_text("a\u202eb\u200bc\x00d\u2066e\ufefff", 120) == "abcdef"
    assert decode_text("a\nb\tc\u2028d", 120) == "a b c d"
    assert decode_text("نامه\u200cها", 120) == "نامه\u200cها"  # a joiner that Persian needs
    assert WIKI.build({"title": "Café"}) == "/wiki/Caf%C3%A9"


@pytest.mark.parametrize(
    "nothing", ["_", "   ", ".", "..", "../..", "\u200b\u202e", "\u200d", "\x00", "...", "\\", "/"]
)
def test_an_address_that_names_nothing_is_not_found(nothing: str) -> None:
    with pytest.raises(BadAddress, match="names nothing") as caught:
        decode_text(nothing, 120)
    assert caught.value.status == 404


def test_a_name_that_is_too_long_is_refused_with_both_numbers() -> None:
    assert decode_text("x" * 120, 120) == "x" * 120
    with pytest.raises(BadAddress, match=r"121 characters.*up to 120") as caught:
        decode_text("x" * 121, 120)
    assert caught.value.status == 414
    with pytest.raises(BadAddress, match="500 characters"):
        ANY.parse({"path": "a/" * 250}, 120)


def test_bytes_that_are_no_text_are_refused() -> None:
    for pattern, name in ((WIKI, "title"), (ANY, "path")):
        with pytest.raises(BadAddress, match="not UTF-8"):
            pattern.parse({name: "a\ufffd"}, 120)


def test_an_encoded_slash_stays_inside_its_parameter() -> None:
    assert WIKI.parse({"title": f"AC{ENCODED_SLASH}DC"}, 120) == {"title": "AC/DC"}
    assert WIKI.build({"title": "AC/DC"}) == "/wiki/AC%2FDC"


def test_a_script_in_a_name_is_only_a_name() -> None:
    key = WIKI.build(WIKI.parse({"title": "<script>alert('1')</script>?a=b&c#d"}, 120))
    assert key == "/wiki/%3Cscript%3Ealert('1')%3C%2Fscript%3E%3Fa=b%26c%23d".replace("=", "%3D")
    assert urlsplit(key).path == key


def test_a_path_with_slashes_keeps_them_and_does_not_climb() -> None:
    assert ANY.build(ANY.parse({"path": "docs/a b/c"}, 120)) == "/docs/a%20b/c"
    with pytest.raises(BadAddress, match="climbs"):
        ANY.parse({"path": "docs/../secret"}, 120)


@pytest.mark.parametrize("path", ["/evil.example/x", "//evil.example", "///", "/\u200b/evil.example"])
def test_no_path_names_another_server(path: str) -> None:
    key = ANY.build(ANY.parse({"path": path}, 120))
    assert not key.startswith("//")
    assert urlsplit(key).netloc == ""


def test_spellings_meet_where_the_author_says_so() -> None:
    pattern = PagePattern("/wiki/{title}", canonical=lambda text: text[:1].upper() + text[1:])
    assert pattern.parse({"title": "great_auk"}, 120) == {"title": "Great auk"}
    assert pattern.link("great auk", 120) == "/wiki/Great_auk"


def test_where_a_title_leads() -> None:
    assert WIKI.link("Great Auk", 120) == "/wiki/Great_Auk"
    assert WIKI.link("x" * 121, 120) is None
    assert WIKI.link("..", 120) is None
    assert PagePattern("/{a}/{b}").link("x", 120) is None
    assert PagePattern("/").link("x", 120) is None
    assert ANY.link("Great Auk", 120) == "/Great%20Auk"


def test_a_title_leads_nowhere_where_a_number_belongs() -> None:
    assert PagePattern("/thread/{n:int}").link("Great Auk", 120) is None
    assert PagePattern("/thread/{n:int}").link("7", 120) is None
    assert PagePattern("/thread/{n:uuid}").link("x", 120) is None


@pytest.mark.parametrize("title", ["//evil.example", "/evil.example", "/", "../..", "a/../../b", "\\\\evil.example"])
def test_no_title_leads_to_another_server(title: str) -> None:
    for pattern in (WIKI, ANY):
        key = pattern.link(title, 120)
        assert key is None or (not key.startswith("//") and ".." not in key.split("/"))


def test_titles_for_people_have_no_brackets_that_make_links() -> None:
    assert safe_title(" a [[b]]\nc ") == "a b c"
    assert safe_title("[]][x") == "x"
    assert safe_title("array[0]") == "array[0]"
    assert safe_title("[[]]") == "Untitled"


@few_examples
@given(titles)
def test_a_key_is_plain_ascii_and_reads_back_as_itself(title: str) -> None:
    for pattern, name in ((WIKI, "title"), (ANY, "path")):
        try:
            values = pattern.parse({name: title}, 120)
        except BadAddress:
            continue
        key = pattern.build(values)
        assert key.isascii()
        assert key.startswith("/") and not key.startswith("//")
        assert urlsplit(key).path == key
        assert not set(key) & set("\"'<> \\\\") - {"'"}
        # What a browser sends back for this key is the same page, written the same way.
        prefix = "/wiki/" if name == "title" else "/"
        again = pattern.parse({name: unquote(key.removeprefix(prefix).replace("%2F", quote_of_slash()))}, 120)
        assert pattern.build(again) == key
        assert unicodedata.is_normalized("NFC", next(iter(again.values())))


def quote_of_slash() -> str:
    """How a route shows an encoded slash to the pattern, percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in ENCODED_SLASH.encode())
