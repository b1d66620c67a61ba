"""The data that a small model of our own learns from: dictionaries and summaries under free licences, put into the form
of the prompts that our demos send, and pages that a larger model has written.

    python -m research.data make --out data
    python -m research.data sample prompts.jsonl --out sampled.jsonl --minutes 60
"""

from __future__ import annotations
