"""Training data for small models: dictionaries and summaries under free licences in the form of the demos' prompts, and
pages sampled from a larger model.

    python -m research.data make --out data
    python tests/benchmarks prompts /wiki/Tea --demo wiki        # from the repository's root
    python -m research.data sample prompts.jsonl --out sampled.jsonl --minutes 60
"""

from __future__ import annotations
