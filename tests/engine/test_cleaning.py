from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.hostile import few_examples
from tests.support.model_server import ModelServer, event, model_server, opened, piece, raw, says

from unwritten_engine import (
    Draft,
    Engine,
    Frame,
    Prompt,
    Recorder,
    Request,
    StopReason,
    TapeEngine,
    open_engine,
    scripted,
)
from unwritten_engine.cleaning import FrameCleaner, clean_engine
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.frames import Usage
from unwritten_engine.scripted import ABOUT, HANG, ScriptedEngine

pytestmark = pytest.mark.anyio
ASK = Request(Prompt("A page."), max_tokens=40)
APPENDS = replace(ABOUT, abilities=replace(ABOUT.abilities, drafts=False))
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}

TEXTS = {
    # What the model writes, and what the text is.
    "an emoji of two surrogates": ("Wave \ud83d\udc4b end.", "Wave 👋 end."),
    "half an emoji": ("Wave \ud83d end \udc4b.", "Wave \ufffd end \ufffd."),
    "half an emoji at the end": ("Wave \ud83d", "Wave \ufffd"),
    "control characters": ("A\0 b\x1b[1m\x07c\x85\x9fd\x7f.\r\nE\rF\ufeff", "A b[1mcd.\nE\nF"),
    "noncharacters and private use": ("A\uffff\ufdd0\U0001fffe\ue000\ue001\ue002.", "A" + "\ufffd" * 6 + "."),
    "a family": ("👩‍👩‍👧 and 🏳️‍🌈 e\u0301.", "👩‍👩‍👧 and 🏳️‍🌈 e\u0301."),
    "reasoning": ("<think>Hm.</think>\n\nPlain.", "Plain."),
    "reasoning of another name": ("<thinking>Hm.</thinking>Plain.", "Plain."),
    "reasoning in brackets": ("[THINK]Hm.[/THINK]Plain [[Link]].", "Plain [[Link]]."),
    "reasoning in the middle": ("One. <think>Hm.</think>Two.", "One. Two."),
    "reasoning in a sentence": ("The lamp <think>is it?</think> is lit.", "The lamp is lit."),
    "reasoning with attributes": ('<think effort="low" >Hm.</think >Plain.', "Plain."),
    "reasoning of Kimi": ("◁think▷Hm.◁/think▷Plain.", "Plain."),
    "reasoning of Command": (
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Plain.<|END_RESPONSE|>",
        "Plain.",
    ),
    "reasoning of Apertus": ("<|inner_prefix|>Hm.<|inner_suffix|>Plain.<|assistant_end|>", "Plain."),
    "reasoning twice": ("<think>a</think>One.<think>b</think> Two.", "One. Two."),
    "reasoning without an end": ("One.\n\n<think>Hm. And so", "One."),
    "reasoning about its end": ("<think>I write `</think>` at the end.</think>Plain.", "Plain."),
    "reasoning in reasoning": ("<think>a<think>b</think>c</think>Plain.", "Plain."),
    "reasoning that the template began": ("Hm, well.\n</think>\n\nPlain.", "Plain."),
    "reasoning of Gemma": ("<|channel>thought\nHm.<channel|>Plain.", "Plain."),
    "a label of Gemma": ("thought\nPlain.", "Plain."),
    "a word that begins like it": ("thoughts are free", "thoughts are free"),
    "reasoning of Harmony": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Plain.<|return|>",
        "Plain.",
    ),
    "an invented turn of Gemma": ("Plain.<end_of_turn>\n<start_of_turn>user\nMore?", "Plain."),
    "an invented turn of Gemma 4": ("Plain.<turn|>\n<|turn>user\nMore?", "Plain."),
    "an invented turn of ChatML": ("Plain.<|im_end|>\n<|im_start|>user\nMore?", "Plain."),
    "an invented turn of Llama": ("Plain.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nMore?", "Plain."),
    "an invented turn of Mistral": ("Plain.</s> [INST] More? [/INST]", "Plain."),
    "an invented turn of DeepSeek": ("Plain.<｜end▁of▁sentence｜><｜User｜>More?", "Plain."),
    "an invented turn without an end": ("Plain.\n<|im_start|>user\nMore?", "Plain."),
    "an invented turn of Alpaca": ("Plain.\n\n### Instruction:\nMore?", "Plain."),
    "an invented turn of Vicuna": ("Plain.\n### Human: More?", "Plain."),
    "an end of a sentence": ("Plain text. <|im_end|> user", "Plain text."),
    "an end in a sentence": ("Plain text<|im_end|> and more", "Plain text"),
    "an end in a quotation": ('He said "go<|im_end|>\n"', 'He said "go'),
    "an end without bars": ("Plain.<im_end>\nMore", "Plain."),
    "an answer in a box": ("It is <|begin_of_box|>42<|end_of_box|>.", "It is 42."),
    "an end of a document": ("Plain.<|endoftext|>More.", "Plain."),
    "an end that few models have": ("Plain.<|EOT|>More.", "Plain."),
    "an end of a sequence": ("Plain.<eos><pad><pad>", "Plain."),
    "padding": ("Plain<pad> text<unk>.", "Plain text."),
    "its own header": ("<|start_header_id|>assistant<|end_header_id|>\n\nPlain.", "Plain."),
    "its own separator": ("<|im_start|>assistant<|im_sep|>Plain.<|im_end|>", "Plain."),
    "an end at the beginning": ("<|endoftext|>Plain.<|endoftext|>", "Plain."),
    "another turn at the beginning": ("<|im_end|>\n<|im_start|>user\nMore?", ""),
    "its own turn": ("<start_of_turn>model\nPlain.", "Plain."),
    "a span of code": ("They end at `</think>`, and `` <|im_end|> ` `` too.", None),
    "a span that is none": ("They `end <|im_end|>\nat ` it.", "They `end"),
    "a fence": ("Look:\n\n```\n<|im_start|>user\nHi<|im_end|>\n```\n\nSo.", None),
    "after a fence": ("```\n<eos>\n```\nSo.<eos>More.", "```\n<eos>\n```\nSo."),
    "right after a fence": ("```\na\n```<|im_end|>\n<|im_start|>user", "```\na\n```"),
    "indented code": ("Look:\n\n    <|im_start|>user\n    <think>\n\nSo.", None),
    "an indented list": ("1. One\n\n    Two.<end_of_turn>\nuser", "1. One\n\n    Two."),
    "quotation marks": ("Not \"<eos>\" and “a </think> b”, '</s>' or «<think>».", None),
    "a quotation without an end": ('He said: "Go.<end_of_turn>\n<start_of_turn>user\n"Hi"', 'He said: "Go.'),
    "inches": ('A 5" screen ends.<eos> 6" more', 'A 5" screen ends.'),
    "a sentence about it": ("The token </s>, which ends a text, is short.", None),
    "a token in a sentence": ("The token <|im_end|> is used. So is (<bos> or </s>) and eos=<eos> (an end).", None),
    "padding in a sentence": ("The tokens <pad> and <unk> are rare.", None),
    "reasoning in a sentence about it": ("A model writes <think> before it. Then </think>\nPlain.", None),
    "the end of reasoning in a sentence": ("The tag </think> ends it, and </think> is short.", None),
    "a list of tokens": ("- <|im_start|> begins a turn\n- <|im_end|>: ends it\n- **<eos>** too", None),
    "tokens in brackets": ("See [[<|im_end|>]], {<pad>} and [<eos>](/eos). The <eos>'s <bos>/<eos> is what?", None),
    "tokens in elements": ("<p><b><|im_end|></b> or</p><ul><li></think></li></ul>", None),
    "an end after an element": ("<p>Plain.</p><|im_end|></s>", "<p>Plain.</p>"),
    "a final message with spaces": ("<|channel|>final <|message|> the end", "the end"),
    "tokens between letters without spaces": ("标记<|im_end|>表示结束。토큰 <eos>은 끝.", None),
    "an end between sentences without spaces": ("结束。<|im_end|>用户", "结束。"),
    "a table of tokens": ("| Token | Use |\n|---|---|\n| <|im_end|> | End |\n| </s> | End |", None),
    "quotation marks of Japan": ("「<|im_end|>」は終わりを示す。『<eos>』も。", None),
    "a heading like a turn": ("### Human rights\n\n## Instruction: one\n\n#### Human:", None),
    "a turn of Alpaca in a fence": ("```\n### Instruction:\nHi\n```\nSo.", None),
    "elements of code": ("<p>Use <code></think></code> or <pre>\n<eos>\n</pre></p>", None),
    "an attribute": ('<p title="<eos> x">a</p><eos>b', '<p title="<eos> x">a</p>'),
    "a script": ("<script>\nif (a<eos>b) {}\n</script>", None),
    "a comment": ("<!-- <eos> --><p>a</p><eos>b", "<!-- <eos> --><p>a</p>"),
    "indented elements": ("<div>\n\n    <p>a</p><eos>\n</div>", "<div>\n\n    <p>a</p>"),
    "a sequence of Llama": ("<s> Plain.</s> [INST] More?", "Plain."),
    "struck out with a space": ("A <s> old</s> new.</s>More.", "A <s> old</s> new."),
    "struck out": ("<s>Old</s> new.</s>More.", "<s>Old</s> new."),
    "escaped markup": ("<p>&lt;/think&gt; \\<eos> x</p>", None),
    "half a marker": ("A < b, <thi", None),
    "links and brackets": ("[[A]] [b](c) a[INS", None),
}
JSON_TEXTS = {
    "in strings": ('{"a":"<eos> </think> <|im_end|> \\" <think>"}', None),
    "after the value": ('{"a":"b"}<end_of_turn>\n<start_of_turn>user\n{}', '{"a":"b"}'),
    "before the value": ('<think>{"a": "c"}</think>\n{"a":"b"}', '{"a":"b"}'),
    "in a string without an end": ('{"a":"b<end_of_turn>\n<start_of_turn>user', '{"a":"b'),
}
CASES = [
    *(
        pytest.param(text, None, text if expected is None else expected, id=name)
        for name, (text, expected) in TEXTS.items()
    ),
    *(pytest.param(text, OBJECT, expected or text, id=f"JSON, {n}") for n, (text, expected) in JSON_TEXTS.items()),
]


