"""Links: from ``[[Title]]`` and ``href`` to keys of pages, and back."""

from __future__ import annotations

from html import escape
from urllib.parse import unquote

import pytest
from tests.support.apps import a_linker, text_frame
from tests.support.urls import url_vectors

from unwritten.core.paths import page_path
from unwritten.formats.base import RegionContext
from unwritten.formats.links import WIKI_LINK, Link, Linker, find_anchors, html_to_text, plain_text, title_from_key
from unwritten.formats.registry import FORMATS
from unwritten.routing.patterns import PagePattern


def test_a_link_has_a_class_for_written_pages() -> None:
    linker = a_linker()
    assert linker.anchor("Tower", "the tower") == '<a href="/wiki/Tower" class="written">the tower</a>'
    assert linker.anchor("Great Auk", "auks") == '<a href="/wiki/Great_Auk" class="unwritten">auks</a>'


def test_the_store_is_asked_once_per_key() -> None:
    asked: list[list[str]] = []

    def written(keys: object) -> set[str]:
        asked.append(list(keys))  # type: ignore[call-overload]
        return set()

    linker = Linker("/wiki/Here", PagePattern("/wiki/{title}").link, written)
    for _ in range(3):
        linker.anchor("Tower", "a")
        linker.anchor("tower", "b")
    assert asked == [["/wiki/Tower"], ["/wiki/tower"]]


def test_a_title_that_no_page_can_have_is_text() -> None:
    assert a_linker().anchor("..", "<dots>") == "&lt;dots&gt;"
    assert a_linker().anchor("x" * 200, "long") == "long"
    assert Linker("/", None, lambda keys: set()).anchor("Tower", "tower") == "tower"


def test_a_bare_name_leads_to_the_same_page_as_brackets() -> None:
    linker = a_linker("/")
    for name in ("Great Auk", "Great_Auk", "Great%20Auk", " Great Auk "):
        assert linker.local_path(name) == "/wiki/Great_Auk"
    assert linker.local_path("Café") == "/wiki/Caf%C3%A9"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("/wiki/Tower", "/wiki/Tower"),
        ("/wiki/Great Auk", "/wiki/Great%20Auk"),
        ("/wiki/Café", "/wiki/Caf%C3%A9"),
        ("./Tower", "/wiki/Tower"),
        ("../about", "/about"),
        ("?version=1", "/wiki/Here?version=1"),
        ("https://evil.example", None),
        ("//evil.example", None),
        ("/..//evil.example", None),
        ("/\\evil.example", None),
        ("javascript:alert(1)", None),
        ("java\tscript:alert(1)", None),
        ("//[", None),
        ("http://[::1", None),
        ("//\u2100.example", None),
        ("x" * 3000, None),
    ],
)
def test_generated_addresses_stay_in_this_app(address: str, key: str | None) -> None:
    assert a_linker().local_path(address) == key


def links_of(format: str, text: str, linker: Linker | None = None) -> list[Link]:
    formatter = FORMATS[format].create_formatter(RegionContext(linker or a_linker()))
    return find_anchors(str(formatter.format(text_frame(text, done=True)).html))


def test_links_are_found_with_their_sentences() -> None:
    text = "It is old. A [[Lamp|bright lamp]] burns in the **[[Tower]]**! The [[Lamp]] again.\n\n[[Sea]]\nand [[..]]"
    found = links_of("markdown", text)
    assert [(link.key, link.text) for link in found] == [
        ("/wiki/Lamp", "bright lamp"),
        ("/wiki/Tower", "Tower"),
        ("/wiki/Sea", "Sea"),
    ]
    assert found[0].sentence == "A bright lamp burns in the Tower!"
    assert found[2].sentence == "Sea and .."


SCRIPT = 'if [[ -f "$LOG" && -n $SHIP ]]; then'


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("markdown", f"Run:\n\n```bash\n{SCRIPT}\n```\n"),
        ("markdown", f"Run `{SCRIPT}` now."),
        ("markdown", f"Run:\n\n    {SCRIPT}\n"),
        ("html", f"<p>Run <code>{SCRIPT}</code></p>"),
        ("html", f"<pre>\n{SCRIPT}\n</pre>"),
        ("html", "<p><kbd>[[Sea]]</kbd> <samp>a <b>[[Sea]]</b></samp></p>"),
        ("html", "<p title='[[Sea]]'>x</p>"),
        ("html", "<!-- [[Sea]] --><p>x</p>"),
        ("html", "<p>&#91;&#x5B;Sea]] &lbrack;&lsqb;Sea]]</p>"),
        ("text", "In plain text, [[Sea]] is not a link."),
    ],
)
def test_code_attributes_comments_and_escapes_contain_no_links(format: str, text: str) -> None:
    assert links_of(format, text) == []


