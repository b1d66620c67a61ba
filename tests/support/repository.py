"""The files, modules and demos of the repository."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "unwritten": ROOT / "framework" / "unwritten",
    "unwritten_engine": ROOT / "engine" / "unwritten_engine",
}


def tracked() -> list[Path]:
    """Return the files that git tracks or would add. Without git, return all files that are not hidden."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode == 0:
        return sorted(path for name in found.stdout.splitlines() if (path := ROOT / name).is_file())
    hidden = re.compile(r"/(\.[^/]+|__pycache__|build|dist|node_modules)/")
    return sorted(
        path for path in ROOT.rglob("*") if path.is_file() and not hidden.search(f"/{path.relative_to(ROOT)}")
    )


FILES = tracked()

MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


DEMOS = [path.parent for path in sorted((ROOT / "demos").glob("*/app.py"))]