class Author(ScriptedEngine):
    """An engine as an author may write one: pieces become frames of which nothing is fixed."""

    def __init__(self, pieces: Sequence[str]) -> None:
        super().__init__(None, {}, 0, APPENDS)
        self._pieces = pieces

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        text = request.prompt.opening
        for part in self._pieces:
            text += part
            yield Frame(text)
        yield Frame(text, fixed=len(text), usage=usage())


def usage(tokens: int = 10, reason: StopReason = "end") -> Usage:
    return Usage(tokens, 1, 0, tokens, 1, 1.0, 0.0, reason, 0)


def cumulative(pieces: Sequence[str]) -> list[str]:
    return list(itertools.accumulate(pieces))


async def frames_of(engine: Engine, request: Request = ASK) -> list[Frame]:
    return [frame async for frame in clean_engine(engine).generate(request)]


def check(frames: Sequence[Frame], text: str) -> None:
    """Check the promises of frames, and that nothing is shown that is not in the text."""
    assert frames[-1].text == text and frames[-1].usage is not None
    assert frames[-1].fixed == len(text) and not frames[-1].unsettled
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert not frame.done
        assert text.startswith(frame.text.rstrip())
        for start, end in frame.unsettled:
            assert 0 <= start < end <= len(frame.text)


def is_shown_in_vain(text: str) -> bool:
    """True if the text has reasoning that only its end reveals, which is therefore shown first."""
    return "c</think>" in text or text.startswith("Hm, well.")


