"""Every text that visitors see is marked for translation, and has a translation in every language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages import Message
from jinja2 import Environment, nodes
from tests.localization.catalogs import (
    HOW_TO_UPDATE,
    LANGUAGES,
    ROOT,
    extract,
    load,
    python_files,
    strings,
    visitor_templates,
)

from unwritten.rendering.script_texts import script_texts

PLACEHOLDER = re.compile(r"%\((\w+)\)s")
TAG = re.compile(r"</?\w+[^>]*>")


def key(message: Message) -> tuple[str | None, str]:
    """Return what identifies a text in a catalog."""
    return message.context, message.id if isinstance(message.id, str) else message.id[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_a_translation(language: str) -> None:
    texts = {key(message) for message in extract() if message.id}
    translated = {key(m) for m in load(language) if m.id and all(strings(m)) and not m.fuzzy}
    missing, unused = sorted(map(str, texts - translated)), sorted(map(str, translated - texts))
    assert not missing, f"No translation into {language!r}: {missing}. {HOW_TO_UPDATE}"
    assert not unused, f"Unused translations into {language!r}: {unused}. {HOW_TO_UPDATE}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_the_same_values_and_tags(language: str) -> None:
    for message in load(language):
        if not message.id:
            continue
        ids = (message.id,) if isinstance(message.id, str) else message.id
        for index, translation in enumerate(strings(message)):
            wanted, found = (sorted(PLACEHOLDER.findall(text)) for text in (ids[-1], translation))
            # In Arabic, "two pages" is one word.
            is_word = len(strings(message)) == 6 and index < 3
            assert found == wanted or (is_word and set(found) < set(wanted)), f"{language}: {translation!r}"
            assert sorted(TAG.findall(ids[-1])) == sorted(TAG.findall(translation)), f"{language}: {translation!r}"
            assert not re.search(r"%(?!\(\w+\)s|%)", translation), f"{language}: {translation!r} has a stray %"


def test_translations_differ_from_english() -> None:
    same = {"%(number)s s", "Text", "Version %(number)s", "version %(number)s", "(optional)", "%(number)s tokens/s"}
    same |= {"%(number)s token"}
    for language in LANGUAGES:
        equal = {key(m)[1] for m in load(language) if m.id and strings(m)[0] == key(m)[1]} - same
        assert not equal, f"Not translated into {language!r}: {equal}"


# -- templates ------------------------------------------------------------------------------------------------

SHOWN_ATTRIBUTES = {"title", "alt", "placeholder", "aria-label", "aria-description", "aria-valuetext"}
UNITS = {"UTC"}


class ShownTexts(HTMLParser):
    """The texts and attributes of HTML that visitors see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts += [value or "" for name, value in attrs if name in SHOWN_ATTRIBUTES]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def unmarked_texts(path: Path) -> Iterator[str]:
    """Yield the texts and strings in a template that visitors see, and that are not marked for translation."""
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    source = path.read_text(encoding="utf-8")
    for output in environment.parse(source).find_all(nodes.Output):
        for node in output.nodes:
            yield from _printed_strings(node)
    html, in_trans, first = "", False, False  # the source without expressions and marked texts
    for _, kind, value in environment.lex(source):
        if kind == "block_begin":
            first = True
        elif kind == "name" and first:
            in_trans = value == "trans" or (in_trans and value != "endtrans")
            first = False
        elif kind == "data" and not in_trans:
            html += value
    for text in ShownTexts(html).texts:
        words = [word for word in re.findall(r"[^\W\d_]{2,}", text) if word not in UNITS]
        if words:
            yield " ".join(words)


def _printed_strings(node: nodes.Node) -> Iterator[str]:
    """Yield the strings that an expression may print."""
    if (
        isinstance(node, nodes.Const)
        and isinstance(node.value, str)
        and re.search(r"[A-Z][a-z]|[a-z]+ [a-z]+", node.value)
    ):
        yield node.value
    elif isinstance(node, nodes.CondExpr):
        yield from _printed_strings(node.expr1)
        if node.expr2 is not None:
            yield from _printed_strings(node.expr2)
    elif isinstance(node, (nodes.Or, nodes.And, nodes.Add)):
        yield from _printed_strings(node.left)
        yield from _printed_strings(node.right)
    elif isinstance(node, nodes.Concat):
        for part in node.nodes:
            yield from _printed_strings(part)


