"""What is typed after --model and --engine-options, and what the engine gets of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unwritten.core.engine_options import engine_options, hidden, read_options

from unwritten import App
from unwritten.core.errors import BadSetting
from unwritten.core.settings import Settings
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
def test_options_as_they_are_typed(text: str, options: dict[str, Any]) -> None:
    found = read_options(text)
    assert found == options
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads", "'threads' is no option of an engine. Write name=value.*--engine-options 'threads=2"),
        ("threads = 2", "'threads' is no option"),
        ("2x=3", "'2x=3' is no option"),
        ("a=1 a=2", "'a' is given twice"),
        ("a='b", "a quote too many"),
        ("extra={user:1}", "begins like JSON and is none"),
    ],
)
def test_what_cannot_be_read_says_what_to_type(text: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        read_options(text)


def test_the_model_comes_from_its_own_setting() -> None:
    settings = Settings({"model": "a/b", "engine_options": "threads=2"}, environment={})
    assert engine_options(settings) == {"model": "a/b", "threads": 2}
    assert engine_options(Settings(environment={})) == {}
    with pytest.raises(BadSetting, match=r"named twice, as 'a' and .* 'b'"):
        engine_options(Settings({"model": "a", "engine_options": "model=b"}, environment={}))


def test_keys_are_hidden() -> None:
    assert hidden("threads=2 key=sk-123 model=x") == "threads=2 key=… model=x"
    assert hidden("key='a b' x=1") == "key=… x=1"


def test_the_app_hands_them_to_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def opened(spec: str, progress: Any = None, **options: Any) -> Engine:
        asked.append((spec, options))
        return scripted("A text.")

    monkeypatch.setattr("unwritten.app.lifespan.open_engine", opened)
    monkeypatch.chdir(tmp_path)
    app = App("Test", engine="http://localhost:8000/v1", model="m", engine_options="retries=0")
    app.prepare()
    app.store.close()
    assert asked == [("http://localhost:8000/v1", {"model": "m", "retries": 0})]


@pytest.mark.parametrize("engine", ["embedded", "auto", "x.gguf"])
def test_a_model_for_an_engine_that_takes_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadOption, match=rf"'{engine}' takes no model, but was given model='m'.*'diffusion'"):
        App("Test", engine=engine, model="m").prepare()
    with pytest.raises(UnknownOption, match=r"no option 'thread'\. Did you mean 'threads'"):
        App("Test", engine=engine, engine_options="thread=2").prepare()


def test_an_app_with_an_engine_of_its_own_takes_no_options_for_another(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [{"model": "m"}, {"engine_options": "threads=2"}]
    for settings in given:
        app = App("Test", engine=scripted("A."), database=str(tmp_path / "a.db"), **settings)
        with pytest.raises(BadSetting, match="brings its own engine"):
            app.prepare()
