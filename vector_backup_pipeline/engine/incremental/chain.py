"""The chain of a set: the set and those that it builds on, back to a full one. A table's rows are
in the data files of the chain; its newest key file says which of them are live."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import xxhash

from vector_backup_pipeline.engine.catalog.contents import Contents, ManifestSet
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.formats.blocks import EMPTY, Content
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import DataFile, KeyFile, TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import check_rows, read_checked

# Writes a key file with the wanted rows of a table's key file, and returns it.
SelectRows: TypeAlias = Callable[[KeyFiles, Path], Path]


@dataclass(frozen=True)
class Link:
    """A table in one set of its chain."""

    stamp: str
    table: TableBackup
    data: DataFile

    @classmethod
    def find(cls, backup: ManifestSet, schema: str, name: str) -> Link | None:
        """The table in the set; None if its file is not in it."""
        for table in backup.manifest.tables:
            if (table.schema_name, table.name) == (schema, name) and table.file:
                return cls(backup.stamp, table, table.file)
        return None

    @property
    def keys(self) -> KeyFile:
        """Raises `IntegrityError` if there are none."""
        if self.table.keys is None:
            raise IntegrityError(f"The set {self.stamp} has no key file of {self.table.table}.")
        return self.table.keys

    @property
    def form(self) -> tuple[object, ...]:
        """Digests of rows can be compared if it is the same."""
        keys = self.table.keys
        return self.data.format, self.data.digest.columns, keys and keys.columns


def comparable_links(
    earlier: ManifestSet, later: ManifestSet, schema: str, name: str
) -> tuple[Link, Link]:
    """The table in both sets. Raises `InvalidParams` if one of them has no key file of it, or if
    its rows can't be compared."""
    links = []
    for backup in (earlier, later):
        link = Link.find(backup, schema, name)
        if link is None or link.table.keys is None:
            raise InvalidParams(
                f"The set {backup.stamp} has no key file of {schema}.{name}. Backups in mode auto "
                "or incremental write one for each table with a primary key. Choose another set, "
                "or leave the table out."
            )
        links.append(link)
    first, second = links
    if first.form != second.form:
        raise InvalidParams(
            f"The sets {first.stamp} and {second.stamp} have {schema}.{name} with other columns, "
            "another primary key or in another format, so that its rows cannot be compared. Choose "
            "other sets, or leave the table out."
        )
    return first, second


@dataclass(frozen=True)
class Part:
    """A data file, and the number of its rows that are wanted: those with one of these `digests`,
    or, if they are `unwanted`, those with another one; all, if there are none."""

    data: DataFile
    rows: int
    digests: frozenset[int] | None = None
    unwanted: bool = False

    def wanted(self, rows: list[bytes]) -> list[bytes]:
        if self.digests is None:
            return rows
        digest = xxhash.xxh3_128_intdigest
        return [row for row in rows if (digest(row) in self.digests) != self.unwanted]


def chain_of(contents: Contents, backup: ManifestSet) -> list[ManifestSet]:
    """The chain of a set, newest first. Raises `IntegrityError` if a set that it builds on is
    missing or damaged."""
    chain = [backup]
    while (stamp := chain[-1].manifest.builds_on) is not None:
        is_cycle = any(earlier.stamp == stamp for earlier in chain)
        base = None if is_cycle else contents.backup_set(stamp)
        if not isinstance(base, ManifestSet):
            why = "is missing." if base is None else f"is damaged: {base.error.message}"
            raise IntegrityError(
                f"The set {backup.stamp} in {contents.directory.location} builds on the set "
                f"{stamp}, which {why} Put its files back, or choose another set."
            )
        chain.append(base)
    return chain


def links_of(chain: Sequence[ManifestSet], table: TableBackup) -> tuple[Link, ...]:
    """A table of the first set, in that set and in those whose rows it needs, newest first. Raises
    `IntegrityError` if a set of the chain lacks the table, or has it in another form."""
    links: list[Link] = []
    for backup in chain:
        if links and links[-1].table.builds_on != backup.stamp:
            break
        link = Link.find(backup, table.schema_name, table.name)
        if link is None or (links and link.form != links[0].form):
            break
        links.append(link)
    if not links or links[-1].table.builds_on is not None:
        raise IntegrityError(
            f"The set {chain[0].stamp} builds on sets that lack rows of {table.table}, or have "
            "them in another form. Choose another set."
        )
    return tuple(links)


