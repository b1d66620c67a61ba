"""The time to render a frame grows with its length, not with its square, whatever a model writes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import REPEATED, nested_list, repeated

from unwritten.formats.base import RegionContext
from unwritten.formats.markdown import _MAX_MARKUP
from unwritten.formats.registry import FORMATS
from unwritten_engine import Span


def seconds(name: str, text: str, spans: tuple[Span, ...] = (), *, done: bool = False) -> float:
    """Return the least CPU time of two frames, each the first one of its formatter."""
    times = []
    for _ in range(2):
        formatter = FORMATS[name].create_formatter(RegionContext(a_linker()))
        frame = text_frame(text, spans, done=done)
        begun = time.process_time()
        formatter.format(frame)
        times.append(time.process_time() - begun)
    return min(times)


def assert_linear(measure: Callable[[int], float], size: int) -> None:
    """Fail if 4 times the size takes much more than 4 times the time: 16 times if it grows with the square."""
    for _ in range(3):  # a busy machine may spoil one attempt
        once, twice, four_times = (measure(size * factor) for factor in (1, 2, 4))
        if four_times < 8 * once + 0.01 or (twice < 2.5 * once and four_times < 2.5 * twice):
            return
    pytest.fail(f"{once * 1000:.1f} ms, {twice * 1000:.1f} ms and {four_times * 1000:.1f} ms")


@pytest.mark.parametrize("name", ["markdown", "text"])
@pytest.mark.parametrize("fragment", REPEATED)
def test_time_is_linear_in_repeated_fragments(name: str, fragment: str) -> None:
    for done in (False, True):
        assert_linear(lambda size: seconds(name, repeated(fragment, size), done=done), 25_000)  # noqa: B023


@pytest.mark.parametrize("fragment", REPEATED)
def test_time_is_linear_up_to_the_limit_of_markup(fragment: str) -> None:
    """Longer blocks are shown as plain text, so the parser itself is measured with shorter ones."""
    size = _MAX_MARKUP // 4
    for done in (False, True):
        assert_linear(lambda size: seconds("markdown", "a " + repeated(fragment, size), done=done), size)  # noqa: B023


@pytest.mark.parametrize(
    "fragment", ["[[Sea]] ", "[a](b) ", "word ", "**a** ", "a\n", "a\n\n", "- [[Sea]]\n", " ", "`a` "]
)
def test_time_is_linear_in_unsettled_spans(fragment: str) -> None:
    def measure(size: int) -> float:
        spans = tuple((at, at + 2) for at in range(0, size - 2, 5))
        return seconds("markdown", repeated(fragment, size), spans)

    assert_linear(measure, 5_000)


def test_time_is_linear_in_nested_lists() -> None:
    assert_linear(lambda size: seconds("markdown", nested_list(size)), 25_000)


def test_time_is_linear_in_nested_emphasis() -> None:
    assert_linear(lambda size: seconds("markdown", "*a " * size + "a* " * size, done=True), _MAX_MARKUP // 8)


def test_a_block_with_too_much_markup_is_shown_as_plain_text() -> None:
    formatter = FORMATS["markdown"].create_formatter(RegionContext(a_linker()))
    block = "*a* <b> " * 1000
    html = str(formatter.format(text_frame(f"*One.*\n\n{block}\n\n*Two.*", done=True)).html)
    assert html.startswith("<p><em>One.</em></p>\n<p>*a* &lt;b&gt; *a*")
    assert html.endswith("<p><em>Two.</em></p>\n")
