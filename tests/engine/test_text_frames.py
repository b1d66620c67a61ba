from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from unwritten_engine.frames import Frame
from unwritten_engine.text_frames import TextFrames


def run(pieces: list[str], opening: str = "", ends: tuple[str, ...] = (), stops: tuple[str, ...] = ()) -> list[Frame]:
    stream = TextFrames(opening, ends, stops, canvas_length=4, budget=10)
    frames = []
    for number, piece in enumerate(pieces, 1):
        if stream.push(piece):
            break
        frames.append(stream.frame(number))
    return [*frames, stream.last(len(frames))]


def test_the_last_word_is_not_settled() -> None:
    frames = run(["A", " light", "house ", "is"])
    assert [(f.text, f.unsettled, f.fixed) for f in frames] == [
        ("A", ((0, 1),), 0),
        ("A light", ((2, 7),), 2),
        ("A lighthouse ", (), 12),
        ("A lighthouse is", ((13, 15),), 13),
        ("A lighthouse is", (), 15),
    ]


def test_the_opening_is_part_of_every_frame_and_never_changes() -> None:
    frames = run(["s are", " tall"], opening="**Light")
    assert [f.text for f in frames] == ["**Lights are", "**Lights are tall", "**Lights are tall"]
    assert frames[0].unsettled == ((9, 12),)
    assert run(["house"], opening="**Light")[0].unsettled == ((7, 12),)


def test_a_language_without_spaces_settles_too() -> None:
    assert [(f.unsettled, f.fixed) for f in run(["東京は", "大きな", " [[Tok"])] == [
        ((), 3),
        ((), 6),
        (((7, 12),), 7),
        ((), 12),
    ]
    assert run(["ภ" * 200])[0].unsettled == ((136, 200),)


def test_a_stop_string_is_never_shown() -> None:
    frames = run(["A tower.", "\n", "\n==", "=", "== more"], ends=("\n\n=====",))
    assert [f.text for f in frames] == ["A tower."] * 5
    frames = run(["A tower.", "\n", "\nIt", " stands"], ends=("\n\n=====",))
    assert [f.text for f in frames][:3] == ["A tower.", "A tower.", "A tower.\n\nIt"]


def test_withheld_text_is_shown_if_no_stop_string_follows() -> None:
    assert run(["A", " = "], stops=("===",))[-1].text == "A ="


def test_the_first_stop_of_several_counts() -> None:
    stream = TextFrames("", ("END",), ("stop",), 4, 10)
    assert stream.push("a END stop")
    assert stream.ended and not stream.stopped
    assert stream.last(3).text == "a"
    stream = TextFrames("", ("END",), ("stop",), 4, 10)
    assert stream.push("a stop END")
    assert stream.stopped


def test_surrounding_white_space_is_dropped() -> None:
    frames = run(["\n", "\n  A", " b ", "\n"])
    assert [f.text for f in frames] == ["", "A", "A b ", "A b \n", "A b"]
    assert run([" a"], opening="It is")[-1].text == "It is a"
    assert run(["\n"], opening="It is ")[-1].text == "It is "


def test_canvases_and_steps_are_counted() -> None:
    frames = run(list("abcdefghij"))
    assert [(f.canvas, f.step, f.steps) for f in frames[:10]] == [
        *((0, step, 4) for step in (1, 2, 3, 4)),
        *((1, step, 4) for step in (1, 2, 3, 4)),
        *((2, step, 2) for step in (1, 2)),
    ]
    assert {f.canvases for f in frames} == {3}


@given(
    st.lists(st.text("ab =\n", max_size=4), max_size=12),
    st.text("ab ", max_size=3),
    st.lists(st.text("ab=\n", min_size=1, max_size=3), max_size=3),
)
def test_frames_do_not_depend_on_how_a_text_is_split(pieces: list[str], opening: str, stops: list[str]) -> None:
    frames = run(pieces, opening, stops=tuple(stops))
    whole = "".join(pieces) if opening.strip() else "".join(pieces).lstrip()
    cut = min((at for stop in stops if (at := whole.find(stop)) >= 0), default=len(whole))
    expected = (opening + whole[:cut]).rstrip() if whole[:cut].strip() else opening
    assert frames[-1].text == expected
    assert frames[-1].fixed == len(expected)
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert frame.fixed <= later.fixed or later.text == opening
        for start, end in frame.unsettled:
            assert frame.fixed <= start < end == len(frame.text)
