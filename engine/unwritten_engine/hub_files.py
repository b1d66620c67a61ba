"""Download single files from Hugging Face: resumed after an interruption, and checked against the hub's SHA-256.

Only the standard library is used, so that a model by name needs no further package. Files in the cache of the package
huggingface_hub are used where they are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import importlib
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO, Final
from urllib.parse import quote, urljoin, urlsplit

from .downloads import models_folder, unwritable
from .engine import Progress
from .errors import ModelBroken, ModelNotFound

_BLOCK: Final = 1 << 20
_TIMEOUT: Final = 30
_ATTEMPTS: Final = 4
"""Consecutive attempts without data after which a download fails."""
_MOST_REDIRECTS: Final = 5
_PAUSE: Final = 1.0
_POLL: Final = 0.5


class DownloadStopped(KeyboardInterrupt):
    """Ctrl-C during a download. The message says how much is kept, and how to continue."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the hub, as the hub describes it.

    Attributes:
        repo: OWNER/REPO.
        name: its path in the repository.
        url: where its present version is.
        size: in bytes.
        sha256: of its contents, in hexadecimal.
    """

    repo: str
    name: str
    url: str
    size: int
    sha256: str


def hub_endpoint() -> str:
    """Return the address of the hub: ``HF_ENDPOINT``, as huggingface_hub reads it."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"


def local_file(repo: str, name: str) -> Path | None:
    """Return a file that has been downloaded, by this module or by huggingface_hub, or None."""
    own = _target(repo, name)
    if own.is_file():
        return own
    cache = _hub_home() / "hub"
    cache = Path(os.environ.get("HF_HUB_CACHE") or cache).expanduser() / f"models--{repo.replace('/', '--')}"
    try:
        commit = (cache / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    found = cache / "snapshots" / commit / name
    return found if found.is_file() else None


def fetch_hub_file(repo: str, name: str, progress: Progress) -> Path:
    """Return the path of a file of a repository, after downloading it if needed.

    For the first part of a split GGUF model, all parts are downloaded. Two processes that want the same file download
    it once.

    Args:
        repo: OWNER/REPO.
        name: the file's path in the repository.
        progress: called with the share done. Before the download it gets the size and the folder.

    Raises:
        ModelNotFound: the hub does not have it, does not let us have it, or cannot be reached.
        ModelBroken: what arrived is not what the hub says that it is.
        EngineError: the disk is full, or the folder is not writable.
        DownloadStopped: Ctrl-C.
    """
    names = _all_parts(name)
    for number, part in enumerate(names):
        begin, share = number / len(names), 1 / len(names)

        def report(done: float, step: str, begin: float = begin, share: float = share) -> None:
            progress(begin + done * share, step)

        if local_file(repo, part) is None:
            _fetch(find_hub_file(repo, part), report)
    found = local_file(repo, names[0])
    assert found is not None
    return found


def find_hub_file(repo: str, name: str) -> HubFile:
    """Ask the hub for a file's size and SHA-256.

    Raises:
        ModelNotFound: the hub does not have it, does not let us have it, or cannot be reached.
        ModelBroken: the hub does not say what it is.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}:
        raise ModelNotFound(f"{name} of {repo} is not on this machine, and HF_HUB_OFFLINE forbids downloads. Unset it.")
    endpoint = hub_endpoint()
    url = f"{endpoint}/{quote(repo)}/resolve/main/{quote(name)}"
    headers = _head(url, repo, name)
    sha256 = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not size.isdecimal() or not int(size):
        raise ModelBroken(
            f"{endpoint} does not state the size and the SHA-256 of {name} of {repo}, so a download could not be "
            f"checked. Is HF_ENDPOINT right? Or download the file yourself, and give its path."
        )
    commit = headers.get("X-Repo-Commit") or ""
    if re.fullmatch(r"[0-9a-f]{40}", commit):  # the version that was described, even if another is uploaded meanwhile
        url = f"{endpoint}/{quote(repo)}/resolve/{commit}/{quote(name)}"
    return HubFile(repo, name, url, int(size), sha256)


# -- requests ---------------------------------------------------------------------------------------------------------


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the redirect itself has the description of the file."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """See ``HTTPRedirectHandler``."""


def _head(url: str, repo: str, name: str) -> Message:
    """Return the headers of the hub's answer. Redirects on the hub itself are followed: a repository was renamed."""
    opener = urllib.request.build_opener(_NoRedirects)
    for _ in range(_MOST_REDIRECTS):
        try:
            with opener.open(_request(url, "HEAD"), timeout=_TIMEOUT) as answer:
                headers: Message = answer.headers
                return headers
        except urllib.error.HTTPError as error:
            error.close()
            target = urljoin(url, error.headers.get("Location") or "")
            if not 300 <= error.code < 400:
                raise _refused(error, repo, name) from error
            if error.headers.get("X-Linked-Etag") or urlsplit(target).netloc != urlsplit(url).netloc:
                return error.headers
            url = target
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(repo, name, error) from error
    raise ModelNotFound(f"{hub_endpoint()} redirects {name} of {repo} in a circle. Is HF_ENDPOINT right?")


def _request(url: str, method: str = "GET", first: int = 0) -> urllib.request.Request:
    headers = {"User-Agent": "unwritten", "Accept-Encoding": "identity"}
    if first:
        headers["Range"] = f"bytes={first}-"
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - the hub's own address
    token = _token()
    if token and urlsplit(url).netloc == urlsplit(hub_endpoint()).netloc:
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # not for the servers that it redirects to
    return request


def _hub_home() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or default).expanduser()


