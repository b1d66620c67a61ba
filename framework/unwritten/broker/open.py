"""Open the broker that a setting names."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from ..core.errors import BadSetting, BrokerError
from .base import Broker
from .local import LocalBroker

_SCHEMES = ("redis", "rediss", "unix")

_TIMEOUT = 3.0
"""Seconds to wait for the server at start-up."""


def open_broker(url: str, secret: bytes) -> Broker:
    """Return the broker for a URL. An empty one returns the broker of a single process.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        secret: The secret of the world. Its hash separates the worlds that share a server.

    Raises:
        BadSetting: If the URL is not valid.
        BrokerError: If the server cannot be used, or its client is not installed.
    """
    if not url:
        return LocalBroker()
    address = shown_url(url)
    if urlsplit(url).scheme not in _SCHEMES:
        raise BadSetting(
            f"The broker {address!r} is not the URL of a Redis server. "
            "Use redis://HOST:PORT, rediss://HOST:PORT for TLS, or unix:///PATH/OF/SOCKET."
        )
    try:
        import redis

        from .redis_broker import RedisBroker
    except ImportError:
        raise BrokerError('The broker needs a library. Install it: pip install "unwritten[redis]"') from None
    try:
        with redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT) as client:
            client.ping()
    except redis.AuthenticationError as error:
        raise BrokerError(
            f"The broker {address} refuses the user or password ({error}). Write them into the URL: "
            "redis://:PASSWORD@HOST:PORT."
        ) from None
    except ValueError as error:
        raise BadSetting(f"The broker {address!r} is not a valid URL ({error}).") from None
    except (redis.RedisError, OSError) as error:
        raise BrokerError(
            f"The broker {address} cannot be used: {error}. Start Redis or Valkey (apt install redis-server), or "
            "leave out --broker to serve the app with one process."
        ) from None
    world = hmac.new(secret, b"broker", hashlib.sha256).hexdigest()[:16]
    return RedisBroker(url, address, world)


def shown_url(url: str) -> str:
    """Return the URL of a broker without user, password and query, for messages."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(invalid URL)"
    if parts.scheme not in _SCHEMES:
        return url.rpartition("@")[2].partition("?")[0]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
