"""Server-sent events: from the bytes of an HTTP answer to the data of its events.

What comes from a server is not trusted: a line that never ends is an error, and not a full memory.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

LONGEST: Final = 1 << 22
"""Characters that one event may have; the largest canvas with all its usage is far below."""


class NotEvents(ValueError):
    """The bytes are not server-sent events."""


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event, in order; an event of several data lines is one text with line breaks.

    Comments, names and numbers of events are passed over. An event that the stream breaks off in is dropped, as
    the format wants it.

    Args:
        chunks: the bytes, however they are cut.

    Raises:
        NotEvents: bytes that are not UTF-8, or an event without an end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, data = "", list[str]()
    async for chunk in chunks:
        try:
            rest += decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise NotEvents(f"it is not UTF-8: {error.reason}") from error
        *lines, rest = rest.split("\n")
        for line in lines:
            text = line.removesuffix("\r")
            if text.startswith("data:"):
                data.append(text[5:].removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []
        if len(rest) + sum(map(len, data)) > LONGEST:
            raise NotEvents("an event has no end")