def _token() -> str:
    """Return the user's token for the hub, from where huggingface_hub keeps it; "" without one."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            token = Path(os.environ.get("HF_TOKEN_PATH") or _hub_home() / "token").read_text(encoding="ascii").strip()
    return token if token.isprintable() else ""


def _refused(error: urllib.error.HTTPError, repo: str, name: str) -> ModelNotFound:
    """Return the exception for an error of the hub. Its message says what to do."""
    code = error.headers.get("X-Error-Code") or ""
    page = f"{hub_endpoint()}/{repo}"
    if code == "EntryNotFound":
        return ModelNotFound(f"The repository {repo} has no file {name}. See its files at {page}/tree/main")
    if code == "GatedRepo" or error.code == 403:
        return ModelNotFound(
            f"{repo} is behind a licence. Accept it at {page}, and set HF_TOKEN to a token of your account (or type: "
            f"hf auth login)."
        )
    if code == "RepoNotFound" or error.code in (401, 404, 410):
        return ModelNotFound(
            f"There is no repository {repo} at {hub_endpoint()}, or it is private ({error.code}). It may have been "
            f"renamed or removed: look for it there. For a private one, set HF_TOKEN."
        )
    return ModelNotFound(
        f"{hub_endpoint()} answers {error.code} {error.reason} for {name} of {repo}. Try again later: the same command "
        f"continues a download."
    )


def _unreachable(repo: str, name: str, error: Exception) -> ModelNotFound:
    reason = getattr(error, "reason", None) or error
    return ModelNotFound(
        f"{name} of {repo} cannot be downloaded from {hub_endpoint()}: {reason}. Check the connection, and type the "
        f"same command again: it continues. Or give a file that is already on this machine. 'embedded' needs no "
        f"network."
    )


# -- the file ---------------------------------------------------------------------------------------------------------


def _target(repo: str, name: str) -> Path:
    return models_folder() / "huggingface" / repo / name


def _all_parts(name: str) -> list[str]:
    """Return the names of all parts of a split GGUF model, given the first."""
    match = re.fullmatch(r"(.+)-00001-of-(\d{5})\.gguf", name)
    if match is None:
        return [name]
    return [f"{match[1]}-{number:05}-of-{match[2]}.gguf" for number in range(1, int(match[2]) + 1)]


def _fetch(file: HubFile, progress: Progress) -> None:
    """Download a file to its place."""
    target = _target(file.repo, file.name)
    # The name has the hash: what remains of another version of the file is not continued.
    part = target.with_name(f".{target.name}.{file.sha256[:16]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.lock"), lambda: _report_other(file, part, progress)):
            if target.is_file():
                return  # another process was faster
            for old in target.parent.glob(f".{target.name}.*.part"):
                if old != part:
                    old.unlink(missing_ok=True)
            _download(file, part, progress)
            part.chmod(0o644)
            part.replace(target)
    except KeyboardInterrupt:
        done = part.stat().st_size if part.exists() else 0
        raise DownloadStopped(
            f"Stopped. {_size(done)} of {_size(file.size)} are kept in {target.parent}: the same command continues."
        ) from None
    except OSError as error:
        raise unwritable(target, file.size, error) from error


def _download(file: HubFile, part: Path, progress: Progress) -> None:
    """Write the file, from where an earlier attempt has ended."""
    message = f"Downloading {Path(file.name).name} from {file.repo}, {_size(file.size)}, to {part.parent}"
    progress(0.0, message)
    with part.open("a+b") as output:
        sha256, done = hashlib.sha256(), 0
        output.seek(0)
        while block := output.read(_BLOCK):
            sha256.update(block)
            done += len(block)
        free = shutil.disk_usage(part.parent).free
        if free < file.size - done:
            full = OSError(errno.ENOSPC, "No space left on device")
            raise unwritable(_target(file.repo, file.name), file.size, full)
        failures = 0
        while done < file.size:
            before = done
            problem: Exception | None = None
            try:
                with urllib.request.urlopen(_request(file.url, first=done), timeout=_TIMEOUT) as answer:  # noqa: S310
                    if done and answer.status != 206:  # the server sends all of it
                        output.truncate(0)
                        sha256, done, before = hashlib.sha256(), 0, 0
                    _check_range(answer.headers, file, done)
                    while block := answer.read(_BLOCK):
                        done += len(block)
                        if done > file.size:
                            output.truncate(0)
                            raise _misreported(file, f"more than {file.size:,} bytes")
                        _write(output, block)
                        sha256.update(block)
                        progress(done / file.size, message)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in (408, 429):
                    raise _refused(error, file.repo, file.name) from error
                problem = error
            except _WriteFailed:
                raise
            except (OSError, http.client.HTTPException) as error:
                problem = error
            if done < file.size:
                failures = failures + 1 if done == before else 0
                if failures >= _ATTEMPTS:
                    cut = ConnectionError(f"the connection ended after {done:,} of {file.size:,} bytes")
                    raise _unreachable(file.repo, file.name, problem or cut) from problem
                time.sleep(_PAUSE * (1 + failures))
        output.flush()
        os.fsync(output.fileno())
    if sha256.hexdigest() != file.sha256:
        part.unlink()
        raise ModelBroken(
            f"{file.name} of {file.repo} arrived damaged: its SHA-256 is {sha256.hexdigest()}, and the hub says "
            f"{file.sha256}. It was deleted. Try again, and if that happens once more, do not use this file."
        )
    progress(1.0, message)


def _check_range(headers: Message, file: HubFile, first: int) -> None:
    """Check that the server sends the rest of the file from this position.

    Raises:
        ModelBroken: it sends something else, or a file of another size than the hub says.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range") or "")
    if first and (found is None or int(found[1]) != first):
        raise ModelBroken(f"The server of {file.name} did not continue at byte {first:,}. Try again later.")
    length = headers.get("Content-Length") or ""
    total = int(found[2]) if found else int(length) if length.isdecimal() else file.size
    if total != file.size:
        raise _misreported(file, f"{total:,} bytes")


