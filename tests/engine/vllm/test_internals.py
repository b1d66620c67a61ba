from __future__ import annotations

import pytest

from unwritten_engine.errors import MissingPackage
from unwritten_engine.vllm import internals


@pytest.mark.usefixtures("needs_vllm")
def test_vllm_has_all_internals_that_the_plugin_uses() -> None:
    assert internals.is_supported(internals.check_version())
    assert internals.find_missing() == []


@pytest.mark.usefixtures("needs_vllm")
def test_a_missing_internal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "ASSIGNED", {internals.STATES: ("step", "no_such_tensor")})
    monkeypatch.setattr(internals, "FIELDS", {internals.BATCH: ("no_such_field",), "vllm.no_such_module.Batch": ("a",)})
    monkeypatch.setattr(internals, "USED", ("vllm.SamplingParams", "vllm.NoSuchClass"))
    monkeypatch.setattr(internals, "EXTRA_ARGS", ("diffusion_pinned", "no_such_key"))
    monkeypatch.setattr(internals, "METHODS", {f"{internals.SAMPLER}.__call__": ("self", "logits")})
    assert internals.find_missing() == [
        "vllm.NoSuchClass",
        f"{internals.SAMPLER}.__call__(self, logits)",
        f"{internals.STATES}.no_such_tensor",
        f"{internals.BATCH}.no_such_field",
        "vllm.no_such_module.Batch.a",
        "extra_args['no_such_key']",
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.32.0", True),
        ("0.32.1.dev3+cpu", True),
        ("0.31.9", False),
        ("0.33.0", False),
        ("1.32", False),
        ("dev", False),
    ],
)
def test_one_range_of_versions_is_supported(version: str, expected: bool) -> None:
    assert internals.is_supported(version) == expected


def test_another_version_is_an_error_that_names_the_one_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "installed_version", lambda: "0.33.0")
    with pytest.raises(MissingPackage, match=r'vLLM 0\.33\.0 is installed.* Type: pip install "vllm>=0.32,<0.33"'):
        internals.check_version()
    monkeypatch.setattr(internals, "installed_version", lambda: None)
    with pytest.raises(MissingPackage, match=r'Type: pip install "unwritten\[vllm\]"'):
        internals.check_version()