@pytest.fixture(scope="module", autouse=True)
def _without_guards() -> Iterator[None]:
    """Leave out the guards, which have tests of their own: many texts here repeat themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unwritten_engine.cleaning.GUARDS", ())
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("text", "schema", "expected"), CASES)
async def test_texts_of_any_engine(text: str, schema: Any, expected: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    request = replace(ASK, schema=schema)
    for engine in (Author(pieces), scripted(cumulative(pieces)), scripted(cumulative(pieces), about=APPENDS)):
        frames = await frames_of(engine, request)
        assert frames[-1].text == expected
        if not is_shown_in_vain(text):
            check(frames, expected)


@pytest.mark.parametrize(("text", "schema", "expected"), CASES)
async def test_texts_of_a_server(server: ModelServer, text: str, schema: Any, expected: str) -> None:
    server.answers = [says(*(text[at : at + 3] for at in range(0, len(text), 3)))]
    async with opened(server) as engine:
        frames = await frames_of(engine, replace(ASK, schema=schema))
    assert frames[-1].text == expected
    if schema is None and not is_shown_in_vain(text):
        check(frames, expected)


@pytest.mark.parametrize(("text", "schema", "expected"), CASES)
async def test_texts_of_a_tape(tmp_path: Path, text: str, schema: Any, expected: str) -> None:
    request = replace(ASK, schema=schema)
    recorder = Recorder(scripted(text), tmp_path / "a.tape")  # as a tape of an earlier version may be
    assert [frame async for frame in recorder.generate(request)][-1].text == text
    frames = await frames_of(TapeEngine(tmp_path / "a.tape", speed=0), request)
    assert frames[-1].text == expected
    assert (await frames_of(open_engine(tmp_path / "a.tape", speed=0), request))[-1].text == expected


@pytest.mark.parametrize(("text", "schema", "expected"), CASES)
def test_whole_drafts(text: str, schema: Any, expected: str) -> None:
    cleaner = FrameCleaner(replace(ASK, schema=schema), ABOUT)
    for draft in ("Something else " * 5, text[: len(text) // 2], text[len(text) // 2 :], "<think>", text):
        frame = cleaner.clean(Frame(draft, ((0, len(draft)),)))
        assert frame is None or all(0 <= a < b <= len(frame.text) for a, b in frame.unsettled)
    last = cleaner.clean(Frame(text, fixed=len(text), usage=usage()))
    assert last is not None and last.text == expected


WORDS = """
    a Word ` `` ``` ~~~ " “ ” « » ' \\ < > [ ] { } , - 1. <| <|im </p <p> <s> <code> </code> <pre> </pre> <!-- -->
    👩‍ 👧 東 <think> [THINK] <|channel> <|channel|>analysis<|message|> <|end|> <pad> <|start|>assistant
    \u0301 \ue000 \ud83d \udc4b
