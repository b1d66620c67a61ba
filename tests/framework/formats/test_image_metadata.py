"""Metadata of images: removed, without any change of the image."""

from __future__ import annotations

import io
from typing import Any

import pytest

from unwritten.formats.image_metadata import without_metadata
from unwritten.formats.uploads import media_type_of

Image: Any = pytest.importorskip("PIL.Image")
PngInfo: Any = pytest.importorskip("PIL.PngImagePlugin").PngInfo

SECRETS = (b"Canon", b"a comment", b"xmp secret")


def photo(format: str, orientation: int = 1) -> bytes:
    """Return an image with a camera, a place, a comment and a colour profile."""
    image = Image.effect_noise((48, 32), 90).convert("RGB")
    exif = image.getexif()
    exif[0x0110] = "Canon 5D"
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # latitude
    options: dict[str, Any] = {"exif": exif, "icc_profile": b"profile" * 40}
    if format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Comment", "a comment")
    if format == "JPEG":
        options["comment"] = b"a comment"
    if format in {"JPEG", "WEBP"}:
        options["xmp"] = b"<x>xmp secret</x>"
    if format == "WEBP":
        options["lossless"] = True
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_removed_and_the_image_is_the_same(format: str) -> None:
    before = photo(format)
    assert any(secret in before for secret in SECRETS)
    after = without_metadata(before, media_type_of(before))
    assert media_type_of(after) == media_type_of(before)
    assert not any(secret in after for secret in SECRETS) and len(after) < len(before)
    one, two = Image.open(io.BytesIO(before)), Image.open(io.BytesIO(after))
    assert one.tobytes() == two.tobytes()
    assert dict(two.getexif()) == {} and two.info.get("icc_profile") == one.info["icc_profile"]
    assert without_metadata(after, media_type_of(after)) == after


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_photo_stays(orientation: int) -> None:
    before = photo("JPEG", orientation)
    after = without_metadata(before, "image/jpeg")
    exif = Image.open(io.BytesIO(after)).getexif()
    assert exif.get(0x0112, 1) == orientation and 0x0110 not in exif


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_any_damaged_image_is_accepted(format: str) -> None:
    before = photo(format, 6)
    kind = media_type_of(before)
    for end in range(12, len(before), 7):
        without_metadata(before[:end], kind)
    for position in range(12, min(len(before), 2000), 3):
        without_metadata(before[:position] + b"\xff\xff" + before[position + 2 :], kind)
    assert without_metadata(b"", kind) == b""
    assert without_metadata(b"GIF89a...", "image/gif") == b"GIF89a..."
