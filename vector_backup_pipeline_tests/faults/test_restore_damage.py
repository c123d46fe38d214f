"""Damaged files and manifests are detected, and the target is unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.file_names import manifest_name
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup
from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    kept_from_locking,
    no_target,
)


@pytest.fixture
def made(langchain: Database, backup: BackupMaker) -> FinishedBackup:
    """A backup of LangChain's tables; the tables lost a row since."""
    made = backup(langchain.url)
    assert made.error is None
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id = 'doc-58'")
    return made


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = path.read_bytes()
    changed = change(data)
    assert changed != data
    path.write_bytes(changed)


def _flip_one_bit(data: bytes) -> bytes:
    at = data.index(b"document 7")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut to whole rows": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "one bit flipped": _flip_one_bit,
    "something added": lambda data: data + b"\n",
}


@pytest.mark.parametrize("damage", list(_DAMAGES))
def test_a_damaged_file_is_detected_before_connecting(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker, damage: str
) -> None:
    _change(made.path(EMBEDDINGS), _DAMAGES[damage])
    run = restore.run(**TRUNCATING)

    with pytest.raises(IntegrityError, match="is damaged"):
        run.find(no_target)
    result = run.close()

    assert str(made.path(EMBEDDINGS)) in result.errors[0]
    assert not result.restore_performed
    log = (made.directory / "vector_backup_log.txt").read_text()
    assert f"restore {made.stamp}: FAILED (INTEGRITY_ERROR)" in log
    assert "Target: (not reached)" in log


def test_a_damaged_table_does_not_matter_for_others(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker
) -> None:
    _change(made.path(COLLECTIONS), _DAMAGES["something added"])

    restore.succeeds(langchain, tables=(EMBEDDINGS,), **TRUNCATING)

    assert count(langchain) == 58


_LATER_DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "one bit flipped": (_flip_one_bit, "INTEGRITY_ERROR", "content digest"),
    "cut to whole rows": (
        _DAMAGES["cut to whole rows"],
        "INTEGRITY_ERROR",
        "holds 57 rows of the backup, not 58",
    ),
    "cut": (lambda data: data[:-7], "DATABASE_ERROR", "COPY langchain_pg_embedding, line 58"),
    "no UTF-8 any more": (
        lambda data: data.replace(b"document 9", b"document \xff"),
        "DATABASE_ERROR",
        "invalid byte sequence",
    ),
}


@pytest.mark.parametrize("damage", list(_LATER_DAMAGES))
def test_damage_after_the_check_is_detected_in_the_target(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker, damage: str
) -> None:
    change, error_type, words = _LATER_DAMAGES[damage]
    restore.between["load"] = lambda: _change(made.path(EMBEDDINGS), change)

    restore.fails(langchain, error_type, words, **TRUNCATING)


@pytest.mark.parametrize(
    ("on_conflict", "words"),
    [
        ("fail", "content digest"),
        ("skip", "changed while it was being loaded"),
        ("replace", "changed while it was being loaded"),
    ],
)
def test_a_bit_that_flips_after_the_check_is_detected_among_other_rows(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker, on_conflict: str, words: str
) -> None:
    langchain.run("UPDATE langchain_pg_embedding SET id = 'other ' || id")
    restore.between["load"] = lambda: _change(made.path(EMBEDDINGS), _flip_one_bit)
    chosen: dict[str, Any] = {"tables": (EMBEDDINGS,), "on_conflict": on_conflict}

    restore.fails(langchain, "INTEGRITY_ERROR", words, **chosen)


def _manifest_path(made: FinishedBackup) -> Path:
    assert made.stamp is not None
    return made.directory / manifest_name(made.stamp)


def _rewrite(made: FinishedBackup, **changes: Any) -> None:
    """A manifest with a changed entry for the embeddings' file, and a valid checksum."""
    manifest = made.manifest
    tables = [
        _changed(table, changes) if table.table == EMBEDDINGS else table
        for table in manifest.tables
    ]
    path = _manifest_path(made)
    path.write_bytes(Manifest.to_json(manifest.model_copy(update={"tables": tables})))


def _changed(table: TableBackup, changes: dict[str, Any]) -> TableBackup:
    assert table.file is not None
    return table.model_copy(update={"file": table.file.model_copy(update=changes)})


def test_a_manifest_with_another_digest_is_detected_in_the_target(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker
) -> None:
    digest = made.file(EMBEDDINGS).digest
    assert digest.value is not None
    value = f"{(int(digest.value, 16) + 1) % 2**128:032x}"
    _rewrite(made, digest=digest.model_copy(update={"value": value}))

    restore.fails(langchain, "INTEGRITY_ERROR", "content digest", value, **TRUNCATING)


def test_a_manifest_that_contradicts_the_file_is_refused(
    made: FinishedBackup, restore: RestoreMaker
) -> None:
    whole, size = _manifest_path(made).read_bytes(), made.file(EMBEDDINGS).bytes
    entries: dict[str, Any] = {"rows": 57, "bytes": size + 1, "sha256": "0" * 64, "blocks": []}
    for name, value in entries.items():
        _manifest_path(made).write_bytes(whole)
        _rewrite(made, **{name: value})

        with pytest.raises(IntegrityError, match=r"contradicts itself|is damaged"):
            restore.run().find(no_target)


def test_a_manifest_that_swaps_columns_is_refused(
    langchain: Database, made: FinishedBackup, restore: RestoreMaker
) -> None:
    """Both have the same type, and the digest uses the manifest's order."""
    digest = made.file(EMBEDDINGS).digest
    swapped = {"id": "document", "document": "id"}
    columns = [swapped.get(column, column) for column in digest.columns]
    _rewrite(made, digest=digest.model_copy(update={"columns": columns}))

    with kept_from_locking(langchain, EMBEDDINGS):
        restore.fails(langchain, "INTEGRITY_ERROR", "header", **TRUNCATING)
