"""What a model's number of parameters says about it: whether it can write drawings and whole programs."""

from __future__ import annotations

import re
from typing import Final

MARKUP_PARAMETERS: Final = 2_000_000_000
"""Parameters from which instruct models are taken to write drawings and programs.

Models with 0.1 and 0.5 billion fail: they apologize, or draw nothing that can be seen. The limit leaves a margin above
them; models between 0.5 and 2 billion have not been measured. The setting ``markup`` overrides it.
"""

_SIZE: Final = re.compile(r"(?<![\w.])(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])", re.IGNORECASE)


def parameters_in_name(name: str) -> int:
    """Return the number of parameters that a model's name states, such as "Qwen2.5-0.5B"; 0 if it states none.

    Of a mixture of experts such as "30B-A3B" it is the total.
    """
    sizes = [float(number) * (1e9 if unit in "bB" else 1e6) for number, unit in _SIZE.findall(name)]
    return round(max(sizes, default=0))


def judge_markup(parameters: int) -> tuple[bool, str]:
    """Return whether an instruct model of this size writes drawings and programs, and the reason in one sentence."""
    size = f"{parameters / 1e9:.2g} billion" if parameters < 10e9 else f"{parameters / 1e9:.0f} billion"
    if parameters < MARKUP_PARAMETERS:
        least = MARKUP_PARAMETERS // 10**9
        return (
            False,
            f"With {size} parameters it writes no drawings and programs: from {least} billion, or --markup on.",
        )
    return True, f"With {size} parameters it writes drawings and programs."
