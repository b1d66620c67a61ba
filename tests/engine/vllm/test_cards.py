from __future__ import annotations

import pytest

from unwritten_engine.errors import ModelUnsupported
from unwritten_engine.options import check_options
from unwritten_engine.vllm.cards import Card, choose_checkpoint, parse_cards
from unwritten_engine.vllm.checkpoint import check_fit
from unwritten_engine.vllm.options import OPTIONS, OWNER

pytest.importorskip("zmq")
from unwritten_engine.vllm import build

TABLE = """NVIDIA GeForce RTX 4090, 24564, 24111, 8.9
NVIDIA H100 80GB HBM3, 81559, 80990, 9.0
NVIDIA GB10, [N/A], [N/A], 12.1
"""


def card(gigabytes: int, capability: tuple[int, int]) -> Card:
    return Card("A card", gigabytes << 30, gigabytes << 30, capability)


def test_the_table_of_nvidia_smi_is_read() -> None:
    cards = parse_cards(TABLE)
    assert [(card.name, card.capability) for card in cards] == [
        ("NVIDIA GeForce RTX 4090", (8, 9)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
    ], "a card whose memory is unknown is left out"
    assert cards[0].memory == 24564 << 20 and cards[0].free == 24111 << 20
    assert parse_cards("No devices were found") == ()


@pytest.mark.parametrize(
    ("gigabytes", "capability", "count", "expected"),
    [
        (24, (8, 6), 1, "AWQ-INT4"),  # RTX 3090
        (24, (8, 9), 1, "AWQ-INT4"),  # RTX 4090
        (48, (8, 9), 1, "AWQ-INT4"),  # L40S
        (24, (12, 0), 1, "NVFP4"),  # RTX 5090 Laptop
        (32, (12, 0), 1, "NVFP4"),  # RTX 5090
        (180, (10, 0), 1, "NVFP4"),  # B200
        (80, (9, 0), 1, "FP8"),  # H100
        (141, (9, 0), 1, "FP8"),  # H200
        (80, (8, 0), 1, "bf16"),  # A100
        (40, (8, 0), 1, "AWQ-INT4"),
        (40, (8, 0), 2, "bf16"),
        (16, (8, 9), 1, None),
        (16, (8, 9), 2, "AWQ-INT4"),
        (24, (7, 5), 1, None),  # Turing has no bf16
    ],
)
def test_each_card_gets_the_format_that_it_computes_in(
    gigabytes: int, capability: tuple[int, int], count: int, expected: str | None
) -> None:
    choice = choose_checkpoint(card(gigabytes, capability), count)
    assert (choice and choice.format) == expected


def test_a_small_card_is_an_error_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_cards", lambda: (card(16, (8, 9)),))
    monkeypatch.setattr(build, "_check_settings", lambda settings: None)
    settings = check_options({}, OPTIONS, OWNER)
    with pytest.raises(ModelUnsupported, match=r"A card has 17\.2 GB, and the smallest checkpoint .* about 22 GB"):
        build.build_vllm(None, lambda share, step: None, (), settings)
    monkeypatch.setattr(build, "find_cards", tuple)
    with pytest.raises(ModelUnsupported, match=r"nvidia-smi lists no GPU"):
        build.build_vllm(None, lambda share, step: None, (), settings)


def test_a_model_that_is_too_large_is_refused_before_it_is_downloaded() -> None:
    check_fit("m", 17, 24)
    check_fit("m", 51, None)
    with pytest.raises(ModelUnsupported, match=r"m needs 51\.6 GB for its weights alone, and the GPUs have 25.8 GB"):
        check_fit("m", 51_650_000_000, 24 << 30)
