"""A client of a vLLM server with drafts needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("zmq")
CODE = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from pathlib import Path
from transformers import AutoTokenizer
import unwritten_engine.vllm.server
from unwritten_engine import Prompt
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import PromptTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
detokenizer = Detokenizer(tokenizer, frozenset({1}), 0)
print(len(PromptTokenizer(tokenizer, detokenizer, None, "random").tokenize(Prompt("A lighthouse.")).ids))
"""


def test_a_client_needs_no_torch(tmp_path: Path) -> None:
    from unwritten_engine.diffusion.loading.random_tokenizer import make_tokenizer

    make_tokenizer(1024).save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 5
