"""Plain text: paragraphs and line breaks, nothing else."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from unwritten_engine import Frame

from .drawn import Drawn
from .marks import marked, softened, unmarked, within

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")


class TextDrawer:
    """Draws text as paragraphs."""

    def draw(self, frame: Frame) -> Drawn:
        """HTML of the text so far."""
        text = unmarked(frame.text)
        html: list[str] = []
        length = fixed = position = 0
        ends = [(m.start(), m.end()) for m in _PARAGRAPH.finditer(text)] + [(len(text), len(text))]
        for end, following in ends:
            body = text[position:end].strip()
            if body:
                start = text.index(body, position)
                soft = marked(body, within(frame.unsettled, start, start + len(body)))
                lines = str(escape(soft)).replace("\n", "<br>\n")
                html.append(f"<p>{softened(lines)}</p>\n")
                length += len(html[-1])
                # A paragraph is over when the next one has begun: until then a line may still join it.
                if following < len(text) and following <= frame.fixed:
                    fixed = length
            position = following
        if frame.done:
            fixed = length
        return Drawn(Markup("".join(html)), fixed)
