"""`vector-backup adopt`: the older system's files become backup sets, or are refused by line."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.file_names import (
    ADOPT_MARKER,
    LOG_NAME,
    manifest_name,
    marker_name,
    tombstone_name,
)
from vector_backup_pipeline.engine.manifest import Manifest, read_manifest
from vector_backup_pipeline.engine.stored_files import check_rows
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter, find_set
from vector_backup_pipeline_tests.fix_terminal import Terminal

FIRST, SECOND = "20240102_030405", "20240103_030405"
# What the older system wrote: NULL as nothing, and JSON as Python's repr.
FILES = {
    COLLECTION: b"uuid,name,cmetadata\r\nu1,one,\"{'id': 'x', 'createdat': None}\"\r\nu2,two,\r\n",
    EMBEDDING: b'uuid,document,cmetadata\r\n1,"a\r\n""b""",[True]\r\n2,,"{""json"": null}"\r\n',
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(f"{PREFIX}ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def sets(root: Path) -> SetWriter:
    return SetWriter(root / "vector_bak")


def _pair(sets: SetWriter, stamp: str = FIRST, line_end: bytes = b"\r\n") -> None:
    for table, data in FILES.items():
        sets.file(f"{table}_{stamp}.csv", data.replace(b"\r\n", line_end))


def _manifest(sets: SetWriter, stamp: str = FIRST) -> Manifest:
    name = manifest_name(stamp)
    return read_manifest((sets.path / name).read_bytes(), name)


def _names(sets: SetWriter) -> list[str]:
    return sets.directory.names()


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_readable_pair_becomes_a_set(
    terminal: Terminal, sets: SetWriter, line_end: bytes
) -> None:
    _pair(sets, line_end=line_end)

    done = terminal("adopt", "--timestamp", FIRST, "--json")

    assert done.code == 0, done.out
    assert done.document["adopt_performed"] is True
    (pair,) = done.document["pairs"]
    assert (pair["state"], pair["tables"][COLLECTION]["rows"]) == ("adopted", 2)
    manifest = _manifest(sets)
    assert (manifest.origin, manifest.complete) == ("older_system", True)
    for table in manifest.tables:
        data = FILES[table.table].replace(b"\r\n", line_end)
        assert table.file is not None
        assert (table.file.rows, table.file.bytes) == (2, len(data))
        assert table.file.sha256 == hashlib.sha256(data).hexdigest()
        assert ",".join(table.columns).encode() == data.partition(line_end)[0]
        check_rows(sets.directory, table.file)
        path = sets.path / table.file.name
        path.write_bytes(data.replace(b"u1", b"u9").replace(b"[True]", b"[None]"))
        with pytest.raises(IntegrityError, match="SHA-256"):
            check_rows(sets.directory, table.file)
    assert find_set(sets.directory, "latest").stamp == FIRST
    assert f"✓ {FIRST}" in (sets.path / LOG_NAME).read_text()
    listed = terminal("list", "--json").document["backup_locations"][0]
    assert listed["backups"][0]["source_database"] == "older_system"
    assert listed["other_files"] == []


def test_each_unreadable_row_is_named_and_the_other_pairs_are_adopted(
    terminal: Terminal, sets: SetWriter
) -> None:
    _pair(sets)
    _pair(sets, SECOND)
    rows = b"".join(b"u%d,n,{'a': \n" % number for number in range(50)) + b"short\r\n"
    sets.file(f"{COLLECTION}_{FIRST}.csv", b"uuid,name,cmetadata\r\n" + rows)

    done = terminal("adopt", "--all", "--json")

    assert (done.code, done.document["error_type"]) == (1, "INTEGRITY_ERROR")
    bad, good = done.document["data"]["pairs"]
    assert (bad["state"], good["state"]) == ("not_adopted", "adopted")
    unreadable = bad["tables"][COLLECTION]["unreadable_rows"]
    assert [row["line"] for row in unreadable] == list(range(2, 53))
    assert "column cmetadata has no JSON" in unreadable[0]["reason"]
    assert "1 values where the header has 3 columns" in unreadable[-1]["reason"]
    assert bad["tables"][EMBEDDING]["success"] is True
    assert manifest_name(FIRST) not in _names(sets)
    assert manifest_name(SECOND) in _names(sets)
    shown = terminal("adopt", "--timestamp", FIRST)
    assert shown.code == 1
    assert "    line 52: 1 values" in shown.out


def test_a_dry_run_reads_and_writes_nothing(terminal: Terminal, sets: SetWriter) -> None:
    _pair(sets)
    before = _names(sets)

    done = terminal("adopt", "--all", "--dry-run")

    assert done.code == 0
    assert f"✓ {FIRST} in {sets.path}: adoptable" in done.out
    assert f"2 rows in {EMBEDDING}_{FIRST}.csv" in done.out
    assert _names(sets) == before


def test_pairs_of_tasks_are_adopted_too_or_alone(
    terminal: Terminal, root: Path, sets: SetWriter
) -> None:
    task = SetWriter(root / "corpus_7" / "vector_bak")
    _pair(sets)
    _pair(task)

    assert terminal("adopt", "--all", "--task-id", "corpus_7").code == 0
    assert _manifest(task).task_id == "corpus_7"
    assert manifest_name(FIRST) not in _names(sets)
    assert terminal("adopt", "--all").code == 0
    assert _manifest(sets).task_id is None


@pytest.mark.parametrize(
    "names",
    [
        [],
        [f"{EMBEDDING}_{FIRST}.csv"],
        [f"{t}_{FIRST}.csv.gz" for t in FILES],
        [*(f"{t}_{FIRST}.csv" for t in FILES), tombstone_name(FIRST)],
        [*(f"{t}_{FIRST}.csv" for t in FILES), marker_name(FIRST)],
        [manifest_name(FIRST)],
    ],
    ids=["nothing", "one file", "compressed", "being removed", "of a run", "a set"],
)
def test_what_is_no_adoptable_pair_is_not_found(
    terminal: Terminal, sets: SetWriter, names: list[str]
) -> None:
    sets.file("notes.txt")
    for name in names:
        sets.file(name, b"{}")

    done = terminal("adopt", "--timestamp", FIRST, "--json")

    assert (done.code, done.document["error_type"]) == (1, "RESOURCE_NOT_FOUND")
    assert _names(sets) == sorted([*names, "notes.txt"])


def test_what_a_killed_adoption_left_does_not_stop_the_next(
    terminal: Terminal, sets: SetWriter
) -> None:
    _pair(sets)
    sets.file(f"{manifest_name(FIRST)}.tmp", b"{")

    assert terminal("adopt", "--all").code == 0
    assert not [name for name in _names(sets) if name.endswith((".tmp", ".run"))]
    again = terminal("adopt", "--all")
    assert (again.code, "Nothing to adopt" in again.out) == (0, True)


def test_two_adoptions_at_once_are_refused(terminal: Terminal, sets: SetWriter) -> None:
    _pair(sets)
    claim = sets.directory.claim(ADOPT_MARKER, "r")
    assert claim is not None
    try:
        done = terminal("adopt", "--all", "--json")
    finally:
        claim.release()

    assert done.document["error_type"] == "LOCK_TIMEOUT"
    assert manifest_name(FIRST) not in _names(sets)


def test_an_adopted_manifest_is_signed(
    terminal: Terminal, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}MANIFEST_KEY", "k" * 40)
    _pair(sets)

    assert terminal("adopt", "--all").code == 0
    assert _manifest(sets).signature is not None
    listed: dict[str, Any] = terminal("list", "--json").document["backup_locations"][0]
    assert listed["backups"][0]["complete"] is True
