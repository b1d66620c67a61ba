"""One table feeds flags, environment, keywords and the README."""

import pytest

from unwritten.core.errors import BadSetting
from unwritten.core.settings import BY_NAME, SETTINGS, Settings


def test_defaults_without_anything() -> None:
    settings = Settings(environment={})
    assert settings.port == 8000
    assert settings.host == "127.0.0.1"
    assert {setting.name: value for setting, value in settings} == {s.name: s.default for s in SETTINGS}


def test_flag_beats_environment_beats_keyword_beats_default() -> None:
    environment = {"UNWRITTEN_PORT": "9001", "UNWRITTEN_GRACE": "5"}
    settings = Settings({"port": 9000, "grace": 1, "queue_limit": 3}, flags={"port": "9002"}, environment=environment)
    assert (settings.port, settings.grace, settings.queue_limit) == (9002, 5.0, 3)


def test_a_flag_that_was_not_given_is_none_and_changes_nothing() -> None:
    assert Settings({"port": 9000}, flags={"port": None}, environment={}).port == 9000


def test_the_real_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNWRITTEN_FRAME_RATE", "12.5")
    assert Settings().frame_rate == 12.5


@pytest.mark.parametrize("word", ["1", "yes", "TRUE", " on "])
def test_words_for_yes(word: str) -> None:
    assert Settings(environment={"UNWRITTEN_DEBUG": word}).debug is True


@pytest.mark.parametrize("word", ["0", "no", "False", "off"])
def test_words_for_no(word: str) -> None:
    assert Settings({"debug": True}, environment={"UNWRITTEN_DEBUG": word}).debug is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "80.5"),
        ("port", True),
        ("port", None),
        ("port", -1),
        ("time_limit", "long"),
        ("time_limit", "nan"),
        ("time_limit", 0),
        ("debug", "perhaps"),
        ("host", 127),
        ("jobs", 0),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it_and_says_what_is_meant(name: str, value: object) -> None:
    with pytest.raises(BadSetting) as caught:
        Settings({name: value}, environment={})
    message = str(caught.value)
    assert repr(name) in message
    assert repr(value) in message
    assert BY_NAME[name].help in message


def test_unknown_names_get_the_nearest_wherever_they_come_from() -> None:
    with pytest.raises(BadSetting, match=r"'prot' is not known to Unwritten. Did you mean 'port'"):
        Settings({"prot": 1}, environment={})
    with pytest.raises(BadSetting, match=r"environment variable UNWRITTEN_ENGIN .*'engine'"):
        Settings(environment={"UNWRITTEN_ENGIN": "auto"})
    with pytest.raises(BadSetting, match=r"flag --frame-rat .*'frame_rate'"):
        Settings(flags={"frame_rat": 1}, environment={})
    with pytest.raises(AttributeError, match=r"no setting 'prot'. Did you mean 'port'"):
        _ = Settings(environment={}).prot


def test_the_variables_of_other_programs_are_nobodys_business() -> None:
    assert Settings(environment={"PORT": "1", "UNWRITTENPORT": "2"}).port == 8000


def test_a_key_is_no_setting_and_no_mistake() -> None:
    settings = Settings(environment={"UNWRITTEN_API_KEY": "sk-1", "UNWRITTEN_MODEL": "m"})
    assert settings.model == "m" and "sk-1" not in {value for _, value in settings}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_row_is_fit_to_be_shown(setting: object) -> None:
    row = next(row for row in SETTINGS if row is setting)
    assert row.name.isidentifier() and row.name.islower()
    assert row.help[0].isupper() and row.help.endswith("."), "one sentence of help"
    assert row.flag == "--" + row.name.replace("_", "-")
    assert row.variable == "UNWRITTEN_" + row.name.upper()
    assert row.read(row.default, "the default") == row.default


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(SETTINGS)