"""
SPACES = [" ", "\n", "\n\n", "    ", "\r", "\0", "thought\n", "<start_of_turn>model\n", "x" * 70]
FRAGMENTS = st.sampled_from([*WORDS.split(), *SPACES])
ENDS = st.sampled_from(["<eos>", "</s>", "<|im_end|>", "<end_of_turn>", "[INST]", "<|im_start|>user", "<turn|>"])
UNOPENED = st.sampled_from(["</think>", "<channel|>", "[/THINK]"])


@few_examples
@given(st.lists(FRAGMENTS | ENDS, max_size=20).map("".join), st.data(), st.sampled_from([None, OBJECT]), st.booleans())
@example("```\n```<eos>", None, None, False)
def test_however_a_text_is_cut(text: str, data: Any, schema: Any, drafts: bool) -> None:
    request, about = replace(ASK, schema=schema), ABOUT if drafts else APPENDS
    last = final(request, about, text)
    cuts = range(1, len(text)) if data is None else sorted(data.draw(st.sets(st.integers(0, len(text)))))
    cleaner = FrameCleaner(request, about)
    frames = []
    for end in cuts:
        fixed = 0 if data is None else data.draw(st.integers(0, end))
        frame = cleaner.clean(Frame(text[:end], ((fixed, end),) if fixed < end else (), fixed))
        if frame is not None:
            frames.append(frame)
        if cleaner.ended:
            break
    if cleaner.ended:
        frames.append(cleaner.finish(usage()))
        assert last is not None
    else:
        try:
            whole = cleaner.clean(Frame(text, fixed=len(text), usage=usage()))
        except GenerationFailed:
            assert last is None
            return
        assert whole is not None
        frames.append(whole)
    assert frames[-1].text == last
    check(frames, frames[-1].text)


@few_examples
@given(st.lists(FRAGMENTS | ENDS | UNOPENED, max_size=20).map("".join), st.integers(1, 9))
def test_however_a_text_with_unopened_reasoning_is_cut(text: str, size: int) -> None:
    cleaner = FrameCleaner(ASK, APPENDS)
    expected = final(ASK, APPENDS, text)
    for end in range(size, len(text), size):
        cleaner.clean(Frame(text[:end]))
    try:
        last = cleaner.finish(usage()) if cleaner.ended else cleaner.clean(Frame(text, usage=usage()))
    except GenerationFailed:
        assert expected is None
    else:
        assert last is not None and last.text == expected


def final(request: Request, about: Any, text: str) -> str | None:
    """Return the text that comes at once, or None if it is only reasoning."""
    try:
        frame = FrameCleaner(request, about).clean(Frame(text, fixed=len(text), usage=usage()))
    except GenerationFailed:
        return None
    assert frame is not None
    return frame.text


async def test_reasoning_alone_is_an_error_that_says_so(server: ModelServer) -> None:
    async def field() -> AsyncIterator[bytes]:
        yield event({"choices": [{"delta": {"reasoning_content": "Hm."}, "finish_reason": "length"}]})

    for answer in (says("<think>Hm."), says("<think>Hm.</think>\n", finish="length"), raw(field)):
        server.answers = [answer]
        async with opened(server) as engine:
            with pytest.raises(
                GenerationFailed, match=r"tiny wrote only reasoning and no text\. Turn its thinking off"
            ):
                await frames_of(engine)
    with pytest.raises(GenerationFailed, match="only reasoning"):
        await frames_of(scripted("<think>Hm."), replace(ASK, prompt=Prompt("A page.", opening="**A** ")))


async def test_one_answer_does_not_change_the_next(server: ModelServer) -> None:
    server.answers = [
        says("Hm, well.</think>Tall towers."),
        says("The notes end at `</think>`, and the answer follows."),
        says("Plain."),
    ]
    async with opened(server) as engine:
        about = engine.about
        texts = [(await frames_of(engine))[-1].text for _ in range(3)]
        assert texts == ["Tall towers.", "The notes end at `</think>`, and the answer follows.", "Plain."]
        assert engine.about == about


async def test_reasoning_does_not_count(server: ModelServer) -> None:
    thinks = "<think>" + "Hm. " * 20 + "</think>"
    counts = {"completion_tokens": 100, "prompt_tokens": 5}
    details = {"completion_tokens_details": {"reasoning_tokens": 90}}

    async def field() -> AsyncIterator[bytes]:
        yield event({"choices": [{"delta": {"reasoning": "Hm. " * 9}}]})
        yield event(piece("Tall", finish_reason="stop"))
        yield event({"choices": [], "usage": counts})

    async def known() -> AsyncIterator[bytes]:
        yield event({"choices": [{"delta": {"reasoning": "Hm."}}]})
        yield event(piece("Tall towers.", finish_reason="stop"))
        yield event({"choices": [], "usage": counts | details})

    for answer, expected in [(says(thinks, "Tall.", usage=counts), 5), (raw(field), 10), (raw(known), 10)]:
        server.answers = [answer]
        async with opened(server) as engine:
            last = (await frames_of(engine, replace(ASK, max_tokens=200)))[-1]
        assert last.usage is not None and last.usage.tokens == pytest.approx(expected, abs=1)


async def test_the_engine_stops_at_the_end_of_the_turn() -> None:
    engine = scripted(
        ["Plain.<|im_end|>\n", *(f"Plain.<|im_end|>\n{'x' * n}" for n in range(1000)), HANG], about=APPENDS
    )
    frames = await frames_of(engine)
    assert frames[-1].text == "Plain." and frames[-1].usage is not None and frames[-1].usage.reason == "end"
    assert isinstance(engine, ScriptedEngine) and engine.stopped == 1 and engine.running == 0
    assert (await frames_of(scripted(["Plain.<eos>x", HANG], about=APPENDS)))[-1].text == "Plain."
    late = scripted(["Plain.<eos>x", Frame("Plain.<eos>x", usage=usage(7, "length"))], about=APPENDS)
    last = (await frames_of(late))[-1].usage
    assert last is not None and (last.tokens, last.reason) == (7, "end")


async def test_an_end_in_a_draft_may_go_again() -> None:
    drafts = [Frame("Plain.<eos> x", ((6, 13),), 6), Frame("Plain. So x", ((7, 9),), 7), Frame("Plain. Or x", (), 11)]
    frames = await frames_of(scripted(drafts))
    assert [frame.text for frame in frames] == ["Plain.", "Plain. So x", "Plain. Or x", "Plain. Or x"]
    assert frames[1].unsettled == ((7, 9),)


async def test_positions_follow_what_is_removed() -> None:
    text = "<think>Hm.</think>A \ud83d\udc4b wave\0 to see"
    at = text.index("wave")
    cleaner = FrameCleaner(ASK, ABOUT)
    frame = cleaner.clean(Frame(text, ((0, 9), (at, at + 4), (at + 6, at + 8)), at))
    assert frame is not None and frame.text == "A 👋 wave to see"
    assert [frame.text[a:b] for a, b in frame.unsettled] == ["wave", "to"]
    assert frame.text[: frame.fixed] == "A 👋 "


@pytest.mark.parametrize(
    ("text", "fixed", "kept"),
    [
        ("e\u0301 x", 1, ""),
        ("Ab", 2, "A"),
        ("👩‍👩‍👧 x", 3, ""),
        ("A 👍", 3, "A "),
        ("A 👍🏽", 3, "A "),
        ("🇩🇪🇫🇷 x", 3, "🇩🇪"),
        ("क्षि x", 2, ""),
        ("東京", 2, "東"),
        ("A\n", 2, "A"),
        ("Z" + "\u0301" * 100, 90, "Z" + "\u0301" * 89),
    ],
)
def test_what_is_fixed_ends_between_graphemes(text: str, fixed: int, kept: str) -> None:
    frame = FrameCleaner(ASK, APPENDS).clean(Frame(text, (), fixed))
    assert frame is not None and frame.text[: frame.fixed] == kept


async def test_the_opening_is_never_a_marker() -> None:
    request = replace(ASK, prompt=Prompt("A page.", opening="**<eos>** "))
    assert (await frames_of(scripted("is an end.<eos>x"), request))[-1].text == "**<eos>** is an end."


async def test_an_edited_text_keeps_its_markers() -> None:
    request = replace(ASK, draft=Draft("A <eos> b."))
    assert (await frames_of(scripted("A <eos> c\0."), request))[-1].text == "A <eos> c."
    request = replace(ASK, draft=Draft("A b."))
    assert (await frames_of(scripted("A c.<eos> d"), request))[-1].text == "A c."


@pytest.mark.parametrize(
    "fragment",
    [
        *"x < [ \\ ` ### ◁ 「<eos> <| > * “ <s> </s <!-- <script> a</think> <pad> 東 👩‍ \u0301 \0 \r \ud83d".split(" "),
        "<|channel|>final",
        *[
            "“<think></think>",
            "`<think>",
            "<code><think></think>",
            "<pre><think></think>",
            '"<eos>" ',
            "``<think></think>`",
        ],
        *["\n    ", "\n```\n<", "\n- `", "<|start|>assistant", " "],
    ],
)
@pytest.mark.parametrize("schema", [None, OBJECT])
def test_the_time_is_linear(fragment: str, schema: Any) -> None:
    def seconds(count: int) -> float:
        text = fragment * (count // len(fragment))
        cleaner = FrameCleaner(replace(ASK, schema=schema), APPENDS)
        begun = time.process_time()
        for end in range(0, len(text), 25):
            cleaner.clean(Frame(text[:end], (), max(0, end - 8)))
        return time.process_time() - begun

    seconds(2_000)
    short, long = (min(seconds(count) for _ in range(2)) for count in (4_000, 16_000))
    assert long < 10 * short + 0.1


class Unlimited(ScriptedEngine):
    """Writes until it is closed, in pieces of any length, and claims to have kept to its budget."""

    def __init__(self, piece: int) -> None:
        super().__init__("", {}, 0.0, APPENDS)
        self.written, self.closed = 0, False
        self._piece = piece

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        text = ""
        try:
            while len(text) < 1_000_000:
                text += "".join(f"{n} lamps. " for n in range(len(text), len(text) + self._piece))
                self.written = len(text)
                yield Frame(text, fixed=len(text))
            yield Frame(text, fixed=len(text), usage=Usage(100, 0, 0, 100, 1, 1.0, 0.0, "end", 0))
        finally:
            self.closed = True


@pytest.mark.parametrize("piece", [20, 100_000], ids=["many frames", "one frame"])
async def test_a_text_beyond_the_budget_is_cut_and_its_engine_is_stopped(piece: int) -> None:
    engine = Unlimited(piece)
    frames = [frame async for frame in clean_engine(engine).generate(Request(Prompt("A page."), max_tokens=100))]
    usage = frames[-1].usage
    assert usage is not None and usage.reason == "length" and engine.closed
    assert max(len(frame.text) for frame in frames) <= 1000 + 24 * 100
    assert engine.written < 5000 or piece > 20
    assert abs(usage.tokens - len(frames[-1].text) / 4) < 10


async def test_an_impossible_number_of_tokens_is_replaced_by_an_estimate() -> None:
    usage = Usage(3, 0, 0, 3, 1, 1.0, 0.0, "end", 0)
    cleaner = FrameCleaner(Request(Prompt("A page.")), APPENDS)
    text = " ".join(str(n) for n in range(1000))
    frame = cleaner.clean(Frame(text, fixed=len(text), usage=usage))
    assert frame is not None and frame.text == text and frame.usage is not None
    assert frame.usage.tokens == len(text) // 4 and frame.usage.reason == "end"