def _misreported(file: HubFile, sent: str) -> ModelBroken:
    return ModelBroken(
        f"The hub says that {file.name} of {file.repo} has {file.size:,} bytes, but its server sends {sent}. "
        f"Try again later, or give a file that is already on this machine."
    )


def _write(output: BinaryIO, block: bytes) -> None:
    try:
        output.write(block)
        output.flush()
    except OSError as error:  # unlike errors of the network, it is not tried again
        raise _WriteFailed(error.errno, error.strerror) from error


class _WriteFailed(OSError):
    """The disk could not be written to."""


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


# -- two processes ----------------------------------------------------------------------------------------------------


def _report_other(file: HubFile, part: Path, progress: Progress) -> None:
    with contextlib.suppress(OSError):
        progress(min(part.stat().st_size / file.size, 1.0), f"Another process downloads {file.name}; waiting for it")


@contextlib.contextmanager
def _locked(path: Path, waiting: Any) -> Iterator[None]:
    """Hold a lock that only one process can hold. The system releases it if the process ends."""
    with path.open("a+b") as file:
        while not _try_lock(file):
            waiting()
            time.sleep(_POLL)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt: Any = importlib.import_module("msvcrt")
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl: Any = importlib.import_module("fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except PermissionError:  # how Windows says that it is locked
        return False
    except OSError:
        return True  # a file system without locks
    return True
