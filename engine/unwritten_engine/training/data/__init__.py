"""The data that a small model of our own learns from: dictionaries and summaries under free licences, put into the form
of the prompts that our demos send, and pages that a larger model has written.

    python -m unwritten_engine.training.data make --out data
    python -m unwritten_engine.training.data sample prompts.jsonl --out sampled.jsonl --minutes 60
"""
