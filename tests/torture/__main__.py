"""``python tests/torture``: attack a real server as a hostile model, a hostile visitor and a careless operator.

The long form takes about 35 minutes on two cores. ``--short`` takes up to a minute, and runs with the tests.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
# Python puts a folder that it runs first on the path. The modules are imported from the repository's root instead.
sys.path[:] = [str(ROOT), str(ROOT / "engine"), *(path for path in sys.path if Path(path).resolve() != FOLDER)]

from tests.torture import crowds, faults, fuzzing, model, strangers, vectors  # noqa: E402
from tests.torture.app_server import AppServer, app_server  # noqa: E402
from tests.torture.figures import Figures, missed, print_report, to_json  # noqa: E402
from tests.torture.hostile_server import HostileServer, hostile_server  # noqa: E402
from tests.torture.services import Storage, storages  # noqa: E402

SHARED: dict[str, Callable[..., Figures]] = {
    check.__name__: check
    for check in (
        model.behaviours,
        model.stalls,
        fuzzing.fuzz,
        fuzzing.off_site,
        strangers.protected,
        crowds.live_updates,
        crowds.bad_messages,
        crowds.large_forms,
        crowds.slow_clients,
        crowds.subscribers,
        vectors.vectors,
    )
}
"""Checks of a hostile model and of hostile visitors. In the short form, one server survives all of them."""

FAULTS: dict[str, Callable[..., Figures]] = {
    check.__name__: check
    for check in (
        faults.kills,
        faults.shutdown,
        faults.disks,
        faults.second_process,
        faults.clocks,
        faults.growth,
        faults.engine_away,
    )
}
"""Checks of faults. Each starts its servers itself, on each kind of storage."""

ALONE = ("owner", "services", "processes")

SHORT = {
    "behaviours",
    "stalls",
    "fuzz",
    "off_site",
    "protected",
    "live_updates",
    "bad_messages",
    "slow_clients",
    "owner",
    "kills",
    "growth",
    "vectors",
}
"""What the short form runs, on SQLite only."""


@contextlib.contextmanager
def _server(folder: Path, engine: HostileServer, shared: AppServer | None) -> Iterator[AppServer]:
    """Return the shared server, or start one for a single check."""
    if shared is not None:
        yield shared
        return
    with app_server(folder, engine.url) as server:
        yield server


def run(names: list[str], *, short: bool, storage: Storage, folder: Path) -> Figures:
    """Run checks, and return their figures. A check that fails itself is reported, and has the figure ``broken``."""
    figures: Figures = {"broken": 0}
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(hostile_server())
        shared = None
        if short and any(name in SHARED for name in names):
            (folder / "shared").mkdir()
            shared = stack.enter_context(app_server(folder / "shared", engine.url))
        for name in names:
            begun = time.monotonic()
            print(f"{storage.name}: {name} …", flush=True)
            place = folder / name
            place.mkdir()
            try:
                if name in SHARED:
                    with _server(place, engine, shared) as server:
                        figures |= SHARED[name](server, engine, short=short)
                elif name in FAULTS:
                    figures |= FAULTS[name](place, engine, storage, short=short)
                elif name == "owner":
                    figures |= strangers.owner(place, engine)
                elif name == "processes":
                    from tests.torture.processes import processes

                    flags = () if storage.database is None else ("--database", storage.flags(place)["--database"])
                    figures |= processes(place, short=short, flags=flags, database=storage.database)
                elif name == "services":
                    for kind, service in (("database", storage.database), ("broker", storage.broker)):
                        if service is not None:
                            (place / kind).mkdir()
                            figures |= faults.service_away(place / kind, engine, storage, service, kind, short=short)
            except Exception:
                traceback.print_exc()
                for log in place.glob("*.log"):
                    print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
                figures["broken"] += 1
            print(f"    {time.monotonic() - begun:.1f} s", flush=True)
    return figures


@click.command()
@click.option("--short", is_flag=True, help="The checks that fit into a minute, on SQLite.")
@click.option("--only", default="", help="Names of checks, separated by commas.")
@click.option(
    "--storage", "wanted", type=click.Choice(["sqlite", "postgresql"]), help="Default: both; --short: sqlite."
)
def main(short: bool, only: str, wanted: str | None) -> None:
    """Attack a real server, and print what it endured. The exit status is 1 if a target is missed."""
    chosen = [name.strip() for name in only.split(",") if name.strip()]
    known = [*SHARED, *ALONE, *FAULTS]
    if unknown := set(chosen) - set(known):
        raise click.UsageError(f"Unknown checks: {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
    results: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name, storages(short=short, wanted=wanted) as kinds:
        for storage in kinds:
            on_all = [*FAULTS, "services", "processes"]  # the others do not depend on the storage
            names = [check for check in known if storage is kinds[0] or check in on_all]
            names = [check for check in names if check in chosen or (not chosen and (not short or check in SHORT))]
            folder = Path(name) / storage.name.replace(" ", "-")
            folder.mkdir()
            results[storage.name] = run(names, short=short, storage=storage, folder=folder)
    for storage_name, figures in results.items():
        print_report(storage_name, figures)
    print(to_json(results))
    failed = {storage_name: missed(figures) for storage_name, figures in results.items() if missed(figures)}
    if failed:
        raise click.ClickException("; ".join(f"{name}: {', '.join(found)}" for name, found in failed.items()))


if __name__ == "__main__":
    main(prog_name="python tests/torture")
