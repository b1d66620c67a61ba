"""Pictures, ornaments and avatars in templates. ``Pictures`` is the extension."""

from .extension import Pictures

__all__ = ["Pictures"]
