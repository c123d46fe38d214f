"""What a place holds, as retention has to know it: sets, whose each file is, what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vector_backup_pipeline.engine.catalog.claims import stamps_being_read
from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    ManifestSet,
    is_in_future,
)
from vector_backup_pipeline.engine.catalog.locations import (
    OtherFile,
    other_files,
    stored_set,
)
from vector_backup_pipeline.engine.catalog.locations import StoredSet as CatalogSet
from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    manifest_name,
    stamp_of_data_file,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.retention.policy import StoredSet, Verdicts
from vector_backup_pipeline.engine.retention.tombstone import Tombstone, read_tombstone
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


@dataclass(frozen=True)
class LeftTombstones:
    """The tombstones that were found: of removals that have `begun`, of such that have not (their
    sets are whole, and are judged again), and those that can't be read."""

    begun: Mapping[str, Tombstone]
    idle: Mapping[str, str]
    errors: Mapping[str, IntegrityError]


@dataclass(frozen=True)
class History:
    """A place at one moment. `files` are the data files of each set, by its stamp."""

    contents: Contents
    sets: tuple[StoredSet, ...]
    files: Mapping[str, tuple[str, ...]]
    other_files: tuple[OtherFile, ...]


@dataclass(frozen=True)
class Removal:
    """What goes with a set: these names and no others."""

    stamp: str
    reasons: tuple[str, ...]
    manifest: str | None
    verdict: str | None
    files: tuple[str, ...]


def read_tombstones(contents: Contents) -> LeftTombstones:
    begun: dict[str, Tombstone] = {}
    idle: dict[str, str] = {}
    errors: dict[str, IntegrityError] = {}
    for stamp in sorted(contents.tombstones):
        name = tombstone_name(stamp)
        try:
            found = read_tombstone(b"".join(contents.directory.read(name)), name, stamp)
        except ResourceNotFound:
            continue  # Removed since the directory was listed.
        except IntegrityError as error:
            if manifest_name(stamp) in contents.sizes:
                idle[stamp] = name
            else:
                errors[stamp] = error
            continue
        if found.has_begun(contents.sizes):
            begun[stamp] = found
        else:
            idle[stamp] = name
    return LeftTombstones(begun, idle, errors)


def read_history(contents: Contents, left: LeftTombstones) -> History:
    """The sets that are there, those of idle tombstones among them."""
    contents = _with_idle(contents, left)
    being_read = stamps_being_read(contents.directory, contents.timestamps, contents.sizes)
    found: list[CatalogSet] = []
    sets: list[StoredSet] = []
    for backup in contents.sets():
        found.append(stored_set(contents, backup))
        sets.append(_stored_set(contents, backup, found[-1], being_read))
    return History(
        contents=contents,
        sets=tuple(sets),
        files={each.stamp: _data_files(contents, each) for each in found},
        other_files=tuple(other_files(contents, found)),
    )


def _with_idle(contents: Contents, left: LeftTombstones) -> Contents:
    there = {stamp for stamp in left.idle if manifest_name(stamp) in contents.sizes}
    return replace(
        contents,
        manifests=contents.manifests | there,
        tombstones=contents.tombstones - left.idle.keys(),
    )


def _stored_set(
    contents: Contents, backup: BackupSet, found: CatalogSet, being_read: frozenset[str]
) -> StoredSet:
    verified, drill = found.verdicts.verified, found.verdicts.drill
    return StoredSet(
        stamp=found.stamp,
        created_at=found.created_at,
        kind="damaged" if found.source is None else "manifest",
        says_complete=found.says_complete,
        broken_files=tuple(found.broken_files),
        files_passed=verified.passed if verified else None,
        passed=verified.passed and (drill is None or drill.passed) if verified else None,
        emptied=tuple(t.table for t in backup.emptied) if isinstance(backup, ManifestSet) else (),
        tables=frozenset(_tables(backup)),
        source=found.source,
        needs=_needs(contents, backup),
        is_in_future=is_in_future(found.created_at, contents.timestamps.now()),
        is_running=contents.runs.get(found.stamp, False),
        is_being_read=found.stamp in being_read,
    )


def _tables(backup: BackupSet) -> Iterator[str]:
    if isinstance(backup, ManifestSet):
        tables = (table for table in backup.manifest.tables if table.file is not None)
        yield from (f"{table.schema_name}.{table.name}" for table in tables)


def _needs(contents: Contents, backup: BackupSet) -> frozenset[str]:
    if isinstance(backup, ManifestSet):
        base = backup.manifest.builds_on
        return frozenset() if base is None else frozenset({base})
    stamps = {*contents.manifests, *contents.data_files} - {backup.stamp}
    return mentioned(contents.directory, manifest_name(backup.stamp), stamps)


def mentioned(directory: BackupDirectory, manifest: str, texts: Iterable[str]) -> frozenset[str]:
    """Which of the texts are in a manifest, however damaged or new it may be."""
    try:
        data = b"".join(directory.read(manifest))
    except ResourceNotFound:
        return frozenset()
    return frozenset(text for text in texts if text.encode() in data)


def size_of(directory: BackupDirectory, name: str) -> int | None:
    try:
        return directory.size(name)
    except ResourceNotFound:
        return None


def _data_files(contents: Contents, found: CatalogSet) -> tuple[str, ...]:
    """What the set may call its own: a manifest that names anything else gives no right to it."""
    names = (file.name for file in found.files)
    return tuple(name for name in names if stamp_of_data_file(name, contents.timestamps))


def plan_removals(history: History, verdicts: Verdicts, *, include_orphans: bool) -> list[Removal]:
    """What goes with the sets that may go. A file that another set names goes with the last one."""
    names = history.contents.sizes.keys()
    reasons = {each.stamp: each.reasons for each in verdicts.judgements}
    named = Counter(name for files in history.files.values() for name in set(files))
    removals = []
    for stamp in verdicts.removable:
        own = set(history.files[stamp])
        named.subtract(own)
        files = tuple(sorted(name for name in own & names if not named[name]))
        manifest, verdict = manifest_name(stamp), verdict_name(stamp)
        removals.append(
            Removal(
                stamp=stamp,
                reasons=reasons[stamp],
                manifest=manifest if manifest in names else None,
                verdict=verdict if verdict in names else None,
                files=files,
            )
        )
    if include_orphans and verdicts.vital:
        removals += _orphans(history, verdicts, removals, +named)
    return removals


def _orphans(
    history: History, verdicts: Verdicts, removals: Sequence[Removal], named: Mapping[str, int]
) -> Iterator[Removal]:
    contents = history.contents
    staying = {each.stamp for each in verdicts.judgements if each.is_kept}
    needed = {stamp for s in history.sets if s.stamp in staying for stamp in s.needs}
    spared = staying | needed
    taken = {name for each in removals for name in each.files}
    for stamp, names in sorted(contents.data_files.items()):
        files = tuple(
            n for n in names if not n.endswith(".tmp") and n not in taken and n not in named
        )
        is_orphan = contents.state_without_set(stamp) == "orphan"
        if files and is_orphan and stamp not in spared:
            yield Removal(stamp, ("files of a run that left no manifest",), None, None, files)
