from __future__ import annotations

import json
import random
import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from tests.engine.diffusion.test_detokenizer import READERS
from tests.engine.test_json_grammar import Facts, Part, Tree, fits, schemas

from unwritten_engine.diffusion.tokenization.detokenizer import DecodedText, Detokenizer
from unwritten_engine.diffusion.tokenization.schema_skeleton import Skeleton, build_skeleton
from unwritten_engine.errors import RequestRefused

READER = READERS["pieces"]


def filled(made: Skeleton, rng: random.Random, padding: float = 0.2) -> tuple[list[int], list[bool]]:
    """What the sampler could leave: pins where they are, and any allowed token elsewhere."""
    sets = [[id for id, may in enumerate(mask) if may] for mask in made.masks]
    ids = []
    for pin, kind in zip(made.pins, made.mask_ids, strict=True):
        free = sets[kind - 1] if kind else list(range(made.detokenizer.vocab_size))
        pad = made.detokenizer.pad_id in free and rng.random() < padding
        ids.append(pin if pin >= 0 else made.detokenizer.pad_id if pad else rng.choice(free))
    return ids, [pin < 0 and rng.random() < 0.5 for pin in made.pins]


def judged(reading: DecodedText) -> Any:
    """The data of a reading, whose spans must lie inside the text."""
    end = -1
    for a, b in reading.unsettled:
        assert end < a < b <= len(reading.text)
        end = b
    data = json.loads(reading.text)
    assert json.dumps(data, ensure_ascii=False, separators=(",", ":")) == reading.text
    return data


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("model", [Facts, Tree, Part])
def test_any_slot_content_is_valid(model: type[BaseModel], name: str) -> None:
    made = build_skeleton(model.model_json_schema(), READERS[name], canvases=4, canvas_length=256)
    rng = random.Random(1)
    for _ in range(4):
        for padding in (0.0, 0.2, 1.0):
            ids, flags = filled(made, rng, padding)
            model.model_validate(judged(made.decode(ids, flags)))
            half = rng.randrange(len(ids))
            model.model_validate_json(made.decode(ids[:half], flags[:half]).text)
            noise = [rng.randrange(made.detokenizer.vocab_size) for _ in ids]
            model.model_validate_json(made.decode(noise, flags).text)


