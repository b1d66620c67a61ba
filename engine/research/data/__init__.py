"""Training data for small models, from dictionaries, encyclopedia summaries and a larger model.

The texts have free licences. They become pages in the form of the demos' prompts.

    python -m research.data make --out data
    python tests/benchmarks prompts /wiki/Tea --demo wiki        # from the repository's root
    python -m research.data sample prompts.jsonl --out sampled.jsonl --minutes 60
"""

from __future__ import annotations
