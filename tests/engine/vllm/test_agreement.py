"""The own engine and vLLM compute the same, and drafts can be switched off; measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.support.repository import ROOT

CODE = """
import json, runpy
runpy.run_path("tests/engine/vllm/on_cpu/sitecustomize.py")
from tests.benchmarks.engine.vllm_side import measure_vllm
print(json.dumps(measure_vllm(1)))
"""


@pytest.mark.usefixtures("needs_vllm")
def test_both_engines_compute_the_same_logits() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["logit_error"] < 1e-4
    assert 1 < found["steps"] <= 48 and found["ms_per_step"] > 0
