"""What every template sees besides its page's own values: one table that feeds the docs, a test, and the check that no
page takes one of these names for a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEMPLATE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "app": "The app: `app.name`, `app.can('svg')`, `app.store`, `app.settings`, and whatever else it has.",
        "page": "The page: its key, title, state and provenance; see below. On a page that is not written, and in "
        "`app.render`, only key and title say something.",
        "unwritten": "Our style sheet and scripts. It belongs into the `<head>` of a layout.",
        "colophon": "The small print under a page: who wrote it, and what can be done with it. Once, at its end.",
        "static": "`static('file.css')`: the address of a static file, with its version.",
        "link": "`link(key)`, or `key|link`: the address of a page for a link to it. It matters on the open web, where "
        "only links that were offered cause writing.",
        "ornament": "`ornament(text, label=None)`: a small abstract picture as inline SVG, made from the text alone, "
        "always the same for it. Say under it that it is an ornament; without a label screen readers pass over it.",
        "avatar": '`avatar(name)`: a small face for a name, always the same; it stands in `<span class="avatar">`.',
        "picture": "`picture(prompt, alt, width=512, height=320)`: an `<img>` of fixed size. The setting `painter` "
        "names who paints it; without one it is an ornament, and says so.",
        "nonce": 'The nonce of this response, for a `<script nonce="{{ nonce }}">` of your own.',
        "edit_link": "`edit_link('lead')`: a link that opens the forms which change this region, right under it; "
        "`edit_link()` leads to those of the whole page. Nothing where visitors may not change what is written.",
        "action": "`<form {{ action('reply', id=3) }}>`: the attributes of a form that is sent to an action.",
        "form": "A form that was sent and could not be taken: `form.value.text`, `form.errors.text`, `form.message`, "
        "`form.action`. Empty otherwise.",
    }
)
"""Name and what it is, in one line."""

RESERVED_NAMES = frozenset({*TEMPLATE_NAMES, "self", "super", "loop", "caller"})
"""Names that a page cannot give to its parts: ours, and those that Jinja keeps for itself."""
