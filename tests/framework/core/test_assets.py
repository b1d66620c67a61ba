"""Assets are found in a checkout and in an installed copy; static files have versioned URLs."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from unwritten.core import assets
from unwritten.core.assets import (
    Script,
    VersionedStaticFiles,
    asset_dir,
    htmx_cache,
    htmx_copy,
    htmx_sources,
    integrity_of,
)
from unwritten.core.errors import BadTemplate, UnwrittenError
from unwritten.core.paths import STATIC_PREFIX


def browser(static: VersionedStaticFiles) -> TestClient:
    return TestClient(Starlette(routes=[Mount(STATIC_PREFIX, app=static)]))


@pytest.mark.parametrize("name", ["templates", "static", "demos"])
def test_the_folders_are_found(name: str) -> None:
    assert any(asset_dir(name).iterdir())


def test_an_installed_copy_has_the_assets_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "python3" / "unwritten"
    (package / "templates").mkdir(parents=True)
    monkeypatch.setattr(assets, "_PACKAGE", package)
    assert asset_dir("templates") == package / "templates"


def test_an_installed_copy_ignores_folders_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "python3" / "unwritten"
    package.mkdir(parents=True)
    (tmp_path / "lib" / "templates").mkdir()
    monkeypatch.setattr(assets, "_PACKAGE", package)
    with pytest.raises(UnwrittenError, match=r"has no templates/ folder.*pip install"):
        asset_dir("templates")


def test_a_versioned_url_is_immutable(tmp_path: Path) -> None:
    (tmp_path / "app.css").write_text("body { color: teal }")
    static = VersionedStaticFiles([tmp_path])
    url = static.url("app.css")
    assert url.startswith(f"{STATIC_PREFIX}/app.css?v=")
    answer = browser(static).get(url)
    assert answer.text == "body { color: teal }"
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "?v=0123456789ab", "?v="])
def test_other_versions_are_revalidated(tmp_path: Path, query: str) -> None:
    (tmp_path / "app.css").write_text("body { color: teal }")
    answer = browser(VersionedStaticFiles([tmp_path])).get(f"{STATIC_PREFIX}/app.css{query}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    again = browser(VersionedStaticFiles([tmp_path])).get(
        f"{STATIC_PREFIX}/app.css{query}", headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


def test_the_url_changes_with_the_content(tmp_path: Path) -> None:
    file = tmp_path / "app.css"
    file.write_text("a")
    static = VersionedStaticFiles([tmp_path])
    before = static.url("app.css")
    file.write_text("another")
    assert static.url("app.css") != before


def test_the_apps_files_override_the_frameworks(tmp_path: Path) -> None:
    (tmp_path / "unwritten.css").write_text("/* mine */")
    assert browser(VersionedStaticFiles([tmp_path])).get(f"{STATIC_PREFIX}/unwritten.css").text == "/* mine */"
    assert browser(VersionedStaticFiles()).get(f"{STATIC_PREFIX}/unwritten.css").text != "/* mine */"


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", ".hidden", "folder/.hidden", "", "folder"])
def test_nothing_else_is_served(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "static"
    (folder / "folder").mkdir(parents=True)
    (folder / ".hidden").write_text("secret")
    (folder / "folder" / ".hidden").write_text("secret")
    assert browser(VersionedStaticFiles([folder])).get(f"{STATIC_PREFIX}/{path}").status_code == 404


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("")
    with pytest.raises(BadTemplate, match=r"static\('styles.css'\).*Did you mean 'style.css'\?"):
        VersionedStaticFiles([tmp_path]).url("styles.css")


def test_htmx_comes_from_the_cdn_by_version_and_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = htmx_sources()
    assert [url.rpartition("/")[2] for url, _ in sources] == ["htmx.min.js", "hx-preload.min.js"]
    assert all(url.startswith("https://") and "@4.0.1/" in url for url, _ in sources)
    assert all(integrity.startswith("sha384-") and len(integrity) == 71 for _, integrity in sources)


def test_the_users_copy_is_used_if_its_hash_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = Script("htmx.min.js", "dist/htmx.min.js", integrity_of(b"var htmx"))
    monkeypatch.setattr(assets, "HTMX", (script,))
    static = VersionedStaticFiles()
    htmx_cache().mkdir(parents=True)
    (htmx_cache() / "htmx.min.js").write_bytes(b"var htmx")
    [(url, integrity)] = htmx_sources()
    answer = browser(static).get(url)
    assert answer.content == b"var htmx"
    assert integrity_of(answer.content) == integrity
    assert "immutable" in answer.headers["cache-control"]


def test_a_copy_with_another_content_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    htmx_cache().mkdir(parents=True)
    (htmx_cache() / "htmx.min.js").write_bytes(b"alert('not htmx')")
    (htmx_cache() / "other.js").write_bytes(b"")
    assert all(htmx_copy(script) is None for script in assets.HTMX)
    assert all(url.startswith("https://") for url, _ in htmx_sources())
    for name in ("htmx.min.js", "other.js"):
        assert browser(VersionedStaticFiles()).get(f"{STATIC_PREFIX}/{htmx_cache().name}/{name}").status_code == 404
