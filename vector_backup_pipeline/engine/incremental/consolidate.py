"""Consolidation: a new full set with the live rows of a chain, made from storage alone.

check the chain's files ─▶ write each table ─▶ compare ─▶ read again ─▶ manifest
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine import report, results
from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.claims import (
    claim_reading,
    claim_timestamp,
    remove_leftovers,
)
from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.catalog.locations import find_directory
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, InvalidParams
from vector_backup_pipeline.engine.file_names import (
    KEYS_EXTENSION,
    data_extension,
    data_file_name,
    manifest_name,
    stamp_of_data_file,
)
from vector_backup_pipeline.engine.formats.blocks import BlockBuilder
from vector_backup_pipeline.engine.formats.compression import codec
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.incremental import chain as chains
from vector_backup_pipeline.engine.incremental.chain import Link, Part
from vector_backup_pipeline.engine.incremental.export import store_keys
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import DataFile, KeyFile
from vector_backup_pipeline.engine.runs import append_to_log
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.stored_files import (
    check_identity,
    check_stored_file,
    read_blocks,
    unpack_rows,
)
from vector_backup_pipeline.engine.table_export import DataFileWriter
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters

_log = logging.getLogger(__name__)


def consolidate(
    parameters: ConsolidateParameters, root: BackupRoot, *, run_id: str, shortest: int = 2
) -> results.ConsolidateResult:
    """Make a full set of the chain of the requested set, if it has at least `shortest` sets.

    The new set has the creation time of the requested one and a later timestamp: so `latest`
    and the next incremental backup prefer it. After an error there is no new set.

    Raises:
        InvalidParams: the set is full; see also `choose_set`. Or it is encrypted, and there is no
            identity or no recipient.
        ResourceNotFound: there is no such directory or set.
        IntegrityError: a file of the chain is missing or damaged.
        MissingExtra: DuckDB is not installed.
    """
    started = time.monotonic()
    directory = find_directory(root, None, parameters.task_id)
    chosen = choose_set(directory, parameters.timestamp, None, parameters.source_database)
    chain = chains.chain_of(chosen.contents, chosen.backup)
    result = results.ConsolidateResult(
        backup_directory=directory.location,
        chain=[backup.stamp for backup in chain],
        timestamp=root.timestamps.now().replace(microsecond=0),
    )
    if len(chain) == 1:
        raise InvalidParams(
            f"The set {chosen.backup.stamp} in {directory.location} is full: it builds on no other "
            "set, so there is nothing to consolidate."
        )
    if len(chain) < shortest:
        return result
    _check_encryption(directory, chain)
    with ExitStack() as claims:
        reading = claim_reading(directory, result.chain[0], run_id, result.notices)
        claims.enter_context(reading)
        remove_leftovers(directory)
        stamp, claim = claim_timestamp(directory, run_id)
        claims.callback(claim.release)
        error = None
        try:
            tables = _write_set(directory, chain, stamp, run_id, result)
            made = {"consolidated": True, "set_timestamp": stamp, "tables": tables}
        except BaseException as cause:
            error = as_run_error(cause)
            made = {"errors": [results.error_line(error)]}
            with suppress(BackupError):  # The first error is the one to report.
                _delete_set(directory, stamp)
            raise
        finally:
            made["duration"] = round(time.monotonic() - started, 3)
            result = result.model_copy(update=made)
            title, outcome = f"consolidate {stamp}", report.outcome(error, canceled_by=None)
            task = f"Task: {parameters.task_id or '(none)'}   Run: {run_id}"
            lines = [task, *consolidate_lines(result)]
            section = report.section(title, result.timestamp, outcome, lines)
            append_to_log(directory, section, result.notices)
    return result


def _check_encryption(directory: BackupDirectory, chain: Sequence[ManifestSet]) -> None:
    """Check that the sets can be decrypted, and that the new one would not be less protected."""
    for backup in chain:
        for file in (table.file for table in backup.manifest.tables if table.file):
            check_identity(directory, file)
            if file.encryption and not directory.encryption.recipients:
                raise InvalidParams(
                    f"The set {backup.stamp} in {directory.location} is encrypted, but "
                    "VECTOR_BACKUP_ENCRYPT_TO is not set. Set it, to encrypt the new set too."
                )


def consolidate_lines(result: results.ConsolidateResult) -> list[str]:
    """The result, for the log and the terminal."""
    return [
        f"Set: {result.set_timestamp or '(not made)'}",
        f"Made from: {', '.join(result.chain)}",
        f"Duration: {result.duration:.3f} s",
        *(report.table_line(name, table) for name, table in result.tables.items()),
        *report.notice_lines(result.notices),
        *report.error_lines(result.errors),
    ]


def _delete_set(directory: BackupDirectory, stamp: str) -> None:
    directory.delete(manifest_name(stamp))  # First: it stands for the files.
    for name in directory.names():
        if stamp_of_data_file(name, directory.timestamps) == stamp:
            directory.delete(name)


def _write_set(
    directory: BackupDirectory,
    chain: Sequence[ManifestSet],
    stamp: str,
    run_id: str,
    result: results.ConsolidateResult,
) -> dict[str, results.ExportedTable]:
    """Check the chain, write the files of the new set, read them again, write the manifest."""
    sources = [chains.links_of(chain, table) for table in chain[0].manifest.tables]
    for links in sources:
        for link in links:
            with chains.reading(links, link):
                check_stored_file(directory, link.data)
    tables = [_write_table(directory, links, stamp) for links in sources]
    for table in tables:
        chains.check_link(directory, table)
    exported = {link.table.table: link.data.exported(link.data.rows) for link in tables}
    changed = {
        "tool_version": __version__,
        "timestamp": stamp,
        "run_id": run_id,
        "tables": [link.table for link in tables],
        "builds_on": None,
        "result": results.BackupResult(
            backup_performed=True,
            backup_directory=directory.location,
            tables_backed_up=dict(exported),
            notices=[f"Consolidated from {', '.join(result.chain)}."],
            duration=round(sum(link.data.duration for link in tables), 3),
            timestamp=result.timestamp,
        ),
    }
    manifest = chain[0].manifest.model_copy(update=changed)
    directory.replace(manifest_name(stamp), manifest.to_json(directory.manifest_key))
    return exported


def _write_table(directory: BackupDirectory, links: Sequence[Link], stamp: str) -> Link:
    table, data = links[0].table, links[0].data
    extension = data_extension(data.format, data.compression) + directory.encryption.suffix
    name = data_file_name(table.schema_name, table.name, stamp, extension)
    parts = chains.find_parts(directory, links)
    keys = _write_keys(directory, links[0], stamp) if table.keys else None
    file = _write_rows(directory, data, parts, name)
    if (file.rows, file.digest.value) != (table.rows, table.digest):
        raise IntegrityError(
            f"The rows of {table.table} in the set {links[0].stamp} are not those that were "
            f"written: {file.rows} rows with content digest {file.digest.value}, expected "
            f"{table.rows} rows with {table.digest}. Make a full backup."
        )
    _log.info("Consolidated %s: %d rows of %d sets", table.table, file.rows, len(links))
    is_full = {"builds_on": None, "live_rows": None, "live_digest": None, "full_reason": None}
    update = {"file": file, "keys": keys, **is_full}
    return Link(stamp, table.model_copy(update=update), file)


def _write_rows(
    directory: BackupDirectory, data: DataFile, parts: Sequence[Part], name: str
) -> DataFile:
    """Write the rows of the parts in the form of `data`."""
    form, pack = row_format(data.format), codec(data.compression).make_pack(None)
    line_end = b"\n" * form.line_end
    with directory.create(name, sum(part.data.bytes for part in parts)) as file:
        writer = DataFileWriter(file, pack, form, data.digest.columns)
        blocks = BlockBuilder(lambda b: writer.append(replace(b, data=pack(b.data))), form)
        for part in parts:
            for _, plain in read_blocks(directory, part.data):
                for rows in unpack_rows(directory, part.data, plain):
                    for row in part.wanted(rows):
                        blocks.write(row + line_end)
        blocks.flush()
        return writer.commit(name, data.compression)


def _write_keys(directory: BackupDirectory, newest: Link, stamp: str) -> KeyFile:
    """Write the newest key file with another stamp."""
    table, old = newest.table, newest.keys
    extension = KEYS_EXTENSION + directory.encryption.suffix
    name = data_file_name(table.schema_name, table.name, stamp, extension)
    with KeyFiles.open(old.columns) as keys:
        path = keys.directory / "consolidated.parquet"
        keys.restamp(chains.download_keys(directory, newest, keys), stamp, path)
        return store_keys(path, directory, name, old.columns, old.rows, old.scanned_sha256)
