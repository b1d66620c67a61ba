"""Settings from flags, environment variables and keywords."""

import pytest

from unwritten.core.errors import BadSetting
from unwritten.core.settings import BY_NAME, SETTINGS, Setting, Settings, load_settings


def test_defaults_without_anything() -> None:
    settings = load_settings(environment={})
    assert settings == Settings()
    assert (settings.port, settings.host, settings.model_fields_set) == (8000, "127.0.0.1", set())


def test_flag_overrides_environment_overrides_keyword_overrides_default() -> None:
    environment = {"UNWRITTEN_PORT": "9001", "UNWRITTEN_TIME_LIMIT": "5"}
    keywords = {"port": 9000, "time_limit": 1, "queue_limit": 3}
    settings = load_settings(keywords, flags={"port": "9002"}, environment=environment)
    assert (settings.port, settings.time_limit, settings.queue_limit) == (9002, 5.0, 3)
    assert settings.model_fields_set == {"port", "time_limit", "queue_limit"}


def test_flags_that_are_none_are_ignored() -> None:
    assert load_settings({"port": 9000}, flags={"port": None}, environment={}).port == 9000


def test_the_real_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNWRITTEN_TIME_LIMIT", "12.5")
    assert load_settings().time_limit == 12.5


@pytest.mark.parametrize("word", ["1", "yes", "TRUE", " on "])
def test_words_for_true(word: str) -> None:
    assert load_settings(environment={"UNWRITTEN_DEBUG": word}).debug is True


@pytest.mark.parametrize("word", ["0", "no", "False", "off"])
def test_words_for_false(word: str) -> None:
    assert load_settings({"debug": True}, environment={"UNWRITTEN_DEBUG": word}).debug is False


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "eighty", "it takes a whole number, such as 8000."),
        ("port", "80.5", "it takes a whole number, such as 8000."),
        ("port", True, "it takes a whole number"),
        ("port", None, "it takes a whole number"),
        ("port", -1, "it must be at least 0."),
        ("time_limit", "long", "it takes a number, such as 180.0."),
        ("time_limit", "nan", "it must be at least 1."),
        ("time_limit", 0, "it must be at least 1."),
        ("debug", "perhaps", "it takes yes or no"),
        ("host", 127, "it takes text"),
        ("host", True, "it takes text"),
        ("jobs", 0, "it must be at least 1."),
        ("prefetch", "of", "it must be auto, on or off. Did you mean 'off'?"),
        ("root_path", "/a b", "it must be a path such as /wiki"),
        ("root_path", "wiki", "it must be a path such as /wiki"),
        ("root_path", "//elsewhere", "it must be a path such as /wiki"),
        ("hosts", "https://wiki.example", "it must be names such as wiki.example, without a scheme or a port"),
        ("hosts", "wiki.example:8000", "it must be names such as wiki.example"),
        ("hosts", ",", "it must be names such as wiki.example"),
    ],
)
def test_the_error_for_an_invalid_value_names_valid_ones(name: str, value: object, expected: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({name: value}, environment={})
    message = str(caught.value)
    assert message.startswith(f"The setting {name!r} is {value!r}, but {expected}")
    assert message.endswith(f" ({BY_NAME[name].help})")


@pytest.mark.parametrize(
    "value", ["", "*", "wiki.example", "*.wiki.example, localhost", "127.0.0.1,::1,fe80::1", "a_b"]
)
def test_hosts_are_names_and_addresses(value: str) -> None:
    assert load_settings({"hosts": value}, environment={}).hosts == value


def test_unknown_names_get_a_suggestion_whatever_their_source() -> None:
    with pytest.raises(BadSetting, match=r"'prot' is not known to Unwritten. Did you mean 'port'"):
        load_settings({"prot": 1}, environment={})
    with pytest.raises(BadSetting, match=r"environment variable UNWRITTEN_ENGIN .*'engine'"):
        load_settings(environment={"UNWRITTEN_ENGIN": "auto"})
    with pytest.raises(BadSetting, match=r"flag --time-limt .*'time_limit'"):
        load_settings(flags={"time_limt": 1}, environment={})


def test_an_unknown_keyword_is_reported_although_a_flag_sets_the_same_name() -> None:
    with pytest.raises(BadSetting, match="'prot' is not known"):
        load_settings({"prot": 1}, flags={"port": 1}, environment={})


def test_variables_of_other_programs_are_ignored() -> None:
    assert load_settings(environment={"PORT": "1", "UNWRITTENPORT": "2"}).port == 8000


def test_the_api_key_is_not_a_setting_and_not_an_error() -> None:
    settings = load_settings(environment={"UNWRITTEN_API_KEY": "sk-1", "UNWRITTEN_MODEL": "m"})
    assert settings.model == "m" and "sk-1" not in repr(settings)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_can_be_documented(setting: Setting) -> None:
    assert setting.help[0].isupper() and setting.help.endswith("."), "help is a sentence"
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.variable == "UNWRITTEN_" + setting.name.upper()
    assert getattr(load_settings({setting.name: setting.default}, environment={}), setting.name) == setting.default


def test_the_table_has_minimums_and_choices() -> None:
    assert (BY_NAME["jobs"].minimum, BY_NAME["time_limit"].minimum, BY_NAME["host"].minimum) == (1, 1, None)
    assert BY_NAME["edits"].choices == ("auto", "on", "off") and BY_NAME["jobs"].choices == ()
