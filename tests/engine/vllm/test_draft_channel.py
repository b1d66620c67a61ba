from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unwritten_engine.errors import BadOption

zmq = pytest.importorskip("zmq")
from unwritten_engine.vllm import draft_channel  # noqa: E402
from unwritten_engine.vllm.draft_channel import (  # noqa: E402
    ChannelSettings,
    DraftWriter,
    address_of_machine,
    can_read,
    channel_settings,
    make_reader,
    new_key,
    pack_draft,
    settings_of,
    unpack_draft,
)

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def context() -> Iterator[Any]:
    """Return a context whose sockets are closed at the end."""
    sockets: list[Any] = []
    context: Any = zmq.Context()
    plain = context.socket

    def socket(kind: int) -> Any:
        sockets.append(plain(kind))
        return sockets[-1]

    context.socket = socket
    yield context
    for each in sockets:
        each.close(linger=0)
    context.term()


def published(writer: DraftWriter, socket: Any, topic: str, seconds: float = 5) -> bytes | None:
    """Publish until the reader has got something, because it takes a moment to subscribe."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        writer.send(topic, b"message")
        if socket.poll(50):
            found: list[bytes] = socket.recv_multipart()
            return found[0]
    return None


def test_a_draft_survives_the_way() -> None:
    row = array("i", [5, ~7, 0, ~0]).tobytes()
    draft = unpack_draft(pack_draft(3, row))
    assert draft is not None and draft.step == 3
    assert list(draft.ids) == [5, 7, 0, 0] and list(draft.accepted) == [True, False, True, False]


@pytest.mark.parametrize("message", [b"", b"UWD1", b"UWD2" + bytes(8), pack_draft(1, b"abc")])
def test_other_messages_are_ignored(message: bytes) -> None:
    assert unpack_draft(message) is None


@pytest.mark.parametrize("scheme", ["ipc", "tcp", "connect+tcp"])
def test_readers_with_the_key_get_their_own_drafts(scheme: str, context: Any, tmp_path: Path) -> None:
    addresses = {"ipc": f"ipc://{tmp_path}/d", "tcp": "47800", "connect+tcp": address_of_machine("127.0.0.1")}
    settings = channel_settings(addresses[scheme], KEY)
    assert KEY not in repr(settings), "it may be logged"
    if settings.reader_listens:
        reader = make_reader(context, [settings], "mine-")
        writer = DraftWriter(settings)
    else:
        writer = DraftWriter(settings)
        reader = make_reader(context, [ChannelSettings(writer.address, KEY)], "mine-")
    writer.send("other-1", b"")
    assert published(writer, reader, "mine-1") == b"mine-1"
    writer.close()


def test_readers_without_the_key_get_nothing(context: Any) -> None:
    writer = DraftWriter(channel_settings("127.0.0.1:47810", KEY))
    wrong = make_reader(context, [ChannelSettings(writer.address, new_key())], "")
    plain = context.socket(zmq.SUB)
    plain.connect(writer.address)
    plain.subscribe("")
    # This one knows the public key of the writer, but is not the reader.
    stranger = context.socket(zmq.SUB)
    stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
    stranger.curve_serverkey = draft_channel._keys(KEY, "writer")[0]
    stranger.connect(writer.address)
    stranger.subscribe("")
    reader = make_reader(context, [ChannelSettings(writer.address, KEY)], "")
    assert published(writer, reader, "a") == b"a"
    for other in (wrong, plain, stranger):
        assert published(writer, other, "b", 0.5) is None
    writer.close()


def test_the_address_and_the_key_can_be_checked() -> None:
    writer = DraftWriter(channel_settings("127.0.0.1:47815", KEY))
    assert can_read(ChannelSettings(writer.address, KEY), 5)
    assert not can_read(ChannelSettings(writer.address, new_key()), 0.5)
    writer.close()
    assert not can_read(ChannelSettings(writer.address, KEY), 0.3)


def test_copies_of_the_model_publish_on_the_next_ports(context: Any) -> None:
    writers = [DraftWriter(channel_settings("47820", KEY)) for _ in range(3)]
    assert len({writer.address for writer in writers}) == 3
    reader = make_reader(context, [ChannelSettings(writer.address, KEY) for writer in writers], "")
    for number, writer in enumerate(writers):
        assert published(writer, reader, f"{number}") is not None
        writer.close()


def test_a_reader_that_does_not_read_costs_the_writer_no_time(context: Any) -> None:
    writer = DraftWriter(channel_settings("47830", KEY))
    reader = make_reader(context, [ChannelSettings(writer.address, KEY)], "")
    assert published(writer, reader, "a") == b"a"
    done = threading.Event()

    def send() -> None:
        for _ in range(20_000):
            writer.send("a", bytes(1032))
        done.set()

    threading.Thread(target=send, daemon=True).start()
    assert done.wait(30)
    writer.close()


def test_settings() -> None:
    assert settings_of({}) is None
    assert channel_settings("5557", KEY).address == "tcp://127.0.0.1:5557", "loopback if no host is named"
    assert channel_settings("[::1]:5557", KEY).address == "tcp://[::1]:5557"
    assert settings_of({"UNWRITTEN_DRAFTS": "tcp://0.0.0.0:1", "UNWRITTEN_DRAFTS_KEY": KEY}) == ChannelSettings(
        "tcp://0.0.0.0:1", KEY
    )
    with pytest.raises(BadOption, match=r"a shared secret of at least 16 characters\. Set UNWRITTEN_DRAFTS_KEY"):
        settings_of({"UNWRITTEN_DRAFTS": "5557"})
    for wrong in ("host", "http://host:1", "", "a b:1"):
        with pytest.raises(BadOption, match="give HOST:PORT"):
            channel_settings(wrong, KEY)
