"""The statements that make schemas, extensions, collations and types, from catalog rows."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import Row, text
from vector_backup_pipeline.engine.table_definition import (
    CollationDependency,
    CompositeAttribute,
    CompositeDependency,
    DomainConstraint,
    DomainDependency,
    EnumDependency,
    ExtensionDependency,
    RangeDependency,
    SchemaDependency,
)

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def schema(cursor: Cursor, row: Row) -> SchemaDependency:
    ddl = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(row["name"]))
    name = row["name"]
    return SchemaDependency(key="schema " + name, name=name, ddl=(text(cursor, ddl),))


def extension(cursor: Cursor, row: Row) -> ExtensionDependency:
    """With no version: the target's own is the one that it can install."""
    ddl = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}").format(
        sql.Identifier(row["name"]), sql.Identifier(row["schema_name"])
    )
    return ExtensionDependency(
        key="extension " + row["name"],
        name=row["name"],
        version=row["version"],
        schema_name=row["schema_name"],
        ddl=(text(cursor, ddl),),
    )


def collation(cursor: Cursor, row: Row) -> CollationDependency:
    provider = _PROVIDERS.get(row["provider"], "libc")
    parts: list[sql.Composable] = [sql.SQL("provider = {}").format(sql.SQL(provider))]
    if provider == "libc":
        parts.append(sql.SQL("lc_collate = {}").format(sql.Literal(row["lc_collate"])))
        parts.append(sql.SQL("lc_ctype = {}").format(sql.Literal(row["lc_ctype"])))
    else:
        parts.append(sql.SQL("locale = {}").format(sql.Literal(row["locale"])))
    if not row["deterministic"]:
        parts.append(sql.SQL("deterministic = false"))
    if row["rules"]:
        parts.append(sql.SQL("rules = {}").format(sql.Literal(row["rules"])))
    ddl = sql.SQL("CREATE COLLATION {} ({})").format(_name(row), sql.SQL(", ").join(parts))
    return CollationDependency(
        key=_key("collation", row),
        schema_name=row["schema_name"],
        name=row["name"],
        provider=provider,
        ddl=(text(cursor, ddl),),
    )


def enum(cursor: Cursor, row: Row) -> EnumDependency:
    labels = sql.SQL(", ").join(sql.Literal(label) for label in row["labels"])
    ddl = sql.SQL("CREATE TYPE {} AS ENUM ({})").format(_name(row), labels)
    return EnumDependency(
        key=_key("enum", row),
        schema_name=row["schema_name"],
        name=row["name"],
        labels=tuple(row["labels"]),
        ddl=(text(cursor, ddl), *_comment(cursor, "TYPE", row)),
    )


def domain(cursor: Cursor, row: Row) -> DomainDependency:
    checks = [each for each in row["constraints"] if each["contype"] == "c"]
    return DomainDependency(
        key=_key("domain", row),
        schema_name=row["schema_name"],
        name=row["name"],
        base=row["base"],
        collation=row["collation"],
        default=row["default"],
        not_null=row["not_null"],
        constraints=tuple(
            DomainConstraint(
                name=each["name"], definition=each["definition"], validated=each["validated"]
            )
            for each in checks
        ),
        ddl=tuple(_domain_ddl(cursor, row, checks)),
    )


