"""``<img>`` elements of pictures, and their URLs. A URL holds the signed prompt, so only the app can make one."""

from __future__ import annotations

import base64
import binascii
import json
import unicodedata
import zlib
from collections.abc import Callable

from markupsafe import Markup

from unwritten_engine.text_to_image import PROMPT_LIMIT

from ..core.errors import BadTemplate, BadURL
from ..core.localization import Language
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.paths import PICTURES_PREFIX
from ..formats.schema import UnsettledText
from ..security.signer import Signer
from .store import PictureRequest

MIN_SIDE, MAX_SIDE = 16, 2048
"""Minimum and maximum side of a picture, in pixels."""

_MAX_TOKEN_LENGTH = 8 * PROMPT_LIMIT


class PictureTag:
    """Makes the elements and URLs of pictures, and parses the URLs.

    Args:
        signer: Signs the URLs.
        mount: The prefix under which the app is served.
        painter_of: Returns the model that has painted a picture, or will paint it, and whether the picture exists. The
            model is empty if no model paints: an ornament is shown.
    """

    def __init__(
        self, signer: Signer, mount: MountPoint, painter_of: Callable[[PictureRequest], tuple[str, bool]]
    ) -> None:
        self._signer = signer
        self._mount = mount
        self._painter_of = painter_of

    def render(self, language: Language, prompt: str, alt: str, width: int = 512, height: int = 320) -> Markup:
        """Return an ``<img>`` element. See ``Pictures.picture``.

        Raises:
            BadTemplate: If the size is out of range.
        """
        for side in (width, height):
            if isinstance(side, bool) or not isinstance(side, int) or not MIN_SIDE <= side <= MAX_SIDE:
                raise BadTemplate(
                    f"picture(…) takes a width and a height from {MIN_SIDE} to {MAX_SIDE} pixels, not {side!r}."
                )
        size = Markup('width="{}" height="{}"').format(width, height)
        text = _clean(str(prompt or ""))
        if not text or isinstance(prompt, UnsettledText):  # still being generated: show an empty placeholder
            blank = f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'/%3E"
            return Markup('<img class="picture" src="{}" alt="" {}>').format(blank, size)
        picture = PictureRequest(text, width, height)
        painter, exists = self._painter_of(picture)
        return Markup('<img class="picture" src="{}" alt="{}" title="{}" {} loading="lazy" decoding="async"{}>').format(
            self.url(picture),
            language.text(
                _("%(alt)s (a generated picture)", alt=alt)
                if painter
                else _("An ornament in place of a picture: %(alt)s", alt=alt)
            ),
            language.text(
                _("Painted by %(model)s; not a photograph", model=painter)
                if painter
                else _("An ornament, not a picture of it")
            ),
            size,
            Markup(" data-pending") if painter and not exists else "",
        )

    def url(self, picture: PictureRequest) -> str:
        """Return the URL of a picture."""
        text = json.dumps([picture.prompt, picture.width, picture.height], ensure_ascii=False)
        packed = zlib.compress(text.encode("utf-8", "replace"), 9)
        token = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        return self._mount.url(f"{PICTURES_PREFIX}{token}.{self._signer.signature('picture', token)}")

    def parse(self, signed_token: str) -> PictureRequest:
        """Return the picture that a URL stands for, from the last part of the URL.

        Raises:
            BadURL: With status 404 if this app has not made the URL.
        """
        token, _, signature = signed_token.partition(".")
        if len(signed_token) > _MAX_TOKEN_LENGTH or not self._signer.verify("picture", token, signature):
            raise BadURL("This picture does not exist: its URL was not made by this app, or was changed.", 404)
        try:
            packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            prompt, width, height = json.loads(zlib.decompress(packed))
        except (binascii.Error, zlib.error, ValueError) as error:  # signed by another version of the framework
            raise BadURL(f"This picture does not exist: its URL cannot be read ({error}).", 404) from None
        return PictureRequest(str(prompt), int(width), int(height))


def _clean(text: str) -> str:
    """Return a prompt on one line, without invisible characters, cut to the length that painters read."""
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * PROMPT_LIMIT])
    return unicodedata.normalize("NFC", " ".join(visible.split()))[:PROMPT_LIMIT].strip()
