"""Avatars: small faces that are generated from a name. The same name always gives the same face.

Like ornaments they are shapes with classes of ``unwritten.css``. They are hidden from screen readers, because the name
is next to them.
"""

from __future__ import annotations

from markupsafe import Markup

from .seeded_random import HUES, SeededRandom


def avatar(name: str) -> Markup:
    """Return a small face as inline SVG, for use in ``<span class="avatar">``.

    Args:
        name: The name that it is generated from. It is not shown.
    """
    rng = SeededRandom(str(name), "avatar")
    hue, ground, head = rng.below(HUES), rng.choice(("g1", "g2", "g3")), rng.choice(("f1", "f2", "f3"))
    hair, clothes = rng.choice(("k1", "k2", "k3", "k4")), rng.choice(("c1", "c2", "c3"))
    tilt = rng.integer(-9, 9)
    back, front = rng.choice(_HAIR)
    parts = [
        f'<path class="{ground}" d="M0 0h40v40H0z"/>',
        rng.choice(_BACKGROUNDS),
        f'<path class="{clothes}" d="{rng.choice(_SHOULDERS)}"/>',
        f'<g transform="rotate({tilt} 20 22)">',
        f'<path class="{hair}" d="{back}"/>' if back else "",
        f'<path class="{head}" d="{rng.choice(_HEADS)}"/>',
        f'<path class="{hair}" d="{front}"/>' if front else "",
        rng.choice(_EYES),
        rng.choice(_MOUTHS),
        rng.choice(_EXTRAS),
        "</g>",
    ]
    return Markup('<svg class="seeded hue-{}" viewBox="0 0 40 40" aria-hidden="true">{}</svg>').format(
        hue, Markup("".join(parts))
    )


_BACKGROUNDS = (
    "",
    "",
    '<circle class="g4" cx="20" cy="20" r="16"/>',
    '<path class="g4" d="M0 26h40v14H0z"/>',
    '<path class="g4" d="M0 40L40 0v40z"/>',
    '<path class="g4" d="M0 0h20v40H0z"/>',
    '<path class="g4" d="M0 4h40v5H0zM0 15h40v5H0zM0 26h40v5H0z"/>',
)

_SHOULDERS = (
    "M6 40c0-8 6-11 14-11s14 3 14 11z",
    "M4 40l6-9h20l6 9z",
    "M9 40v-6q0-5 5-5h12q5 0 5 5v6z",
    "M3 40c2-7 8-9 17-9s15 2 17 9z",
)

_HEADS = (
    "M20 9a11 11 0 0 1 0 22a11 11 0 0 1 0-22z",
    "M20 8c7 0 9.5 5 9.5 11.5S26 32 20 32s-9.5-6-9.5-12.5S13 8 20 8z",
    "M12 12q8-5 16 0v12q0 8-8 8t-8-8z",
    "M9.5 13q0-3 3-3h15q3 0 3 3v12q0 5-5 5h-11q-5 0-5-5z",
    "M20 9c9 0 12 6 11 11c-1 6-5 11-11 11s-10-5-11-11c-1-5 2-11 11-11z",
)

# Behind the head, and in front of it.
_HAIR = (
    ("", "M9 18c0-9 5-12 11-12s11 3 11 12c-3-4-6-5-11-5s-8 1-11 5z"),
    ("M8 30V17C8 9 13 5 20 5s12 4 12 12v13z", "M10 17c1-7 5-9 10-9s9 2 10 9c-4-3-6-4-10-4s-6 1-10 4z"),
    ("", "M9 17C8 8 16 5 22 6s10 5 9 11c-6 0-10-1-13-4c-2 3-5 4-9 4z"),
    ("M20 1a5 5 0 0 1 0 10a5 5 0 0 1 0-10z", "M10 17c0-7 4-9 10-9s10 2 10 9c-3-4-6-5-10-5s-7 1-10 5z"),
    ("", ""),
    ("M9 8a5 5 0 0 1 9-2a5 5 0 0 1 8 1a5 5 0 0 1 6 7a5 5 0 0 1-1 7H9a5 5 0 0 1-1-7a5 5 0 0 1 1-6z", ""),
    ("", "M8 15h24v-2h-3c0-6-4-8-9-8s-9 2-9 8H8z"),
    ("", "M11 14l-1-9l5 4l5-6l5 6l5-4l-1 9q-9-4-18 0z"),
    ("M7 26c-2-8 0-20 13-20s15 12 13 20c-2 4-5 3-5 0H12c0 3-3 4-5 0z", "M10 16q4-6 10-2q6-4 10 2q-1-9-10-9t-10 9z"),
    ("", "M10 15q10-16 20 0q-4-3-5-1q-3-3-5 0q-2-3-5 0q-2-2-5 1z"),
)

_EYES = (
    '<path class="e" d="M15 19a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3zM25 19a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3z"/>',
    '<path class="el" d="M13 21q2-3 4 0M23 21q2-3 4 0"/>',
    '<path class="el" d="M13 20q2 3 4 0M23 20q2 3 4 0"/>',
    '<path class="el" d="M15 18.5v4M25 18.5v4"/>',
    '<path class="ew" d="M15 17.5a3 3 0 0 1 0 6a3 3 0 0 1 0-6zM25 17.5a3 3 0 0 1 0 6a3 3 0 0 1 0-6z"/>'
    '<path class="e" d="M15.5 19a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3zM25.5 19a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3z"/>',
    '<path class="el" d="M12.5 18l4 1M27.5 18l-4 1"/>'
    '<path class="e" d="M15 20a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3zM25 20a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3z"/>',
)

_MOUTHS = (
    '<path class="el" d="M16 26q4 3 8 0"/>',
    '<path class="el" d="M17 27h6"/>',
    '<path class="e" d="M16 25h8q0 4-4 4t-4-4z"/>',
    '<path class="e" d="M20 25a1.7 2 0 0 1 0 4a1.7 2 0 0 1 0-4z"/>',
    '<path class="el" d="M17 27q4 1 6-2"/>',
    '<path class="ea" d="M16 26q2-1.5 4 0q2-1.5 4 0q-4 4-8 0z"/>',
)

_EXTRAS = (
    "",
    "",
    '<path class="eg" d="M15 17a3.5 3.5 0 0 1 0 7a3.5 3.5 0 0 1 0-7z'
    "M25 17a3.5 3.5 0 0 1 0 7a3.5 3.5 0 0 1 0-7z"
    'M18.5 20h3"/>',
    '<path class="ea soft" d="M12 23a2 2 0 0 1 0 4a2 2 0 0 1 0-4zM28 23a2 2 0 0 1 0 4a2 2 0 0 1 0-4z"/>',
    '<path class="ea" d="M9 24a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3zM31 24a1.5 1.5 0 0 1 0 3a1.5 1.5 0 0 1 0-3z"/>',
    '<path class="eb" d="M11 23q0 9 9 9t9-9q-3 2-5 1.5q-4-1.5-8 0q-2 .5-5-1.5zM17 27q3 2 6 0q-3-1-6 0z"/>',
    '<path class="eb" d="M14 24.5q3-2 6 0q3-2 6 0q-2 1.5-6 .5q-4 1-6-.5z"/>',
)
