"""Settings: one typed model that feeds the command line, the environment, the documentation and a test.

Every setting has a flag (``--queue-limit``), an environment variable (``UNWRITTEN_QUEUE_LIMIT``) and a keyword of
``App`` (``queue_limit=``). A flag overrides the environment, which overrides the keyword, which overrides the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from unwritten_engine.errors import suggestion

from .errors import BadSetting

Switch: TypeAlias = Literal["auto", "on", "off"]

PREFIX = "UNWRITTEN_"
"""What the names of environment variables begin with."""

OWNER_VARIABLE = "UNWRITTEN_OWNER_TOKEN"
"""The environment variable with the owner's token. Without it each start of a server makes a new one."""

SECRETS = frozenset(
    {"UNWRITTEN_API_KEY", "UNWRITTEN_DRAFTS", "UNWRITTEN_DRAFTS_KEY", "UNWRITTEN_ENGINE_TOKEN", OWNER_VARIABLE}
)
"""Environment variables that are not settings, and are never displayed."""

_HOST = r"(\*|(\*\.)?[\w-]+(\.[\w-]+)*|[\da-fA-F]*:[\da-fA-F:.]*:[\da-fA-F:.]*)"
"""A host name or an address. A port or a scheme would match no request."""

_FORMS = MappingProxyType(
    {
        "root_path": "must be a path such as /wiki, of letters, digits and the characters . _ ~ @ -.",
        "hosts": "must be names such as wiki.example, without a scheme or a port, separated by commas.",
    }
)
"""What the settings with a pattern must be, for error messages."""


class Settings(BaseModel):
    """The settings of one app. ``load_settings`` reads them from their sources.

    Raises:
        ValidationError: For an unknown name or an invalid value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = Field(
        default="auto",
        description="Engine: auto, embedded, a name that `unwritten models` lists, vllm, diffusion, a .gguf file, a "
        "recorded .tape, hf:OWNER/REPO/FILE.gguf, or the URL of a model server or an engine server (ws://HOST:PORT).",
    )
    model: str = Field(
        default="",
        description="The engine's model: a name on its server, or a folder or OWNER/REPO for vllm and diffusion.",
    )
    engine_options: str = Field(
        default="", description="Options of the engine, such as `quantize=nf4 threads=2`; its README lists them."
    )
    painter: str = Field(
        default="",
        description="Text-to-image model for `picture(…)`: a folder with a diffusers pipeline, OWNER/REPO, or `random` "
        "for noise. Empty: ornaments.",
    )
    painter_options: str = Field(
        default="", description="Options of the painter: steps, guidance, size, device, dtype."
    )
    database: str = Field(
        default="",
        description="Where pages and tables are stored: a SQLite file, or postgresql://USER@HOST/NAME. Empty: "
        "NAME-OF-THE-APP.db in this folder.",
    )
    read_only: bool = Field(
        default=False, description="Serve stored pages and write nothing: no new pages, actions or edits."
    )
    broker: str = Field(
        default="",
        description="Redis or Valkey that connects several processes of one app: redis://HOST:PORT, rediss:// or "
        "unix://. Empty: one process.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 accepts other machines.")
    port: int = Field(default=8000, ge=0, description="Port to listen on; 0 for any free port.")
    root_path: str = Field(
        default="",
        pattern=r"^(/[\w.~@-]+)*/?$",
        description="Path prefix that a proxy removes before it forwards a request, such as /wiki.",
    )
    hosts: str = Field(
        default="",
        pattern=rf"^({_HOST}(\s*,\s*{_HOST})*)?$",
        description="Host names that the app responds to, separated by commas; `*` for any. Empty: this machine's own "
        "names on a loopback address, any name otherwise.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Proxies whose X-Forwarded-For, -Proto and -Host headers are used: addresses or networks, "
        "separated by commas.",
    )
    jobs: int = Field(default=4, ge=1, description="Pages that are generated at the same time.")
    queue_limit: int = Field(
        default=64, ge=0, description="Pages that may wait to be generated; beyond that, visitors get 503."
    )
    time_limit: float = Field(default=180.0, ge=1, description="Seconds until the generation of a page is cancelled.")
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        description="Seconds for which a stopping server finishes pages. The rest is continued after the next start.",
    )
    prefetch: Switch = Field(
        default="auto",
        description="Generate likely next pages before they are clicked: on, off, or auto: on unless the engine "
        "charges for tokens.",
    )
    memory_tokens: int = Field(
        default=200, ge=0, description="Tokens of each prompt for what earlier pages say about its subject; 0 for none."
    )
    markup: Switch = Field(
        default="auto",
        description="Report drawings and programs as supported (`app.supports`): on, off, or auto: as the engine says.",
    )
    gists: Switch = Field(
        default="auto",
        description="Ask the model for a gist with each link, a hidden sentence about the linked page, for the prompt "
        "of that page: on, off, or auto: if the engine is good at following instructions and shows no drafts.",
    )
    signed_links: Switch = Field(
        default="auto",
        description="Generate pages only for links that a page displayed: on, off, or auto: on for everyone but the "
        "owner of an app on a loopback address.",
    )
    edits: Switch = Field(
        default="auto",
        description="Let visitors edit pages: on, off, or auto: only the owner of an app on a loopback address.",
    )
    visitor_pages: int = Field(
        default=240,
        ge=0,
        description="Pages that one visitor may generate in an hour; 0 for no limit. For the owner of an app on a "
        "loopback address the limit applies only if it is set explicitly.",
    )
    visitor_seconds: float = Field(
        default=1800.0,
        ge=0,
        description="Seconds of generation that one visitor may cause in an hour; the rules of visitor_pages apply.",
    )
    engine_seconds: float = Field(
        default=7200.0,
        ge=0,
        description="Seconds of generation in an hour for all visitors together; the rules of visitor_pages apply.",
    )
    upload_limit: float = Field(
        default=10.0,
        ge=0,
        description="Megabytes that the files of one form may have together; 0 accepts no files.",
    )
    metrics: bool = Field(default=False, description="Serve /metrics to every client, not only to the owner.")
    debug: bool = Field(
        default=False, description="Show tracebacks and developer tools to every browser. Not for the open web."
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as the command line and the documentation need it.

    Attributes:
        name: The keyword of ``App``.
        default: The default value.
        help: One sentence, with the unit.
        minimum: The smallest number allowed.
        choices: The only values allowed. Empty: any.
    """

    name: str
    default: str | int | float | bool
    help: str
    minimum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")


