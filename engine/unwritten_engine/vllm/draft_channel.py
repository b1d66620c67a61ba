"""The socket on which vLLM's processes publish drafts.

The process with the sampler has a PUB socket, readers have SUB sockets. The topic of a message is vLLM's id of the
request, so a reader that subscribes to the prefix of its own ids gets its own drafts only. A slow reader loses
drafts; the writer never waits for it.

Both sides derive their keys for CURVE, ZeroMQ's encryption, from one shared secret. A reader without it gets nothing.
For ``vllm serve``, ``ADDRESS_VARIABLE`` and ``KEY_VARIABLE`` in the server's environment turn the plugin on.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..errors import BadOption
from .backend import StepDraft

ADDRESS_VARIABLE: Final = "UNWRITTEN_DRAFTS"
KEY_VARIABLE: Final = "UNWRITTEN_DRAFTS_KEY"
MIN_KEY: Final = 16
"""Minimum length of the shared secret in characters."""
_MOST_QUEUED: Final = 256
"""Messages that wait for a slow reader; later ones are dropped."""
_MOST_PORTS: Final = 64
"""With data parallelism, each copy of the model publishes on a port of its own: the next free one."""
_HEAD: Final = struct.Struct("<4sI")
_MAGIC: Final = b"UWD1"


def pack_draft(step: int, row: bytes) -> bytes:
    """Return the message of a draft. ``row`` holds 32-bit numbers: a token, or its complement if not accepted."""
    return _HEAD.pack(_MAGIC, step) + row


def unpack_draft(message: bytes) -> StepDraft | None:
    """Return the draft of a message, or None for another version of the format."""
    if len(message) < _HEAD.size or (len(message) - _HEAD.size) % 4:
        return None
    magic, step = _HEAD.unpack_from(message)
    if magic != _MAGIC:
        return None
    row = array("i")
    row.frombytes(message[_HEAD.size :])
    return StepDraft(step, [id if id >= 0 else ~id for id in row], [id >= 0 for id in row])


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Where drafts are published.

    Attributes:
        address: ``tcp://HOST:PORT``, on which the writer listens, or ``ipc://PATH`` or ``connect+tcp://HOST:PORT``, on
            which the reader does.
        key: the shared secret.
    """

    address: str
    key: str = field(repr=False)

    @property
    def reader_listens(self) -> bool:
        """True if the reader listens and writers connect: the reader does not know where they are."""
        return not self.address.startswith("tcp://")

    @property
    def endpoint(self) -> str:
        """The address for ZeroMQ."""
        return self.address.removeprefix("connect+")


def channel_settings(address: str, key: str) -> ChannelSettings:
    """Check address and key.

    Args:
        address: ``ipc://PATH``, ``tcp://HOST:PORT``, ``HOST:PORT``, or a port of this machine's loopback interface.
        key: the shared secret.

    Raises:
        BadOption: the address or the key is invalid.
    """
    if address.isdecimal():
        address = f"127.0.0.1:{address}"
    if "://" not in address:
        address = f"tcp://{address}"
    if not re.fullmatch(r"ipc://.+|(connect\+)?tcp://(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}", address):
        raise BadOption(f"The address of drafts is {address!r}; give HOST:PORT, or a port of this machine.")
    if len(key) < MIN_KEY:
        raise BadOption(
            f"Drafts need a shared secret of at least {MIN_KEY} characters. Set {KEY_VARIABLE} to the same text for "
            f"the server and for this process, for example to the output of: openssl rand -hex 32"
        )
    return ChannelSettings(address, key)


def settings_of(environment: Mapping[str, str]) -> ChannelSettings | None:
    """Return the settings in the environment of a vLLM process, or None if drafts are not wanted."""
    address = environment.get(ADDRESS_VARIABLE)
    return channel_settings(address, environment.get(KEY_VARIABLE, "")) if address else None


class DraftWriter:
    """The socket of a process with a sampler. Use it from one thread.

    Args:
        settings: address and key.

    Raises:
        zmq.ZMQError: the address is in use, or does not belong to this machine.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        self._context = zmq.Context()
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(
            credentials_provider=_SingleKeyProvider(_keys(settings.key, "reader")[0])
        )
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_QUEUED)
        self._socket.setsockopt(zmq.IPV6, "[" in settings.address)
        self._socket.curve_publickey, self._socket.curve_secretkey = _keys(settings.key, "writer")
        self._socket.curve_server = True
        if settings.reader_listens:
            self.address = settings.address
            self._socket.connect(settings.endpoint)
        else:
            self.address = _bind(self._socket, settings.address)

    def send(self, request_id: str, message: bytes) -> None:
        """Publish a message. Never waits."""
        self._socket.send_multipart((request_id.encode(), message), zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._authenticator.stop()
        self._context.term()


def make_reader(context: Any, settings: Sequence[ChannelSettings], prefix: str) -> Any:
    """Return a SUB socket for the drafts of requests whose ids start with ``prefix``.

    Args:
        context: a context of ``zmq`` or ``zmq.asyncio``.
        settings: the writers, or the one address on which this reader listens.
        prefix: of the ids.
    """
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, _MOST_QUEUED)
    socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
    for each in settings:
        connect_reader(socket, each)
    return socket


def address_of_machine(host: str) -> str:
    """Return an address with a free port, on which a reader can listen for writers on other machines."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        port = probe.getsockname()[1]
    return f"connect+tcp://[{host}]:{port}" if ":" in host else f"connect+tcp://{host}:{port}"


def can_read(settings: ChannelSettings, seconds: float) -> bool:
    """True if a writer at the address accepts the key within some seconds."""
    with zmq.Context() as context, make_reader(context, [], "") as socket:
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            connect_reader(socket, settings)
            return bool(monitor.poll(1000 * seconds))
        finally:
            socket.disable_monitor()
            monitor.close()


def connect_reader(socket: Any, settings: ChannelSettings) -> None:
    """Connect a reader to a writer, or let it listen for writers."""
    socket.setsockopt(zmq.IPV6, "[" in settings.address)
    socket.curve_publickey, socket.curve_secretkey = _keys(settings.key, "reader")
    socket.curve_serverkey = _keys(settings.key, "writer")[0]
    (socket.bind if settings.reader_listens else socket.connect)(settings.endpoint)


class _SingleKeyProvider:
    """Accepts the one public key that belongs to the shared secret."""

    def __init__(self, public_key: bytes) -> None:
        self._key = public_key

    def callback(self, domain: str, key: bytes) -> bool:
        """See ``zmq.auth``. Keys are compared in text form."""
        return key == self._key


def _keys(secret: str, side: str) -> tuple[bytes, bytes]:
    """Return the public and the secret CURVE key of a side."""
    seed = hashlib.blake2b(secret.encode(), digest_size=32, person=f"uw-{side}".encode()).digest()
    secret_key = _z85(seed)
    return zmq.curve_public(secret_key), secret_key


def _z85(data: bytes) -> bytes:
    from zmq.utils import z85

    return bytes(z85.encode(data))


def _bind(socket: Any, address: str) -> str:
    """Bind to the address, or to the next free port after it. Return the address."""
    host, _, port = address.rpartition(":")
    for number in range(int(port), int(port) + _MOST_PORTS):
        try:
            socket.bind(f"{host}:{number}")
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or number == int(port) + _MOST_PORTS - 1:
                raise
            continue
        return f"{host}:{number}"
    raise AssertionError("unreachable")


def new_key() -> str:
    """Return a random shared secret."""
    return base64.b64encode(os.urandom(32)).decode()