@settings(max_examples=60, deadline=None)
@given(schemas(), st.integers(0, 2**32))
def test_any_schema_gives_json_that_fits_or_is_refused(schema: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    try:
        made = build_skeleton(schema, READER, canvases=2, canvas_length=256)
    except RequestRefused as refusal:
        assert "canvases" in str(refusal)
        return
    assert len(made.pins) == len(made.mask_ids) == 2 * 256
    for padding in (0.0, 0.3, 1.0):
        ids, flags = filled(made, rng, padding)
        assert fits(judged(made.decode(ids, flags)), schema)


def written(made: Skeleton, slots: dict[int, str]) -> list[int]:
    """Ids with text in some slots, counted from 0, and padding in the others."""
    ids = [made.detokenizer.pad_id if pin < 0 else pin for pin in made.pins]
    starts = [at for at, pin in enumerate(made.pins) if pin < 0 and (at == 0 or made.pins[at - 1] >= 0)]
    for slot, text in slots.items():
        for n, id in enumerate(made.detokenizer.encode(text)):
            assert made.pins[starts[slot] + n] < 0
            ids[starts[slot] + n] = id
    return ids


def shape(kind: Any, reader: Detokenizer = READER, canvases: int = 1) -> Skeleton:
    return build_skeleton(TypeAdapter(kind).json_schema(), reader, canvases=canvases, canvas_length=256)


class Small(BaseModel):
    kind: Literal["town", "river"]
    title: str
    count: int | None
    tags: list[str]


def test_slot_contents_are_read() -> None:
    made = shape(Small)
    ids = written(made, {0: "river", 1: 'Old "the rest', 2: "12", 3: "one ", 5: "two\\n"})
    reading = made.decode(ids, [False] * len(ids))
    assert reading.text == '{"kind":"river","title":"Old","count":12,"tags":["one","two"]}'
    assert reading.ended and reading.unsettled == ()
    empty = made.decode(written(made, {}), [False] * 256).text
    assert json.loads(empty) == {"kind": "town", "title": "", "count": None, "tags": []}


def test_only_changing_values_are_unsettled() -> None:
    made = shape(Small)
    ids = written(made, {0: "river", 1: "Old", 2: "12", 3: "one"})
    reading = made.decode(ids, [pin < 0 for pin in made.pins])
    assert [reading.text[a:b] for a, b in reading.unsettled] == ["river", "Old", "12", "one"] or [
        reading.text[a:b] for a, b in reading.unsettled
    ] == ['"river"', "Old", "12", "one"]
    begun = made.decode([], [])
    Small.model_validate_json(begun.text)
    assert not begun.ended and begun.unsettled


def test_the_end_is_pinned_after_the_json() -> None:
    made = shape(Small)
    assert made.pins[made.length] == READER.end_id
    assert set(made.pins[made.length + 1 :]) <= {READER.pad_id}
    assert all(kind == 0 for pin, kind in zip(made.pins, made.mask_ids, strict=True) if pin >= 0)
    assert all(len(mask) == READER.vocab_size for mask in made.masks)


def test_numbers_stay_in_their_bounds() -> None:
    made = build_skeleton({"type": "number", "minimum": -1.5, "maximum": 2}, READER, canvases=1, canvas_length=64)
    for text, expected in (("7", 2), ("-3", -1.5), ("0.25", 0.25), ("", 0), ("--", 0), ("1.999", 2)):
        ids = written(made, {0: text[: made.length]})
        assert json.loads(made.decode(ids, [False] * 64).text) == expected


def test_a_union_of_scalars_is_decided_by_its_slot() -> None:
    made = shape(int | str | None)
    for text, expected in (("12", 12), ("a word", "a word"), ('"12"', "12"), ("", None)):
        assert json.loads(made.decode(written(made, {0: text}), [False] * 256).text) == expected


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = Field(max_length=2)


@pytest.mark.parametrize("model", [Cat | Dog, list[Cat | Dog], int | list[int], Cat | Dog | None])
def test_one_of_several_schemas_is_always_complete(model: Any) -> None:
    made = shape(model, canvases=2)
    rng = random.Random(4)
    for padding in (0.0, 0.3, 0.8, 1.0):
        ids, flags = filled(made, rng, padding)
        TypeAdapter(model).validate_python(judged(made.decode(ids, flags)))


def test_the_slot_before_several_schemas_selects_one() -> None:
    made = shape(Cat | Dog)
    for name, expected in (("cat", {"kind": "cat", "lives": 9}), ("dog", {"kind": "dog", "tricks": ["sit"]})):
        ids = written(made, {0: name, 1: "9", 2: "sit"})
        assert json.loads(made.decode(ids, [False] * 256).text) == expected
    moved = made.decode(ids, [pin < 0 and at < 5 for at, pin in enumerate(made.pins)])
    assert moved.unsettled == ((0, len(moved.text)),), "while the name may change, all of it may"


def test_slots_shrink_to_the_budget_and_refuse_what_never_fits() -> None:
    schema = Facts.model_json_schema()
    large, small = (build_skeleton(schema, READER, canvases=n, canvas_length=256) for n in (8, 3))
    assert sum(pin < 0 for pin in small.pins) < sum(pin < 0 for pin in large.pins)
    with pytest.raises(RequestRefused, match=r"needs \d+ canvases of 32 tokens .* the request has 1"):
        build_skeleton(schema, READER, canvases=1, canvas_length=32)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}, r"\$\.a\[\] has no type"),
        ({"type": "string", "pattern": "a+"}, r"at \$ has 'pattern'"),
        ({"type": "string", "format": "email"}, r"the format 'email'. Known: date"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "number without possible values"),
        ({"type": "array"}, "list without an item type"),
        ({"enum": []}, "without values"),
        ({"$ref": "#/$defs/Gone"}, "does not exist"),
        ({"$ref": "#"}, "contains itself"),
        ({"allOf": [{"type": "null"}, {"type": "null"}]}, "joins several"),
        ({"type": "thing"}, "type 'thing'"),
        ({"type": "object", "properties": {"a": True}}, r"\$\.a is True"),
        ({"type": "object", "required": ["b"], "properties": {"a": {"type": "null"}}}, r"\$\.b is required"),
        ({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 0}, "open length"),
    ],
)
def test_unsupported_schemas_are_refused_with_their_place(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        build_skeleton(schema, READER, canvases=1, canvas_length=256)


def test_reading_is_fast_enough_for_every_step() -> None:
    made = shape(Small)
    ids, flags = filled(made, random.Random(1), 0.0)

    def once() -> float:
        begun = time.thread_time()
        made.decode(ids, flags)
        return time.thread_time() - begun

    assert min(once() for _ in range(20)) < 0.003


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        ('a \\"b', 'a "b'),
        ("two\\nlines", "two\nlines"),
        ("caf\\u00e9", "café"),
        ("half \\", "half"),
        ("half \\u00", "half 00"),
        ("  a  ", "a"),
        ("lone \\ud83d", "lone"),
        ("a\\\\b", "a\\b"),
    ],
)
def test_escapes_in_a_text_are_read(slot: str, expected: str) -> None:
    made = shape(str)
    ids = written(made, {0: slot})
    reading = made.decode(ids, [pin < 0 for pin in made.pins])
    assert json.loads(reading.text) == expected
    assert [reading.text[a:b] for a, b in reading.unsettled] == [reading.text[1:-1]]


