"""Training data for small models: dictionaries and summaries under free licences in the form of the demos' prompts, and
pages sampled from a larger model.

    python -m research.data make --out data
    python -m research.data prompts /wiki/Tea --app demos/wiki --out prompts.jsonl
    python -m research.data sample prompts.jsonl --out sampled.jsonl --minutes 60
"""

from __future__ import annotations
