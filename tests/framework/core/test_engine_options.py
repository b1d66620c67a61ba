"""Options of the engine and the painter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unwritten import App
from unwritten.core.engine_options import engine_options, mask_keys, parse_options
from unwritten.core.errors import BadSetting
from unwritten.core.settings import load_settings
from unwritten_engine import Engine, scripted
from unwritten_engine.errors import BadOption, UnknownOption


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("threads=2 quantize=nf4", {"threads": 2, "quantize": "nf4"}),
        ("  temperature=0.5\tlow=-.5 big=1e3 ", {"temperature": 0.5, "low": -0.5, "big": 1000.0}),
        ("log=yes strict=False a=ON b=none", {"log": True, "strict": False, "a": True, "b": None}),
        ("gpu-layers=0", {"gpu_layers": 0}),
        ("""model='a b' name="c d" e=""", {"model": "a b", "name": "c d", "e": ""}),
        ("""'extra={"user": "me", "n": [1]}'""", {"extra": {"user": "me", "n": [1]}}),
        ("""user='"123"' url=http://h/?a=b""", {"user": "123", "url": "http://h/?a=b"}),
        ("key=123 model=7", {"key": "123", "model": "7"}),
    ],
)
def test_options_are_parsed_to_their_types(text: str, options: dict[str, Any]) -> None:
    found = parse_options(text)
    assert found == options
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads", "'threads' is not an option of an engine. Write name=value.*--engine-options 'threads=2"),
        ("threads = 2", "'threads' is not an option"),
        ("2x=3", "'2x=3' is not an option"),
        ("a=1 a=2", "'a' is given twice"),
        ("a='b", "cannot be parsed: no closing quotation"),
        ("extra={user:1}", "begins like JSON but is not valid"),
    ],
)
def test_invalid_options_are_errors_that_explain_the_syntax(text: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        parse_options(text)


def test_the_model_comes_from_its_own_setting() -> None:
    settings = load_settings({"model": "a/b", "engine_options": "threads=2"}, environment={})
    assert engine_options(settings) == {"model": "a/b", "threads": 2}
    assert engine_options(load_settings(environment={})) == {}
    with pytest.raises(BadSetting, match=r"There are two models: 'a', and 'b' in the"):
        engine_options(load_settings({"model": "a", "engine_options": "model=b"}, environment={}))


def test_keys_are_masked() -> None:
    assert mask_keys("threads=2 key=sk-123 model=x") == "threads=2 key=… model=x"
    assert mask_keys("key='a b' x=1") == "key=… x=1"


def make_app(**settings: Any) -> App:
    """Return an app with one page."""
    app = App("Test", **settings)

    @app.page("/{title}")
    def page(title: str) -> str:
        return title

    return app


def test_the_app_passes_options_to_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def opened(spec: str, progress: Any = None, **options: Any) -> Engine:
        asked.append((spec, options))
        return scripted("A text.")

    monkeypatch.setattr("unwritten.app.build.open_engine", opened)
    monkeypatch.chdir(tmp_path)
    app = make_app(engine="http://localhost:8000/v1", model="m", engine_options="retries=0")
    app.prepare()
    app.site.store.close()
    assert asked == [("http://localhost:8000/v1", {"model": "m", "retries": 0})]


@pytest.mark.parametrize("engine", ["embedded", "auto", "x.gguf"])
def test_a_model_for_an_engine_that_takes_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadOption, match=rf"'{engine}' takes no model, but got model='m'.*'diffusion'"):
        make_app(engine=engine, model="m").prepare()
    with pytest.raises(UnknownOption, match=r"no option 'thread'\. Did you mean 'threads'"):
        make_app(engine=engine, engine_options="thread=2").prepare()


def test_an_app_with_its_own_engine_rejects_engine_options(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [{"model": "m"}, {"engine_options": "threads=2"}]
    for settings in given:
        app = make_app(engine=scripted("A."), database=str(tmp_path / "a.db"), **settings)
        with pytest.raises(BadSetting, match="brings its own open engine"):
            app.prepare()