@pytest.mark.parametrize("path", visitor_templates(), ids=lambda path: path.relative_to(ROOT / "templates").as_posix())
def test_texts_of_templates_are_marked(path: Path) -> None:
    unmarked = list(unmarked_texts(path))
    assert not unmarked, (
        f"{path.relative_to(ROOT)} has texts that cannot be translated: {unmarked}. Write {{{{ _('Text') }}}}, or "
        f"{{% trans name=value %}}Text with {{{{ name }}}}{{% endtrans %}}. {HOW_TO_UPDATE}"
    )


def test_unmarked_texts_are_found(tmp_path: Path) -> None:
    """The check above finds texts, attributes and strings in expressions."""
    path = tmp_path / "page.html"
    path.write_text(
        '<p class="a" title="Close">{{ _("Marked") }} {{ "Not it" if x else _("b") }}</p>{% if x %}Old{% endif %}'
    )
    assert sorted(unmarked_texts(path)) == ["Close", "Not it", "Old"]


# -- Python and scripts ---------------------------------------------------------------------------------------

FOR_VISITORS = {
    *("BadAlias", "BadEdit", "BadForm", "BadURL", "Busy", "OverBudget", "BrokerUnavailable", "Denied", "EditConflict"),
    *("PageFailed", "TimedOut", "UnusableText", "StoreReadOnly"),
}
"""Errors whose messages visitors see. See ``core.incidents``."""

FOR_DEVELOPERS = {
    "app/running_app.py",  # a URL that the author asks for
    "cli",
    "devtools",
    "formats/base.py",  # an author's format that fails
    "formats/schema.py",  # why a text does not fit a schema
    "generation/page_writer.py",  # what a script or a command writes
    "pictures/painting.py",  # pictures are shown or not, without a message
    "pictures/picture_tag.py",
    "routing/form_fields.py",  # a form whose fields the action does not take
    "routing/redirects.py",
    "routing/routes.py",
    "security/hosts.py",  # what the operator has to set
    "storage/postgres.py",  # the same
    "testing",
    "web/boxes.py",  # what a program in a box gets
    "web/template_globals.py",
}
"""Files whose messages of these errors only developers and operators see. They stay English."""


def test_messages_for_visitors_can_be_translated() -> None:
    found = []
    for path in python_files():
        name = path.relative_to(ROOT / "framework" / "unwritten").as_posix()
        if name in FOR_DEVELOPERS or name.partition("/")[0] in FOR_DEVELOPERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Name)
                or node.func.id not in FOR_VISITORS
            ):
                continue
            if node.args and isinstance(node.args[0], (ast.JoinedStr, ast.Constant)):
                found.append(f"{name}:{node.lineno}: {ast.unparse(node.args[0])[:80]}")
    assert not found, (
        "Visitors see these messages, but they cannot be translated: " + "; ".join(found) + ". Write "
        "`_(\"The page '%(title)s' …\", title=title)`, with `from ..core.localization import gettext_lazy as _`. "
        + HOW_TO_UPDATE
    )


def test_texts_of_scripts_come_from_the_server() -> None:
    """Scripts name only texts that exist, all of them are used, and no script has a sentence of its own."""
    from unwritten.core.localization import Language

    texts = script_texts(Language("en", None))
    used: set[str] = set()
    for path in sorted((ROOT / "static").glob("*.js")):
        if path.name == "devtools.js":
            continue
        source = re.sub(r"/\*.*?\*/|(?m:^\s*//[^\n]*|\s// [^\n]*)", " ", path.read_text(encoding="utf-8"), flags=re.S)
        for call in re.findall(r"(?<![\w.])text\(([^)]*)", source):
            used.update(name for name in re.findall(r'"(\w+)"', call))
        sentences = re.findall(r"""["'`]([A-Z][a-z]+ [a-z][^"'`]*)["'`]""", source)
        sentences = [
            sentence for sentence in sentences if not sentence.startswith("The state of a box")
        ]  # for programs
        assert not sentences, f"{path.name}: {sentences}. Add them to rendering/script_texts.py and call text(…)."
    states = {"stopped", "failed", "unwritten"}  # text(state)
    assert set(texts) == used & set(texts) | states, "rendering/script_texts.py has texts that no script uses"
    assert used - set(texts) <= {"queued", "writing", "title", "value", "status"}, used - set(texts)