def _setting(name: str, field: FieldInfo) -> Setting:
    minimum = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    choices = get_args(field.annotation)
    return Setting(name, field.default, field.description or "", minimum, choices)


SETTINGS: tuple[Setting, ...] = tuple(_setting(name, field) for name, field in Settings.model_fields.items())
"""All settings, in the order of the documentation."""

BY_NAME: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in SETTINGS})
"""All settings by name."""


def load_settings(
    keywords: Mapping[str, object] | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings from their sources. ``model_fields_set`` of the result names those that were set.

    Args:
        keywords: From the author, ``App(port=9000)``.
        flags: From the command line. Flags whose value is None are ignored.
        environment: Where ``UNWRITTEN_*`` is looked up. None: ``os.environ``.

    Raises:
        BadSetting: For an unknown name or an invalid value. The message names the source.
    """
    variables = os.environ if environment is None else environment
    given: dict[str, tuple[object, Callable[[str], str]]] = {}
    for name, value in (keywords or {}).items():
        given[name] = value, _keyword
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable not in SECRETS:
            given[variable.removeprefix(PREFIX).lower()] = text.strip(), _variable
    for name, value in (flags or {}).items():
        if value is not None:
            given[name] = value, _flag
    for name, (value, source) in given.items():
        if name not in BY_NAME:
            raise BadSetting(f"The {source(name)} is not known to Unwritten.{suggestion(name, BY_NAME)}")
        if isinstance(value, bool) and not isinstance(BY_NAME[name].default, bool):
            raise BadSetting(_problem(BY_NAME[name], value, source(name)))
    try:
        values: dict[str, Any] = {name: value for name, (value, _) in given.items()}
        return Settings(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        value, source = given[name]
        raise BadSetting(_problem(BY_NAME[name], value, source(name), str(error.errors()[0]["type"]))) from None


def _keyword(name: str) -> str:
    return f"setting {name!r}"


def _variable(name: str) -> str:
    return f"environment variable {PREFIX}{name.upper()}"


def _flag(name: str) -> str:
    return f"flag --{name.replace('_', '-')}"


_KINDS = {bool: "yes or no", str: "text", int: "a whole number", float: "a number"}


def _problem(setting: Setting, value: object, source: str, error: str = "") -> str:
    """Describe an invalid value. ``error`` is the type of pydantic's error."""
    if setting.choices:
        expected = f"must be {', '.join(setting.choices[:-1])} or {setting.choices[-1]}"
        expected += f".{suggestion(str(value), setting.choices)}"
    elif error == "greater_than_equal":
        expected = f"must be at least {setting.minimum:g}."
    elif error == "string_pattern_mismatch":
        expected = _FORMS[setting.name]
    else:
        expected = f"takes {_KINDS[type(setting.default)]}, such as {setting.default!r}."
    return f"The {source} is {value!r}, but it {expected} ({setting.help})"