def test_only_changing_characters_are_unsettled() -> None:
    made = shape(str)
    ids = written(made, {0: 'a\\"b c'})
    start = made.pins.index(-1)
    at = next(n for n in range(start, len(ids)) if READER.token_bytes(ids[n]).endswith(b"c"))
    reading = made.decode(ids, [n == at for n in range(len(ids))])
    assert reading.text == '"a\\"b c"'
    assert [reading.text[a:b].strip() for a, b in reading.unsettled] == ["c"]


def test_lengths_are_truncated_and_padded() -> None:
    made = build_skeleton({"type": "string", "minLength": 3, "maxLength": 4}, READER, canvases=1, canvas_length=64)
    for text, expected in (("a", "a.."), ("", "..."), ("abcde"[:2], "ab.")):
        assert json.loads(made.decode(written(made, {0: text}), [False] * 64).text) == expected


def test_a_date_consists_of_digits() -> None:
    made = build_skeleton({"type": "string", "format": "date"}, READER, canvases=1, canvas_length=64)
    ids = written(made, {0: "1987", 1: "13", 2: "31"})
    assert json.loads(made.decode(ids, [False] * 64).text) == "1987-12-28"


def test_map_keys_are_unique() -> None:
    made = shape(dict[str, int])
    ids = written(made, {0: "a", 1: "1", 2: "a", 3: "2", 4: "b", 5: "3"})
    assert made.decode(ids, [False] * 256).text == '{"a":1,"b":3}'
    many = build_skeleton(
        {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 2},
        READER,
        canvases=1,
        canvas_length=256,
    )
    assert len(json.loads(many.decode(written(many, {0: "1", 1: "1"}), [False] * 256).text)) == 2


class Chain(BaseModel):
    name: str
    next: Chain | None


class Mixed(BaseModel):
    chain: Chain
    by_name: dict[str, list[Part]]
    level: Literal["a", "b"] | None
    when: Literal[1, 25, "x", None]
    pairs: list[tuple[str, bool]]
    loose: bool | int | str


@pytest.mark.parametrize("canvases", [1, 2, 4])
def test_recursive_schemas_end(canvases: int) -> None:
    made = build_skeleton(Mixed.model_json_schema(), READER, canvases=canvases, canvas_length=384)
    rng = random.Random(2)
    for padding in (0.0, 0.3, 0.8, 1.0):
        ids, flags = filled(made, rng, padding)
        Mixed.model_validate(judged(made.decode(ids, flags)))
    empty = written(made, {})
    assert json.loads(made.decode(empty, [False] * len(empty)).text)["chain"]["next"] is None