@contextlib.contextmanager
def reading(links: Sequence[Link], link: Link) -> Iterator[None]:
    """A block that reads files of `link`. In a chain, its errors become an `IntegrityError` with
    the sets."""
    try:
        yield
    except (IntegrityError, ResourceNotFound) as error:
        if len(links) == 1:
            raise
        base = "" if link is links[0] else f" builds on the set {link.stamp}, which"
        raise IntegrityError(
            f"The set {links[0].stamp}{base} is damaged: {error.message}"
        ) from error


def find_parts(
    directory: BackupDirectory, links: Sequence[Link], select: SelectRows | None = None
) -> tuple[Part, ...]:
    """The data files with live rows of a table, oldest first; with `select`, those with the rows
    that it chooses. Checks all key files of the chain; a full set needs none, unless rows are
    selected.

    Raises:
        IntegrityError: a key file is missing or damaged.
        MissingExtra: DuckDB is not installed.
    """
    newest = links[0]
    if select is None and len(links) == 1:
        return (Part(newest.data, newest.data.rows),)
    with KeyFiles.open(newest.keys.columns) as keys:
        files = {}
        for link in links:
            with reading(links, link):
                files[link.stamp] = download_keys(directory, link, keys)
        chosen = files[newest.stamp]
        contents = keys.contents(chosen)
        with reading(links, newest):
            _check_contents(directory, newest, contents)
        if select is not None:
            chosen = select(keys, chosen)
            contents = keys.contents(chosen)
        if not contents.keys() <= files.keys():
            raise IntegrityError(
                f"The key file {newest.keys.name} names sets that {newest.stamp} does not build "
                "on. Choose another set."
            )
        parts = []
        for link in reversed(links):
            wanted, own = contents.get(link.stamp, EMPTY).rows, files[link.stamp]
            is_less = wanted * 2 < link.data.rows
            digests = None
            if 0 < wanted < link.data.rows:
                digests = keys.digests(chosen, own, link.stamp, taken=is_less)
            if wanted:
                parts.append(Part(link.data, wanted, digests, unwanted=not is_less))
        return tuple(parts)


def download_keys(directory: BackupDirectory, link: Link, keys: KeyFiles) -> Path:
    """The key file in the temporary directory of `keys`. Raises as `read_checked`."""
    path = keys.directory / f"{link.stamp}.parquet"
    with path.open("wb") as file:
        file.writelines(read_checked(directory, link.keys))
    return path


def check_link(directory: BackupDirectory, link: Link) -> None:
    """Compare the table's files in the set with the manifest: as `check_rows`, and the content of
    the key file with that of the live rows and of the data file.

    Raises:
        IntegrityError: they differ.
        MissingExtra: DuckDB is not installed.
        ResourceNotFound, StorageError: a file cannot be read.
    """
    check_rows(directory, link.data)
    if link.table.keys is not None:
        with KeyFiles.open(link.keys.columns) as keys:
            contents = keys.contents(download_keys(directory, link, keys))
        _check_contents(directory, link, contents)


def _check_contents(
    directory: BackupDirectory, link: Link, contents: Mapping[str, Content]
) -> None:
    own, table = contents.get(link.stamp, EMPTY), link.table
    for content, rows, digest in (
        (sum(contents.values(), EMPTY), table.rows, table.digest),
        (own, link.data.rows, link.data.digest.value),
    ):
        actual = f"{content.digest:032x}"
        if (content.rows, actual) != (rows, digest):
            raise IntegrityError(
                f"{directory.location}/{link.keys.name} does not fit the manifest: {content.rows} "
                f"rows with content digest {actual}, expected {rows} rows with {digest}. Check the "
                "disk, and make a new backup."
            )
