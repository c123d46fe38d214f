"""Encrypted sets: readable with age and an identity alone, and like any other set with both."""

from __future__ import annotations

import shutil
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrage import decrypt, x25519

from vector_backup_pipeline.engine.cancellation import listening
from vector_backup_pipeline.engine.encryption import Encryption, read_identities, start_encrypting
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, StorageError
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.incremental.chain import Part
from vector_backup_pipeline.engine.incremental.consolidate import consolidate
from vector_backup_pipeline.engine.incremental.diff import find_pair
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore.load import _blocks
from vector_backup_pipeline.engine.results import FailedTable
from vector_backup_pipeline.engine.storage.local_store import LocalUpload
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline.parameters.types import COMPRESSIONS, FORMATS
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_chains import make_chain
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    no_target,
    rows_of,
)
from vector_backup_pipeline_tests.fix_verify import verify_root

VARIABLE = "VECTOR_BACKUP_IDENTITY_FILE"
SECRET = "nobody may read this"
TABLE = """
    CREATE TABLE docs (id text PRIMARY KEY, body text, embedding vector(2));
    INSERT INTO docs SELECT 'nobody may read this ' || i, repeat('nobody may read this', i % 9),
        '[1,2]' FROM generate_series(1, 300) i;
"""
DOCS: dict[str, Any] = {"tables": ("docs",), "truncate_tables": ()}


def identity(path: Path) -> tuple[str, str]:
    """A new identity in a file; its recipient and the path."""
    own = x25519.Identity.generate()
    path.write_text(f"# created: today\n# public key: {own.to_public()}\n{own}\n")
    return str(own.to_public()), str(path)


@pytest.fixture
def both(tmp_path: Path) -> Encryption:
    """What one needs to encrypt and to decrypt."""
    recipient, path = identity(tmp_path / "identity.txt")
    return Encryption((recipient,), path)