@pytest.mark.parametrize(
    ("text", "title", "label"),
    [
        ("[[Tower]]", "Tower", None),
        ("[[ Great  Auk | the auk ]]", "Great  Auk", "the auk"),
        ("[[[Tower]]]", "Tower", None),
        ("[[a|b[[Tower|x]]", "Tower", "x"),
        ("[[灯台|灯台の光]]", "灯台", "灯台の光"),
    ],
)
def test_brackets_form_a_link(text: str, title: str, label: str | None) -> None:
    match = WIKI_LINK.search(text)
    assert match is not None and (match[1], match[2]) == (title, label)


@pytest.mark.parametrize("text", ["[[]]", "[[ ]]", "[[a\nb]]", "[[|a]]", "[[a|]]", "[[a|b|c]]", "[[a]b]]", "[[a"])
def test_brackets_that_form_no_link(text: str) -> None:
    assert WIKI_LINK.search(text) is None


def test_plain_text_has_no_markup() -> None:
    assert plain_text("## Head\n\nA **[[Lamp|bright]]** [sea](Sea), `x`\n- one\n1. two\n> three") == (
        "Head A bright sea, x one two three"
    )
    assert plain_text("snake_case stays, _this_ goes, 2*3*4 stays") == "snake_case stays, this goes, 2*3*4 stays"


def test_the_title_is_the_last_segment_of_the_key() -> None:
    assert title_from_key("/wiki/Great_Auk?x=1") == "Great Auk"
    assert title_from_key("/wiki/AC%2FDC") == "AC/DC"
    assert title_from_key("/") == "Front page"


def test_find_anchors_returns_links_with_their_sentences() -> None:
    html = (
        '<h2>Head</h2><p>It is old. By the <a lang="en" href="/wiki/Sea" class="unwritten">great <b>sea</b></a> &amp; '
        'lamp.</p><p><a href="#g-x">here</a> <a>nowhere</a> <a href="/wiki/Sea" class="unwritten">again</a></p>'
    )
    (link,) = find_anchors(html)
    assert (link.key, link.text, link.sentence) == ("/wiki/Sea", "great sea", "By the great sea & lamp.")


def test_html_to_text_breaks_lines_between_blocks() -> None:
    assert html_to_text("<p>a <b>b</b>c</p><ul><li>d &lt; e</li></ul>").split("\n") == [
        "",
        "a bc",
        "",
        "",
        "d < e",
        "",
        "",
    ]


def test_a_page_does_not_link_to_itself() -> None:
    linker = Linker("/wiki/Lighthouse", PagePattern("/wiki/{title}").link, lambda keys: set())
    assert linker.anchor("Lighthouse", "the tower") == "the tower"
    assert links_of("markdown", "A [[Lighthouse|tower]] has a [[Lamp]].", linker) == [
        Link("/wiki/Lamp", "Lamp", "A tower has a Lamp.")
    ]


@pytest.mark.parametrize("format", ["markdown", "html"])
def test_generated_text_links_neither_elsewhere_nor_to_the_framework(format: str) -> None:
    """Every URL, as a link in both syntaxes: the rendered page has only links to pages."""
    linker = Linker("/wiki/Here", PagePattern("/{path:path}").link, lambda keys: set(), no_pages=["/health"])
    urls = [url for url in url_vectors() if len(url) < 200] + ["/health", "/heal%74h?x", "../health#x"]
    links = 0
    for url in urls:
        source = escape(url) if format == "html" else url
        texts = [f'<a href="{source}">x</a>', f"<a href='{source}'>x</a>"]
        if format == "markdown":
            texts = [
                f"[x](<{url}>)",
                f"[x]({url})",
                f"[x][r]\n\n[r]: <{url}>",
                f"<{url}>",
                f"[[{url}]]",
                f"![x]({url})",
            ]
        for text in texts:
            for link in links_of(format, text, linker):
                links += 1
                assert page_path(link.key) == link.key, (url, text)
                assert unquote(link.key.partition("?")[0]) != "/health"
    assert links > 40
