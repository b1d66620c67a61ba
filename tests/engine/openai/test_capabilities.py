from __future__ import annotations

import pytest

from unwritten_engine.openai.capabilities import ServerCapabilities, build_body, to_strict_schema, without_unsupported

BODY = {"model": "m", "messages": [{"role": "user", "content": "Ask."}], "max_tokens": 5, "seed": 1}
SHAPE = {"type": "object"}


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        ("Unknown field chat_template_kwargs", {"thinking"}),
        ("stream_options.continuous_usage_stats: extra fields not permitted", {"steady usage"}),
        ("stream_options is not allowed", {"usage"}),
        ("use max_completion_tokens", {"max_tokens"}),
        ("seed: unknown", {"seed"}),
        ("structured outputs are not supported", {"json_schema"}),
        ("Bad Request", {"json_schema"}),
    ],
)
def test_refusals_are_interpreted(said: str, left_out: set[str]) -> None:
    assert without_unsupported(said, build_body(BODY, SHAPE, frozenset()), frozenset()) == frozenset(left_out)


def test_all_optional_fields_are_dropped_in_the_end() -> None:
    lacks: frozenset[str] = frozenset()
    body = build_body(BODY, SHAPE, lacks)
    for _ in range(10):
        weaker = without_unsupported("Bad Request", body, lacks)
        if weaker is None:
            break
        lacks, body = weaker, build_body(BODY, SHAPE, weaker)
    assert without_unsupported("Bad Request", body, lacks) is None
    assert lacks == {"json_schema", "json_object", "thinking", "steady usage", "usage", "seed"}
    assert body.keys() == {"model", "messages", "max_tokens"}
    assert '{"type":"object"}' in body["messages"][-1]["content"]
    assert BODY["messages"] == [{"role": "user", "content": "Ask."}], "the request itself is left alone"


def test_added_fields_stay() -> None:
    added = {"chat_template_kwargs": {"enable_thinking": True}, "response_format": {"type": "regex"}}
    assert build_body({**BODY, **added}, SHAPE, frozenset()).items() >= added.items()


def test_images_keep_their_place() -> None:
    parts = [{"type": "image_url"}, {"type": "text", "text": "What?"}]
    body = build_body({**BODY, "messages": [{"role": "user", "content": parts}]}, SHAPE, frozenset({"json_schema"}))
    assert body["messages"][0]["content"][:2] == parts and "JSON schema" in body["messages"][0]["content"][2]["text"]


def test_learned_limits_are_reported() -> None:
    dialect = ServerCapabilities()
    assert not dialect.reasons and dialect.takes_seeds
    dialect.learn(frozenset({"seed", "json_schema"}), {})
    assert [word for reason in dialect.reasons for word in ("schemas", "seed") if word in reason] == ["schemas", "seed"]
    dialect.learn(frozenset(), {})
    assert dialect.unsupported == {"seed", "json_schema"} and not dialect.takes_seeds
    assert all(reason.endswith(".") for reason in dialect.reasons)


def test_a_schema_is_sent_with_all_its_properties_required_and_no_others() -> None:
    place = {"type": "object", "properties": {"default": {"type": "string", "default": "x"}}}
    schema = {
        "$defs": {"Place": place},
        "type": "object",
        "properties": {
            "at": {"$ref": "#/$defs/Place", "description": "Where."},
            "all": {"type": "array", "items": {"anyOf": [place, {"type": "null"}]}},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "required": ["at"],
    }
    held = {
        "type": "object",
        "properties": {"default": {"type": "string"}},
        "required": ["default"],
        "additionalProperties": False,
    }
    assert to_strict_schema(schema) == {
        "$defs": {"Place": held},
        "type": "object",
        "properties": {
            "at": {"$ref": "#/$defs/Place"},
            "all": {"type": "array", "items": {"anyOf": [held, {"type": "null"}]}},
            "counts": schema["properties"]["counts"],  # type: ignore[index]
        },
        "required": ["at", "all", "counts"],
        "additionalProperties": False,
    }