@pytest.fixture
def docs(database: Database) -> Database:
    database.run(TABLE)
    return database


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert "vector-backup-age" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of few rows, and many blocks."""
    for name, size in {"BLOCK_BYTES": 2000, "INDEX_BYTES": 4000}.items():
        monkeypatch.setattr(f"vector_backup_pipeline.engine.formats.blocks.{name}", size)


def succeeded(made: FinishedBackup) -> FinishedBackup:
    assert made.error is None, made.error
    return made


def stored_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != LOG_NAME}


_FORMS = [(form, compression) for form in FORMATS for compression in COMPRESSIONS]


@pytest.mark.usefixtures("small_blocks", "in_staging")
@pytest.mark.parametrize(
    ("storage", "forms"), [("disk", _FORMS), ("object storage", [("csv", "zstd")])]
)
def test_every_form_is_restored(
    docs: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    both: Encryption,
    storage: str,
    forms: list[tuple[str, str]],
    request: pytest.FixtureRequest,
) -> None:
    rows = rows_of(docs)
    backup.encryption, restore.encryption = Encryption(both.recipients), both
    if storage == "object storage":
        bucket: Bucket = request.getfixturevalue("bucket")
        backup.url = restore.url = bucket.url
    for form, compression in forms:
        done = succeeded(backup(docs.url, format=form, compression=compression, **DOCS))
        docs.run("DROP TABLE docs")

        restored = restore.succeeds(docs, timestamp=done.stamp, workers=3).restored("docs")

        assert rows_of(docs) == rows
        assert restored.digest_matches is True
        assert restored.source_file.endswith(".age")


def test_age_decrypts_the_file_that_it_would_have_been(
    docs: Database, backup: BackupMaker, both: Encryption
) -> None:
    options: dict[str, Any] = {"compression": "zstd", "workers": 1, **DOCS}
    plain = succeeded(backup(docs.url, **options))
    backup.encryption = Encryption(both.recipients)

    made = succeeded(backup(docs.url, **options))

    assert made.file("docs").name == f"docs_{made.stamp}.csv.zst.age"
    expected, encrypted = plain.path("docs").read_bytes(), made.path("docs").read_bytes()
    assert decrypt(encrypted, read_identities(both.identity_file or "")) == expected
    file = made.file("docs")
    assert (file.encryption, file.plain_bytes, file.bytes) == ("age", len(expected), len(encrypted))
    assert file.blocks == plain.file("docs").blocks
    if age := shutil.which("age"):
        command = [age, "-d", "-i", str(both.identity_file), str(made.path("docs"))]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert done.stdout == expected


@pytest.mark.usefixtures("small_blocks")
def test_connections_that_share_a_file_can_load_its_blocks_in_any_order(
    docs: Database, backup: BackupMaker, both: Encryption
) -> None:
    backup.encryption = both
    made = succeeded(backup(docs.url, **DOCS))
    file, root = made.file("docs"), BackupRoot(str(backup.root), "vector_bak", encryption=both)

    loaded = list(_blocks(root.open(None), [Part(file, file.rows)]))

    assert [block for _, block, _ in loaded] == file.blocks
    rows = b"".join(chunk for _, _, chunks in loaded for chunk in chunks or ())
    whole = decrypt(made.path("docs").read_bytes(), read_identities(both.identity_file or ""))
    assert rows == whole[file.blocks[0].offset :]
    assert len(loaded) > 3


def test_no_row_is_stored_as_it_is(docs: Database, backup: BackupMaker, both: Encryption) -> None:
    plain = succeeded(backup(docs.url, mode="auto", **DOCS))
    assert SECRET.encode() in plain.path("docs").read_bytes()
    shutil.rmtree(plain.directory)
    backup.encryption = Encryption(both.recipients)

    made = succeeded(backup(docs.url, mode="auto", **DOCS))

    stored = stored_in(made.directory)
    assert sorted(name.partition(made.stamp or "")[2] for name in stored) == [
        ".csv.age",
        ".json",
        ".keys.parquet.age",
    ]
    assert not [name for name, data in stored.items() if SECRET.encode() in data]
    assert SECRET not in (made.directory / LOG_NAME).read_text()


@pytest.mark.usefixtures("small_blocks")
def test_a_chain_is_restored_verified_compared_and_consolidated(
    database: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption
) -> None:
    backup.encryption = restore.encryption = both
    chain = make_chain(database, backup, compression="zstd")
    for number in (1, 3):
        restore.succeeds(database, timestamp=chain.stamps[number], **TRUNCATING)
        assert rows_of(database) == chain.rows[number]
    database.run("DELETE FROM docs WHERE id % 7 = 0")
    restore.succeeds(database, on_conflict="skip")
    assert rows_of(database) == chain.rows[-1]
    assert verify_root(backup.root, encryption=both).verified
    root = BackupRoot(str(backup.root), "vector_bak", encryption=both)
    pair = find_pair(root.open(None), chain.stamps[0], chain.stamps[-1])
    assert pair.difference().tables["public.docs"].added > 0

    stamp = consolidate(ConsolidateParameters(), root, run_id="c").set_timestamp

    restore.succeeds(database, timestamp=stamp, **TRUNCATING)
    assert rows_of(database) == chain.rows[-1]
    names = [name for name in root.open(None).names() if f"_{stamp}." in name]
    assert sorted(name.partition(str(stamp))[2] for name in names if "docs" in name) == [
        ".csv.zst.age",
        ".keys.parquet.age",
    ]


def test_a_backup_and_a_truncate_need_no_identity(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption
) -> None:
    before = rows_of(langchain)
    backup.encryption, restore.encryption = Encryption(both.recipients), both

    made = succeeded(backup(langchain.url, truncate_vector_tables=True))

    assert made.result.truncate_performed
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 0
    (name,) = langchain.ask("SELECT name FROM langchain_pg_collection LIMIT 1")[0]
    restore.succeeds(langchain, collections=(name,), on_conflict="skip")
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") > 0
    restore.succeeds(langchain, on_conflict="skip")
    assert rows_of(langchain) == before


@pytest.mark.parametrize("kind", ["none", "wrong"])
def test_without_the_identity_nothing_is_touched(
    docs: Database, backup: BackupMaker, both: Encryption, kind: str, tmp_path: Path
) -> None:
    backup.encryption = both
    first, second = (succeeded(backup(docs.url, mode="auto", **DOCS)) for _ in range(2))
    assert second.manifest.builds_on == first.stamp
    _, wrong = identity(tmp_path / "wrong.txt")
    without = Encryption(both.recipients, wrong if kind == "wrong" else None)
    root = BackupRoot(str(backup.root), "vector_bak", encryption=without)
    before = stored_in(first.directory)

    restore = RestoreMaker(backup.root, encryption=without)
    with pytest.raises(InvalidParams, match=VARIABLE):
        restore.run().find(no_target)
    with pytest.raises(InvalidParams, match=VARIABLE):
        consolidate(ConsolidateParameters(), root, run_id="c")
    pair = find_pair(root.open(None), str(first.stamp), str(second.stamp))
    with pytest.raises(InvalidParams, match=VARIABLE):
        pair.difference()
    result = verify_root(backup.root, encryption=without)
    assert [s.files_passed for s in result.sets] == [None, None]
    assert all("INVALID_PARAMS" in error and VARIABLE in error for error in result.errors)
    backup.encryption = without
    refused = backup(docs.url, mode="incremental", **DOCS)
    assert refused.error is not None
    assert (refused.error.error_type, refused.result.tables_backed_up) == ("INVALID_PARAMS", {})
    assert VARIABLE in refused.error.message
    assert stored_in(first.directory) == before

    full = succeeded(backup(docs.url, mode="auto", **DOCS))
    (table,) = full.manifest.tables
    assert table.builds_on is None
    assert VARIABLE in (table.full_reason or "")


def test_an_identity_of_only_some_sets_of_a_chain_names_the_other_set(
    docs: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption, tmp_path: Path
) -> None:
    """The key was changed after the first set, and its identity is no longer in the file."""
    backup.encryption = both
    first = succeeded(backup(docs.url, mode="auto", **DOCS))
    newer, path = identity(tmp_path / "newer.txt")
    backup.encryption = Encryption((newer,), both.identity_file)
    docs.run("DELETE FROM docs WHERE id LIKE '%1'")
    succeeded(backup(docs.url, mode="incremental", **DOCS))

    restore.encryption = Encryption((), path)
    restore.fails(docs, "INVALID_PARAMS", VARIABLE, str(first.stamp))
    with Path(path).open("a") as file:
        file.write(Path(both.identity_file or "").read_text())
    restore.succeeds(docs, **TRUNCATING)


def test_each_of_several_recipients_can_restore(
    docs: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption, tmp_path: Path
) -> None:
    key = tmp_path / "id_ed25519"
    if (keygen := shutil.which("ssh-keygen")) is None:
        pytest.skip("no ssh-keygen")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    ssh = key.with_suffix(".pub").read_text().strip()
    backup.encryption = Encryption((*both.recipients, ssh))
    succeeded(backup(docs.url, **DOCS))

    for path in (str(both.identity_file), str(key)):
        restore.encryption = Encryption((), path)
        restore.succeeds(docs, **TRUNCATING)


def test_a_plain_set_is_never_made_of_an_encrypted_chain(
    docs: Database, backup: BackupMaker, both: Encryption
) -> None:
    backup.encryption = both
    for _ in range(2):
        succeeded(backup(docs.url, mode="auto", **DOCS))
    can_read = Encryption((), both.identity_file)
    root = BackupRoot(str(backup.root), "vector_bak", encryption=can_read)
    before = stored_in(backup.root / "vector_bak")

    with pytest.raises(InvalidParams, match="VECTOR_BACKUP_ENCRYPT_TO"):
        consolidate(ConsolidateParameters(), root, run_id="c")
    assert stored_in(backup.root / "vector_bak") == before


@pytest.mark.parametrize("at", [30, 400, -5000, -1])
def test_a_flipped_bit_is_an_integrity_error(
    docs: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption, at: int
) -> None:
    """In the recipient, in the header's MAC or the first bytes, in the middle and at the end."""
    backup.encryption = restore.encryption = both
    made = succeeded(backup(docs.url, **DOCS))
    path, whole = made.path("docs"), made.path("docs").read_bytes()

    def flip() -> None:
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)

    flip()
    restore.fails(docs, "INTEGRITY_ERROR", path.name, "SHA-256", **TRUNCATING)
    (verdict,) = verify_root(backup.root, encryption=both).sets
    assert (verdict.files_passed, verdict.passed) == (False, False)
    path.write_bytes(whole)
    restore.between["load"] = flip
    restore.fails(docs, "INTEGRITY_ERROR", path.name, "cannot be decrypted", **TRUNCATING)


