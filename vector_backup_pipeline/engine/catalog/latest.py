"""Which set `latest` is: the newest complete one of one source database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from vector_backup_pipeline.engine.catalog.sets import (
    Contents,
    DamagedSet,
    ManifestSet,
    age,
    has_file,
    names_table,
    tables_with_file,
    what_is_there,
)
from vector_backup_pipeline.engine.catalog.sources import (
    SourceDatabase,
    listed_sources,
    source_named,
)
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound

# The database that a restore writes to. Asked only if the sets do not decide.
AskTarget = Callable[[], SourceDatabase]


@dataclass(frozen=True)
class ChosenSet:
    """`passed_over` are the stamps of newer sets that are incomplete or damaged."""

    backup: ManifestSet
    passed_over: tuple[str, ...]


def find_latest(
    contents: Contents,
    tables: Sequence[str] | None,
    source_database: str | None,
    ask_target: AskTarget | None,
) -> ChosenSet:
    """The newest complete set by creation in UTC that holds all of the `tables`.

    It is of `source_database` if that is given, else of the only database with sets there, else of
    the one that `ask_target` answers.

    Raises:
        InvalidParams: several databases have sets, and none of the above decides; or the set has
            no rows of a table that the run of an earlier set emptied.
        IntegrityError: all sets are damaged. The error is that of the newest one.
        ResourceNotFound: there is no such set.
    """
    found = _Found.read(contents, tables)
    source = _source(contents, found, source_database, ask_target)
    latest = found.newest.get(source) if source is not None else None
    if latest is None:
        raise _no_latest(contents, found, source, tables)
    _check_emptied(latest, found.emptied, tables)
    newer = [
        (moment, stamp)
        for moment, stamp, of in found.not_good
        if of in (None, source) and (moment, stamp) > age(latest)
    ]
    return ChosenSet(latest, tuple(stamp for _, stamp in sorted(newer)))


@dataclass(frozen=True)
class _Emptied:
    """A table with rows in a set whose run then truncated it, or may have."""

    backup: str
    source: SourceDatabase
    created_at: datetime
    schema: str
    name: str


@dataclass(frozen=True)
class _Found:
    """The sets of a directory, as far as `latest` depends on them.

    `newest` are the newest complete ones that hold all tables, by their source database. `not_good`
    are the incomplete ones, and the damaged ones, whose source is not known. `lacking` are the
    newest complete ones that do not hold all tables. `damaged` are the errors of damaged sets.
    """

    newest: dict[SourceDatabase, ManifestSet]
    not_good: list[tuple[datetime, str, SourceDatabase | None]]
    emptied: list[_Emptied]
    lacking: dict[SourceDatabase, ManifestSet]
    damaged: dict[tuple[datetime, str], IntegrityError]

    @classmethod
    def read(cls, contents: Contents, tables: Sequence[str] | None) -> _Found:
        found = cls({}, [], [], {}, {})
        for each in contents.sets():
            if isinstance(each, DamagedSet):
                found.not_good.append((*age(each), None))
                found.damaged[age(each)] = each.error
                continue
            found.emptied.extend(_emptied_by(each))
            if not each.complete:
                found.not_good.append((*age(each), each.source))
            else:
                holds_all = all(has_file(each, text) for text in tables or ())
                newest = found.newest if holds_all else found.lacking
                if each.source not in newest or age(each) > age(newest[each.source]):
                    newest[each.source] = each
        return found

    @property
    def sources(self) -> set[SourceDatabase]:
        """Those that may be meant: an incomplete set too shows that its database is backed up
        here."""
        incomplete = {source for _, _, source in self.not_good if source is not None}
        return self.newest.keys() | incomplete


def _emptied_by(backup: ManifestSet) -> Iterator[_Emptied]:
    for table in backup.emptied:
        yield _Emptied(
            backup.stamp, backup.source, backup.created_at, table.schema_name, table.name
        )


def _source(
    contents: Contents, found: _Found, source_database: str | None, ask_target: AskTarget | None
) -> SourceDatabase | None:
    where = contents.directory.location
    if source_database is not None:
        return source_named(source_database, found.sources | found.lacking.keys(), where)
    if len(found.sources) <= 1 or not found.newest:
        return next(iter(found.sources), None)
    target = ask_target() if ask_target is not None else None
    if target in found.newest:
        return target
    lacking = "" if target is None else f", but no complete one of the target {target.qualified}"
    raise InvalidParams(
        f"latest is ambiguous: {where} holds sets of several databases "
        f"({listed_sources(found.sources)}){lacking}. Name one of them with source_database, or "
        "give the timestamp of a set."
    )


def _no_latest(
    contents: Contents,
    found: _Found,
    source: SourceDatabase | None,
    tables: Sequence[str] | None,
) -> IntegrityError | ResourceNotFound:
    where = contents.directory.location
    lacking = [each for of, each in found.lacking.items() if source in (None, of)]
    if found.damaged and not (lacking or found.sources):
        return found.damaged[max(found.damaged)]
    if not lacking:
        of = "" if source is None else f" of the database {source.name}"
        return ResourceNotFound(
            f"There is no complete backup set{of} in {where}. {what_is_there(contents)}"
        )
    newest = max(lacking, key=age)
    missing = next(text for text in tables or () if not has_file(newest, text))
    together = " together" if len(tables or ()) > 1 else ""
    return ResourceNotFound(
        f"No complete backup set in {where} has the tables asked for{together}. The newest, "
        f"{newest.stamp}, has no table {missing}. It has: {', '.join(tables_with_file(newest))}."
    )


def _check_emptied(
    latest: ManifestSet, emptied: Sequence[_Emptied], tables: Sequence[str] | None
) -> None:
    for each in sorted(emptied, key=lambda each: each.created_at, reverse=True):
        wanted = tables is None or any(names_table(text, each.schema, each.name) for text in tables)
        earlier = each.created_at < latest.created_at and each.source == latest.source
        if wanted and earlier and _is_empty(latest, each.schema, each.name):
            raise InvalidParams(
                f"The latest set {latest.stamp} has no rows of {each.schema}.{each.name}: the run "
                f"of {each.backup} emptied that table, and that set holds its rows. Give "
                f"timestamp {each.backup} to get them, {latest.stamp} if the empty table is meant."
            )


def _is_empty(backup: ManifestSet, schema: str, name: str) -> bool:
    return any(
        table.file is not None and table.file.rows == 0
        for table in backup.manifest.tables
        if (table.schema_name, table.name) == (schema, name)
    )
