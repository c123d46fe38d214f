"""The difference of two backup sets of a directory, from their key files alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from vector_backup_pipeline.engine.catalog.choice import choose_set
from vector_backup_pipeline.engine.catalog.stored_sets import stored_set
from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline.engine.incremental.chain import Link, comparable_links, download_keys
from vector_backup_pipeline.engine.incremental.key_files import Change, KeyFiles, TableDifference
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.storage.directory import BackupDirectory


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
        """Raises `IntegrityError` if a key file is damaged."""
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
    directory: BackupDirectory, earlier: str, later: str, tables: Sequence[str] | None = None
) -> SetPair:
    """Two sets by their timestamps, and their `tables`: by default all of either set.

    Raises:
        InvalidParams: a table has no key file in one of the sets, or rows of another form.
        ResourceNotFound, IntegrityError: see `choose_set`; or neither set has a table.
    """
    chosen = [choose_set(directory, stamp, tables) for stamp in (earlier, later)]
    sets = [stored_set(choice.contents, choice.backup) for choice in chosen]
    for text in tables or ():
        if not any(stored.files_named(text) for stored in sets):
            raise ResourceNotFound(f"Neither {earlier} nor {later} has a table {text}.")
    first, second = (choice.backup for choice in chosen)
    pairs = {
        ".".join(file.identity): comparable_links(first, second, *file.identity)
        for stored in sets
        for file in stored.files_of(tables)
    }
    return SetPair(directory, (first.stamp, second.stamp), pairs)