@pytest.mark.parametrize("failure", ["storage", "canceled", "progress"])
def test_a_failure_in_the_middle_is_reported_and_leaves_nothing(
    docs: Database,
    backup: BackupMaker,
    both: Encryption,
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs.run(
        "INSERT INTO docs SELECT 'x' || i, string_agg(md5(random()::text), '') FROM "
        "generate_series(1, 400) i, generate_series(1, 1000) GROUP BY i"
    )
    backup.encryption = both
    pieces: list[int] = []
    error = StorageError("The disk is full.")
    write = LocalUpload.write

    with listening() as cancellation:

        def write_some(upload: LocalUpload, data: bytes) -> None:
            pieces.append(len(data))
            if len(pieces) > 2 and failure == "storage":
                raise error
            if len(pieces) > 2 and failure == "canceled":
                cancellation.request()
            write(upload, data)

        monkeypatch.setattr(LocalUpload, "write", write_some)
        run = backup.run(**DOCS)
        run.resolve()
        run.pin(lambda: settings_for(docs.url))

        def listen(_: Progress) -> None:
            if len(pieces) > 2 and failure == "progress":
                raise error

        with pytest.raises(BackupError) as raised:
            run.export("docs", listen)
        assert not [p.name for p in backup.root.rglob("*") if "docs" in p.name]
        monkeypatch.undo()
        result = run.close()
    assert len(pieces) >= 3
    if failure != "canceled":
        assert raised.value is error
        assert isinstance(result.tables_backed_up["docs"], FailedTable)
    else:
        assert raised.value.error_type == "RUN_CANCELED"


def test_an_error_quotes_no_row_in_the_log(
    docs: Database, backup: BackupMaker, restore: RestoreMaker, both: Encryption
) -> None:
    backup.encryption = restore.encryption = both
    made = succeeded(backup(docs.url, **DOCS))
    restore.fails(docs, "DATABASE_ERROR", "duplicate key value", "SQLSTATE 23505")
    docs.run("DELETE FROM docs; ALTER TABLE docs ALTER body TYPE int USING 0")
    with pytest.raises(BackupError, match=SECRET):
        _load(restore, docs)

    log = (made.directory / LOG_NAME).read_text()
    assert "SQLSTATE 22P02" in log
    assert SECRET not in log


def _load(restore: RestoreMaker, database: Database) -> None:
    run = restore.run()
    try:
        run.find(lambda: settings_for(database.url))
        for load in run.prepare():
            run.load(load.table, lambda _: None)
    finally:
        run.close()


def test_any_pieces_are_encrypted_in_little_memory(both: Encryption) -> None:
    stored: list[bytes] = []
    sizes = [0, 1, 65_536, 3 << 20, 0, 1_000_000, 7, 30 << 20]
    encryptor = start_encrypting(both.recipients, stored.append)
    for size in sizes:
        encryptor.feed(bytes(size))
    encryptor.finish()
    assert sum(map(len, stored)) > sum(sizes)
    assert max(map(len, stored)) < 2 << 20

    tracemalloc.start()
    plain = [len(chunk) for chunk in both.decrypted(iter(stored), "it")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(plain) == sum(sizes)
    assert min(plain) > 0
    assert peak < 12 << 20
