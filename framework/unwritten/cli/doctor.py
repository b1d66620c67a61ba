"""``unwritten doctor``: what is here, what would be used, and what to type to get something better."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

import click

from unwritten_engine import Engine, EngineError, Prompt, Request, open_engine
from unwritten_engine.text_to_image import open_painter

from .. import __version__
from ..core.assets import HTMX, HTMX_VERSION, asset_dir, htmx_cache, htmx_copy
from ..core.engine_options import engine_options, hidden, painter_options
from ..core.errors import UnwrittenError
from ..core.settings import SECRETS, Settings
from ..formats.registry import supports
from ..security.exposure import Exposure
from ..storage.pages import PageStore
from .demos import all_demos
from .flags import app_options, chosen_app, data_folder, given
from .server import LoadingProgress, model_line, prepare

PACKAGES = (
    "xllamacpp",
    "httpx2",
    "starlette",
    "uvicorn",
    "websockets",
    "jinja2",
    "nh3",
    "sqlite-utils",
    "pydantic",
    "click",
)

IMAGES = ("diffusers", "torch", "transformers", "pillow")
"""What the extra ``images`` brings."""

DIFFUSION = ("torch", "transformers", "bitsandbytes", "pillow")
"""What the extra ``diffusion`` brings. Only asked for their versions: importing torch takes seconds."""

SAMPLE_TOKENS = 48


@click.command("doctor")
@click.option("--engine", metavar="TEXT", help="An engine to look at, instead of the one in force.")
@click.option("--model", metavar="TEXT", help="A model of that engine, instead of the one in force.")
@click.option(
    "--engine-options", "engine_options_", metavar="TEXT", help="Options of that engine, instead of those in force."
)
@click.option("--no-engine", is_flag=True, help="Do not load the model.")
@app_options
@click.pass_context
def command(
    ctx: click.Context,
    engine: str | None,
    model: str | None,
    engine_options_: str | None,
    no_engine: bool,
    target: str | None,
    demo: str | None,
) -> None:
    """Say which versions, engine, memory and files are here and in use, and what to type to get better ones.

    Needs no network. Each line begins with "ok", "note" or "FAULT"; the exit status is 1 if there is a fault.
    """
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("Versions", _versions),
        ("Machine", _machine),
        ("Settings", _settings),
        ("Files", _files),
        ("Pages", _pages),
        ("htmx", _htmx),
    ]
    flags = {"engine": engine, "model": model, "engine_options": engine_options_}
    if not no_engine:
        checks.append(("Engine", lambda: _engine(flags)))
        checks.append(("Pictures", _pictures))
    if target or demo:
        checks.append(("App", lambda: _app(target, demo, given(flags))))
    faults = [title for title, check in checks if not _run(title, check)]
    if faults:
        click.echo(f"\nNot well: {', '.join(faults)}. The lines with FAULT say what to do.")
        ctx.exit(1)
    click.echo("\nAll is well. To see it: unwritten demo wiki --open")


def _run(title: str, check: Callable[[], Iterator[str]]) -> bool:
    """Print what a check finds. A check that breaks is a finding too, never the end of the others."""
    click.echo(click.style(title, bold=True))
    well = True
    try:
        for line in check():
            well = well and not line.startswith("FAULT")
            click.echo(f"  {line}")
    except (UnwrittenError, EngineError) as error:
        click.echo(f"  FAULT {error}")
        well = False
    except Exception as error:
        click.echo(f"  FAULT {type(error).__name__}: {error}")
        click.echo("        If this copy is damaged: pip install --upgrade --force-reinstall unwritten")
        well = False
    return well


def _versions() -> Iterator[str]:
    yield f"ok    unwritten {__version__} on Python {platform.python_version()} ({sys.executable})"
    yield "ok    " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    if any(_version(name) != "missing" for name in DIFFUSION):
        yield "ok    for diffusion: " + ", ".join(f"{name} {_version(name)}" for name in DIFFUSION)
    missing = [name for name in PACKAGES if _version(name) == "missing"]
    if missing:
        yield f"FAULT missing: {', '.join(missing)}. Type: pip install --upgrade --force-reinstall unwritten"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _machine() -> Iterator[str]:
    yield f"ok    {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    total, free = _memory()
    if total:
        yield f"ok    {total / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB of it free"
        if free < 2**30:
            yield "note  less than 1 GiB is free; the embedded model takes about half of that."


def _memory() -> tuple[int, int]:
    """Memory in bytes: all, and what is free; zeros where it cannot be told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 (not a file of ours)
            values = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
        return values["MemTotal"], values["MemAvailable"]
    except (OSError, KeyError, ValueError):
        pass
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0, 0
    return pages * size, pages * size


def _settings() -> Iterator[str]:
    defaults = {setting.name: setting.default for setting, _ in Settings(environment={})}
    changed = [(setting, value) for setting, value in Settings() if value != defaults[setting.name]]
    for setting, value in changed:
        yield f"note  {setting.variable} is set: {hidden(str(value))}"
    if not changed:
        yield "ok    all at their defaults; no UNWRITTEN_* variable is set"
    for name in sorted(SECRETS & os.environ.keys()):
        yield f"note  {name} is set; it is not shown, and goes to the model server that you name"
    yield from _open_web(Settings())


