"""Remove metadata from images: phones store in a photo where and when it was taken, and by which device.

The orientation of a JPEG file stays, because browsers rotate the image by it. An image that cannot be parsed is
returned without change: browsers and models decide whether they can show it.
"""

from __future__ import annotations

import struct

_PNG_METADATA = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"})
_WEBP_METADATA = frozenset({b"EXIF", b"XMP "})
_WEBP_FLAGS = 0x08 | 0x04  # of the chunk VP8X: the file has EXIF, and XMP
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112


def without_metadata(content: bytes, media_type: str) -> bytes:
    """Return an image without EXIF, XMP, IPTC and comments.

    Args:
        content: The file.
        media_type: Its media type, judged by its content.
    """
    clean = {"image/jpeg": _clean_jpeg, "image/png": _clean_png, "image/webp": _clean_webp}.get(media_type)
    try:
        return clean(content) if clean else content
    except (struct.error, IndexError, ValueError):  # it is cut off or damaged
        return content


def _clean_jpeg(content: bytes) -> bytes:
    kept = [content[:2]]
    position = 2
    while content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # start of scan: the image itself follows
            return b"".join([*kept, content[position:]])
        (length,) = struct.unpack_from(">H", content, position + 2)
        if length < 2 or position + 2 + length > len(content):
            raise ValueError("a segment is cut off")
        segment = content[position : position + 2 + length]
        if marker == 0xE1 and segment[4:10] == _EXIF:
            kept.append(_orientation_segment(segment[10:]))
        elif marker not in {0xE1, 0xED, 0xFE}:  # APP1 (XMP), APP13 (IPTC), comment; APP2 has the colour profile
            kept.append(segment)
        position += 2 + length
    raise ValueError("a marker is missing")


def _orientation_segment(tiff: bytes) -> bytes:
    """Return an EXIF segment that has only the orientation. Empty if the image is upright, or none is given."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return b""
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for number in range(min(count, 256)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * number)
            if tag == _ORIENTATION and 2 <= value <= 8:
                entry = struct.pack(">HHIHH", _ORIENTATION, 3, 1, value, 0)
                body = _EXIF + b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
                return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    except struct.error:
        pass
    return b""


def _clean_png(content: bytes) -> bytes:
    kept = [content[:8]]
    position = 8
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise ValueError("a chunk is cut off")
        if kind not in _PNG_METADATA:
            kept.append(content[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end
    raise ValueError("the end is missing")


def _clean_webp(content: bytes) -> bytes:
    kept = [b"WEBP"]
    position = 12
    (length,) = struct.unpack_from("<I", content, 4)
    last = min(len(content), 8 + length)
    while position < last:
        kind, length = struct.unpack_from("<4sI", content, position)
        end = position + 8 + length + length % 2
        if position + 8 + length > last:
            raise ValueError("a chunk is cut off")
        chunk = content[position:end]
        if kind == b"VP8X":
            kept.append(chunk[:8] + bytes([chunk[8] & ~_WEBP_FLAGS]) + chunk[9:])
        elif kind not in _WEBP_METADATA:
            kept.append(chunk)
        position = end
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body
