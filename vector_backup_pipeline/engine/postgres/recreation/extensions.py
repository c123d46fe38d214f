"""Extensions in the target: installed or to be had, new enough, and where their members are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    names_used,
    relations_of,
)
from vector_backup_pipeline.engine.table_definition import AnyDependency, ExtensionDependency

_STATES = """
SELECT asked.name, e.extversion, n.nspname::text, a.default_version
  FROM unnest(%(names)s::text[]) asked(name)
  LEFT JOIN pg_catalog.pg_extension e ON e.extname::text = asked.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  LEFT JOIN pg_catalog.pg_available_extensions a ON a.name::text = asked.name
"""


class ExtensionUnavailable(DatabaseRefused):
    """The target server does not offer an extension, or only a version that is too old."""


# Of a member, its kind and its name within the extension's schema; array types are never printed.
_MEMBERS = """
WITH member AS (
    SELECT d.classid, d.objid, e.extnamespace
      FROM pg_catalog.pg_extension e
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
       AND d.deptype = 'e'
     WHERE e.extname::text = %(name)s
)
SELECT named.is_function, named.name::text
  FROM member m
 CROSS JOIN LATERAL (
       SELECT false, t.typname, t.typnamespace FROM pg_catalog.pg_type t
        WHERE m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
       UNION ALL
       SELECT true, p.proname, p.pronamespace FROM pg_catalog.pg_proc p
        WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
       UNION ALL
       SELECT false, o.oprname, o.oprnamespace FROM pg_catalog.pg_operator o
        WHERE m.classid = 'pg_catalog.pg_operator'::regclass AND o.oid = m.objid
       UNION ALL
       SELECT false, c.opcname, c.opcnamespace FROM pg_catalog.pg_opclass c
        WHERE m.classid = 'pg_catalog.pg_opclass'::regclass AND c.oid = m.objid
       UNION ALL
       SELECT false, f.opfname, f.opfnamespace FROM pg_catalog.pg_opfamily f
        WHERE m.classid = 'pg_catalog.pg_opfamily'::regclass AND f.oid = m.objid
       UNION ALL
       SELECT false, c.relname, c.relnamespace FROM pg_catalog.pg_class c
        WHERE m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
       UNION ALL
       SELECT false, l.collname, l.collnamespace FROM pg_catalog.pg_collation l
        WHERE m.classid = 'pg_catalog.pg_collation'::regclass AND l.oid = m.objid
       UNION ALL
       SELECT false, g.cfgname, g.cfgnamespace FROM pg_catalog.pg_ts_config g
        WHERE m.classid = 'pg_catalog.pg_ts_config'::regclass AND g.oid = m.objid
       UNION ALL
       SELECT false, d.dictname, d.dictnamespace FROM pg_catalog.pg_ts_dict d
        WHERE m.classid = 'pg_catalog.pg_ts_dict'::regclass AND d.oid = m.objid
 ) named(is_function, name, namespace)
 WHERE named.namespace = m.extnamespace
"""

_PGVECTOR = "vector"
Version = tuple[int, ...]
# pgvector's CHANGELOG.md; whatever is not here, any version has.
_ANY_VERSION: Version = ()
_HNSW_SINCE: Version = (0, 5, 0)
_NEW_IN_0_7: Version = (0, 7, 0)
_NAMES_OF_0_7 = re.compile(
    r"(halfvec|sparsevec)(_.*)?|bit_(hamming|jaccard)_ops|vector_l1_ops"
    r"|binary_quantize|subvector|l2_normalize|(hamming|jaccard)_distance"
)


@dataclass(frozen=True)
class ExtensionState:
    """`installed` and `available` are versions, `schema` is where it is installed."""

    installed: str | None
    schema: str | None
    available: str | None


def extension_states(cursor: Cursor, names: Iterable[str]) -> dict[str, ExtensionState]:
    wanted = sorted(set(names))
    if not wanted:
        return {}
    cursor.execute(_STATES, {"names": wanted})
    return {
        name: ExtensionState(installed, schema, available)
        for name, installed, schema, available in cursor.fetchall()
    }


def extension_members(cursor: Cursor, name: str) -> Iterator[tuple[str, bool]]:
    """The names of its members, operators among them, and whether each is a function."""
    cursor.execute(_MEMBERS, {"name": name})
    for is_function, member in cursor.fetchall():
        yield member, is_function


def check_extensions(
    cursor: Cursor, needed: Sequence[AnyDependency], tables: Sequence[NewTable]
) -> None:
    """Raises ExtensionUnavailable: the target offers none, or an older pgvector than needed."""
    extensions = [each for each in needed if isinstance(each, ExtensionDependency)]
    states = extension_states(cursor, [each.name for each in extensions])
    for each in extensions:
        state = states[each.name]
        if state.installed is None and state.available is None:
            raise _unavailable(each.name)
        if each.name == _PGVECTOR:
            _check_pgvector(state, *_pgvector_needed(each, needed, tables))


def _unavailable(name: str) -> ExtensionUnavailable:
    if name == _PGVECTOR:
        return ExtensionUnavailable(
            "The target server has no pgvector, which the backup's tables need. Install it there "
            "(package postgresql-<version>-pgvector on Debian and Ubuntu, pgvector_<version> on "
            "Red Hat, or from github.com/pgvector/pgvector; managed services list it among their "
            "extensions), then restore again."
        )
    return ExtensionUnavailable(
        f"The target server has no extension {name}, which the backup's tables need. Install its "
        "package there (many are in postgresql-contrib), then restore again."
    )


def _check_pgvector(state: ExtensionState, needed: Version, reason: str) -> None:
    found = state.installed or state.available or ""
    if not needed or parsed_version(found) >= needed:
        return
    at_least = ".".join(map(str, needed))
    raise ExtensionUnavailable(
        f"The backup's tables use {reason}, for which pgvector {at_least} or newer is needed; the "
        f"target {'has' if state.installed else 'offers'} {found}. {_how_to_update(state, needed)}"
    )


def _how_to_update(state: ExtensionState, needed: Version) -> str:
    if state.installed and parsed_version(state.available or "") >= needed:
        return (
            f"Run ALTER EXTENSION vector UPDATE there (the server has {state.available}), then "
            "restore again."
        )
    update = ", run ALTER EXTENSION vector UPDATE" if state.installed else ""
    return f"Install a newer pgvector package on that server{update}, then restore again."


def parsed_version(text: str) -> Version:
    """`0.8.0` as numbers; what is no number ends it."""
    numbers = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()


def _pgvector_needed(
    pgvector: ExtensionDependency, needed: Sequence[AnyDependency], tables: Sequence[NewTable]
) -> tuple[Version, str]:
    """The version that these definitions need at least, and the newest thing in them."""
    for schema, name in names_used(needed, tables):
        if schema == pgvector.schema_name and _NAMES_OF_0_7.fullmatch(name):
            return _NEW_IN_0_7, name
    for relation in relations_of(tables):
        if any(index.access_method == "hnsw" for index in relation.indexes if index.valid):
            return _HNSW_SINCE, "hnsw"
    return _ANY_VERSION, ""