def _open_web(settings: Settings) -> Iterator[str]:
    exposure = Exposure(settings)
    if not exposure.is_public:
        yield "ok    only this machine reaches an app; with --host 0.0.0.0 other machines do, with signed links and budgets"
        return
    if settings.signed_links != "off":
        yield "ok    links are signed: only links that a page offers, or a button, generate pages"
    else:
        yield "note  links are not signed: anyone who guesses an address generates a page. Remove UNWRITTEN_SIGNED_LINKS=off"
    for name in ("visitor_pages", "visitor_seconds", "search_pages", "engine_seconds"):
        limit = getattr(settings, name)
        yield f"ok    {name}: {limit:g} an hour" if limit else f"note  {name} is 0: there is no limit"
    if not settings.trusted_proxies:
        yield "note  behind a proxy all visitors look like one, until UNWRITTEN_TRUSTED_PROXIES names it"


def _files() -> Iterator[str]:
    for name in ("templates", "static", "demos"):
        yield f"ok    {asset_dir(name)}"
    yield f"ok    demos: {', '.join(all_demos())}"


def _pages() -> Iterator[str]:
    found = sorted(data_folder().glob("*.db"))
    for path in found:
        store = PageStore(path)
        try:
            yield f"ok    {path}: {store.count():,} pages, {path.stat().st_size / 2**20:.1f} MiB"
        finally:
            store.close()
    if not found:
        yield f"ok    none yet; the pages of the demos will be kept in {data_folder()}"
    if not os.access(_existing(data_folder()), os.W_OK):
        yield f"FAULT {data_folder()} cannot be written to. Name a database elsewhere: --database FILE"


def _existing(path: os.PathLike[str]) -> str:
    place = os.fspath(path)
    while not os.path.isdir(place):  # noqa: PTH112 (pathlib has no loop that ends at the root)
        place = os.path.dirname(place)  # noqa: PTH120
    return place


def _htmx() -> Iterator[str]:
    copies = [script for script in HTMX if htmx_copy(script)]
    broken = [s for s in HTMX if s not in copies and (htmx_cache() / s.name).is_file()]
    if len(copies) == len(HTMX):
        yield f"ok    {HTMX_VERSION}, your own copy in {htmx_cache()}"
    else:
        yield f"ok    {HTMX_VERSION} from the CDN; pages work without it. To keep a copy: unwritten offline"
    for script in broken:
        yield f"note  {htmx_cache() / script.name} is damaged, and is not used. Type: unwritten offline"


def _engine(flags: Mapping[str, object]) -> Iterator[str]:
    settings = Settings(flags=flags)
    options = engine_options(settings)
    with LoadingProgress() as loading:
        engine = open_engine(str(settings.engine), progress=loading, **options)
    about = engine.about
    yield f"ok    {about.engine}: {model_line(about)}"
    for reason in about.reasons:
        yield f"ok    {reason}"
    if about.memory_bytes:
        yield f"ok    takes {about.memory_bytes / 2**20:,.0f} MiB; a request may use {about.context:,} tokens"
    if about.licence:
        yield f"note  {about.licence}"
    if supports("svg", about, settings):
        yield "ok    is trusted with drawings and programs (app.can)"
    else:
        yield "ok    is not trusted with drawings and programs (app.can): apps show ornaments. To try it: --markup on"
    yield asyncio.run(_try(engine))
    yield (
        "note  for better pages, any GGUF model: unwritten demo wiki --engine FILE.gguf, "
        "or --engine hf:OWNER/REPO/FILE.gguf; or a model server: --engine http://localhost:8000/v1; "
        "or, on a GPU with 18 GB or more, DiffusionGemma: --engine diffusion"
    )


def _pictures() -> Iterator[str]:
    settings = Settings()
    options = painter_options(settings)
    if not settings.painter:
        first = 'pip install "unwritten[images]", then ' if any(_version(name) == "missing" for name in IMAGES) else ""
        yield "ok    ornaments; nobody paints"
        yield (
            f"note  for painted ones: {first}--painter FOLDER or --painter OWNER/REPO, a text-to-image pipeline of "
            "diffusers; to see the mechanics: --painter random"
        )
        return
    with LoadingProgress() as loading:
        painter = open_painter(str(settings.painter), progress=loading, **options)
    begun = time.monotonic()
    painted = painter.paint("A lighthouse on a cliff.", 256, 256, seed=1)
    painter.close()
    yield f"ok    {painter.about.model} on {painter.about.device}"
    yield from (f"note  {reason}" for reason in painter.about.reasons)
    yield f"ok    painted 256 by 256 pixels in {time.monotonic() - begun:.1f} s, in {painted.steps} steps"


def _app(target: str | None, demo: str | None, flags: dict[str, object]) -> Iterator[str]:
    app = chosen_app(target, demo, flags)
    prepare(app)

    async def check() -> str:
        try:
            await app.check()
            return f"ok    {app.name}: {len(app.pages)} declared pages, and {app.engine.about.model} can write them"
        finally:
            await app.close()

    yield asyncio.run(check())


async def _try(engine: Engine) -> str:
    """Write a few words, to see that the engine does; where a canvas is written at once, a whole one."""
    about = engine.about
    tokens = about.canvas_length if about.abilities.drafts else SAMPLE_TOKENS
    request = Request(Prompt("A lighthouse is a tower that"), max_tokens=tokens, seed=1)
    usage = None
    try:
        async for frame in engine.generate(request):
            usage = frame.usage
    finally:
        await engine.close()
    if usage is None:
        raise UnwrittenError("The engine wrote nothing. Reinstall it: pip install --force-reinstall unwritten")
    pace = f"{usage.tokens_per_second:.0f} tokens a second"
    if about.abilities.drafts and usage.steps and usage.seconds > 0:
        pace += f", in {usage.steps} steps of {1000 * usage.seconds / usage.steps:.0f} ms"
    return f"ok    wrote {usage.tokens} tokens in {usage.seconds:.1f} s: {pace}"
