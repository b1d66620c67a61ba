"""Examples from files: what a model is shown, kept beside an app as plain text.

    EXAMPLES = read_examples(Path(__file__).parent / "examples" / "lead.txt")
    Canvas("The opening paragraph of the article on tea.", examples=EXAMPLES)

A base model imitates examples more than it follows any instruction, so they deserve a file of their own that one can
read and mend.
"""

from __future__ import annotations

import re
from pathlib import Path

from unwritten_engine import Example

from .errors import BadPage, suggestion


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """Examples from a text file: a line ``=== the ask``, then the answer, up to the next such line.

    Between them there may be lines ``> something known``. They show the model that an answer says what is known.

    Args:
        path: the file, in UTF-8.

    Raises:
        BadPage: if there is no such file, it has text before its first ask, or an ask without an answer.
    """
    source = Path(path)
    if not source.is_file():
        others = [str(other) for other in source.parent.glob("*.txt")]
        raise BadPage(f"There is no file of examples {source}.{suggestion(str(source), others) if others else ''}")
    before, *entries = re.split(r"^===[ \t]+", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if before.strip() or not entries:
        raise BadPage(f"{source} must begin with a line such as '=== A recipe for bread.', and the answer under it.")
    examples = []
    for entry in entries:
        ask, _, answer = entry.partition("\n")
        facts = []
        while answer.startswith("> "):
            fact, _, answer = answer.partition("\n")
            facts.append(fact[2:].strip())
        if not ask.strip() or not answer.strip():
            raise BadPage(f"{source} has the ask {ask.strip()!r} without an answer under it.")
        examples.append(Example(ask.strip(), answer.strip(), tuple(facts)))
    return tuple(examples)