def _domain_ddl(cursor: Cursor, row: Row, checks: list[Row]) -> Iterator[str]:
    parts: list[sql.Composable] = [
        sql.SQL("CREATE DOMAIN {} AS {}").format(_name(row), sql.SQL(row["base"]))
    ]
    if row["collation"]:
        parts.append(sql.SQL("COLLATE {}").format(sql.SQL(row["collation"])))
    if row["default"] is not None:
        parts.append(sql.SQL("DEFAULT {}").format(sql.SQL(row["default"])))
    if row["not_null"]:
        parts += [_constraint(each) for each in row["constraints"] if each["contype"] == "n"] or [
            sql.SQL("NOT NULL")
        ]
    parts += [_constraint(each) for each in checks if each["validated"]]
    yield text(cursor, sql.SQL(" ").join(parts))
    for each in checks:
        if not each["validated"]:
            late = sql.SQL("ALTER DOMAIN {} ADD {}").format(_name(row), _constraint(each))
            yield text(cursor, late)
    yield from _comment(cursor, "DOMAIN", row)
    for each in row["constraints"]:
        if each["comment"] is not None:
            comment = sql.SQL("COMMENT ON CONSTRAINT {} ON DOMAIN {} IS {}").format(
                sql.Identifier(each["name"]), _name(row), sql.Literal(each["comment"])
            )
            yield text(cursor, comment)


def _constraint(row: Row) -> sql.Composed:
    return sql.SQL("CONSTRAINT {} {}").format(
        sql.Identifier(row["name"]), sql.SQL(row["definition"])
    )


def composite(cursor: Cursor, row: Row) -> CompositeDependency:
    attributes = tuple(
        CompositeAttribute(name=each["name"], type=each["type"], collation=each["collation"])
        for each in row["attributes"]
    )
    ddl = sql.SQL("CREATE TYPE {} AS ({})").format(
        _name(row), sql.SQL(", ").join(_attribute(each) for each in attributes)
    )
    comments = tuple(
        text(
            cursor,
            sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                sql.Identifier(row["schema_name"], row["name"], each["name"]),
                sql.Literal(each["comment"]),
            ),
        )
        for each in row["attributes"]
        if each["comment"] is not None
    )
    return CompositeDependency(
        key=_key("composite", row),
        schema_name=row["schema_name"],
        name=row["name"],
        attributes=attributes,
        ddl=(text(cursor, ddl), *_comment(cursor, "TYPE", row), *comments),
    )


def _attribute(attribute: CompositeAttribute) -> sql.Composed:
    parts: list[sql.Composable] = [sql.Identifier(attribute.name), sql.SQL(attribute.type)]
    if attribute.collation:
        parts.append(sql.SQL("COLLATE {}").format(sql.SQL(attribute.collation)))
    return sql.SQL(" ").join(parts)


def range_type(cursor: Cursor, row: Row) -> RangeDependency:
    """A canonical function needs the type before itself: such ranges are not recreated."""
    parts = [sql.SQL("subtype = {}").format(sql.SQL(row["subtype"]))]
    multirange = None
    if row["multirange_name"]:
        name = sql.Identifier(row["multirange_schema"], row["multirange_name"])
        multirange = text(cursor, name)
        parts.append(sql.SQL("multirange_type_name = {}").format(name))
    for option, key in (
        ("subtype_opclass = {}", "operator_class"),
        ("collation = {}", "collation"),
        ("subtype_diff = {}", "difference"),
    ):
        if row[key]:
            parts.append(sql.SQL(option).format(sql.SQL(row[key])))
    ddl = sql.SQL("CREATE TYPE {} AS RANGE ({})").format(_name(row), sql.SQL(", ").join(parts))
    return RangeDependency(
        key=_key("range", row),
        schema_name=row["schema_name"],
        name=row["name"],
        subtype=row["subtype"],
        multirange=multirange,
        ddl=(text(cursor, ddl), *_comment(cursor, "TYPE", row)),
    )


def _name(row: Row) -> sql.Identifier:
    return sql.Identifier(row["schema_name"], row["name"])


def _key(kind: str, row: Row) -> str:
    return " ".join((kind, row["schema_name"] + "." + row["name"]))


def _comment(cursor: Cursor, kind: str, row: Row) -> tuple[str, ...]:
    if row["comment"] is None:
        return ()
    comment = sql.SQL("COMMENT ON {} {} IS {}").format(
        sql.SQL(kind), _name(row), sql.Literal(row["comment"])
    )
    return (text(cursor, comment),)
