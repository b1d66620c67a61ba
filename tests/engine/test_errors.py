from __future__ import annotations

from unwritten_engine.errors import EngineError, UnknownOption, suggestion


def test_a_misspelled_name_gets_the_nearest() -> None:
    assert suggestion("temprature", ["top_k", "temperature"]) == " Did you mean 'temperature'?"


def test_an_unrelated_name_gets_all_names() -> None:
    assert suggestion("zzz", ["top_k", "min_p"]) == " Known: min_p, top_k."
    assert suggestion("zzz", []) == " It takes none."


def test_an_unknown_option_names_its_owner() -> None:
    error = UnknownOption("colour", ["speed"], "The tape engine")
    assert isinstance(error, EngineError)
    assert str(error) == "The tape engine has no option 'colour'. Known: speed."
