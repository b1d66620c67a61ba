"""Plain text: paragraphs and line breaks, nothing else."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from unwritten_engine import Frame

from .drawn import FormattedFrame
from .marks import insert_marks, render_marks, strip_marks, within

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")


class TextFormatter:
    """Draws text as paragraphs."""

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the text so far."""
        text = strip_marks(frame.text)
        html: list[str] = []
        length = fixed = position = 0
        ends = [(m.start(), m.end()) for m in _PARAGRAPH.finditer(text)] + [(len(text), len(text))]
        for end, following in ends:
            body = text[position:end].strip()
            if body:
                start = text.index(body, position)
                soft = insert_marks(body, within(frame.unsettled, start, start + len(body)))
                lines = str(escape(soft)).replace("\n", "<br>\n")
                html.append(f"<p>{render_marks(lines)}</p>\n")
                length += len(html[-1])
                # A paragraph is over when the next one has begun: until then a line may still join it.
                if following < len(text) and following <= frame.fixed:
                    fixed = length
            position = following
        if frame.done:
            fixed = length
        return FormattedFrame(Markup("".join(html)), fixed)
