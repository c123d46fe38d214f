"""The difference of two backup sets of a directory, from their key files alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.catalog.stored_sets import stored_set
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.incremental.chain import Link, download_keys
from vector_backup_pipeline.engine.incremental.key_files import Change, KeyFiles, TableDifference
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat


class SetDifference(Record):
    """What happened to the rows of each table between the sets `from` and `to`."""

    from_: str = Field(alias="from")
    to: str
    tables: dict[str, TableDifference]


@dataclass(frozen=True)
class SetPair:
    """Two sets of a directory, each with the key files of the tables to compare."""

    directory: BackupDirectory
    stamps: tuple[str, str]
    tables: dict[str, tuple[Link, Link]]

    def difference(self) -> SetDifference:
        """Raises `IntegrityError` if a key file is not what was written."""
        tables = {table: keys.difference(*files) for table, keys, files in self._key_files()}
        return SetDifference(**{"from": self.stamps[0]}, to=self.stamps[1], tables=tables)

    def changed_keys(self) -> Iterator[tuple[str, Change, dict[str, str]]]:
        """The table, the change and the primary key of each row. Raises as `difference`."""
        for table, keys, files in self._key_files():
            for change, key in keys.differing_keys(*files):
                yield table, change, key

    def _key_files(self) -> Iterator[tuple[str, KeyFiles, tuple[Path, Path]]]:
        """Each table with its key files, which exist until the next one."""
        for table, (earlier, later) in self.tables.items():
            with KeyFiles.open(later.keys.columns) as keys:
                files = [download_keys(self.directory, link, keys) for link in (earlier, later)]
                yield table, keys, (files[0], files[1])


def find_pair(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    earlier: str,
    later: str,
    tables: Sequence[str] | None = None,
) -> SetPair:
    """Two sets by their timestamps, and their `tables`: by default all of either set.

    Raises:
        InvalidParams: a table has no key file in one of the sets, or rows of another form.
        ResourceNotFound, IntegrityError: see `choose_set`; or neither set has a table.
    """
    chosen = [choose_set(directory, timestamps, stamp, tables) for stamp in (earlier, later)]
    sets = [stored_set(choice.contents, choice.backup) for choice in chosen]
    files = [file for stored in sets for file in stored.files]
    if tables is not None:
        files = []
        for text in tables:
            named = [file for stored in sets for file in stored.files_named(text)]
            if not named:
                raise ResourceNotFound(f"Neither {earlier} nor {later} has a table {text}.")
            files += named
    first, second = (choice.backup for choice in chosen)
    pairs = {}
    for identity in dict.fromkeys(file.identity for file in files):
        a, b = _link(first, identity), _link(second, identity)
        if a.form != b.form:
            raise InvalidParams(
                f"The sets {a.stamp} and {b.stamp} have {'.'.join(identity)} with other columns, "
                "another primary key or in another format, so that their rows cannot be compared. "
                "Choose other sets, or leave the table out."
            )
        pairs[".".join(identity)] = a, b
    return SetPair(directory, (first.stamp, second.stamp), pairs)


def _link(backup: ManifestSet, identity: tuple[str, str]) -> Link:
    link = Link.find(backup, *identity)
    if link is None or link.table.keys is None:
        raise InvalidParams(
            f"The set {backup.stamp} has no key file of {'.'.join(identity)}. Backups in mode auto "
            "or incremental write one for each table with a primary key. Choose another set, or "
            "leave the table out."
        )
    return link
