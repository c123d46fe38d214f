"""What a table is, apart from its rows: the nouns with which an empty database recreates it.

Plain values, no SQL connection: they go into the manifest as JSON and come back equal. The
statements inside are run as they are, with no parameters, in this order:

    dependencies.ddl, then over all tables at once: sequence_ddl, ddl, preference_ddl
    (rows)
    key_ddl, index_ddl, late_constraint_ddl, foreign_key_ddl, sequence_values, row_security_ddl,
    comment_ddl, sequence_comment_ddl

`ddl` of an inheritance parent must run before its children's: `inherits` names the parents.
Row security comes late because `FORCE` would filter the restoring owner's own statements.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vector_backup_pipeline.engine.record import Record

Kind = Literal["ordinary", "partitioned", "foreign"]
Persistence = Literal["permanent", "unlogged", "temporary"]
ReplicaIdentity = Literal["default", "full", "nothing", "index"]


class QualifiedName(Record):
    """Names as they are, unquoted."""

    schema_name: str
    name: str

    def __str__(self) -> str:
        return self.schema_name + "." + self.name


class ColumnType(Record):
    """`text` is SQL, qualified and with its modifier: `public.vector(3)`."""

    text: str
    schema_name: str
    name: str
    category: str = Field(description="pg_type.typcategory: A array, C composite, E enum, …")
    kind: str = Field(description="pg_type.typtype: b base, c composite, d domain, e enum, …")
    modifier: int = Field(description="atttypmod, -1 for none")
    binary_portable: bool = Field(
        description="false where there is no binary form, or it holds OIDs of the source database: "
        "reg* types, composites, and arrays of types that are not built in, also deep inside"
    )

    @property
    def is_large_object(self) -> bool:
        """Whether values are OIDs of large objects, by the type of the extension lo."""
        return self.name in ("lo", "_lo") and self.kind in ("b", "d")


class Column(Record):
    """One live column. Expressions and collations are SQL with qualified names."""

    name: str
    type: ColumnType
    not_null: bool
    default: str | None = None
    generated: Literal["stored", "virtual"] | None = None
    generated_as: str | None = None
    identity: Literal["always", "by default"] | None = None
    collation: str | None = Field(None, description="only where it is not the type's own")
    storage: str | None = Field(None, description="only where it is not the type's own")
    compression: str | None = None
    statistics_target: int | None = None
    options: dict[str, str] = Field(default_factory=dict)
    local: bool = Field(True, description="defined here, and not only by an inheritance parent")
    inherited: bool = False


class Constraint(Record):
    """`kind` is pg_constraint.contype: p, u, c, f, x or n (not null, from PostgreSQL 18)."""

    name: str
    kind: Literal["p", "u", "c", "f", "x", "n"]
    definition: str
    columns: tuple[str, ...]
    validated: bool
    local: bool
    inherited: bool
    no_inherit: bool = Field(False, description="of a NOT NULL constraint")
    references: QualifiedName | None = None
    index_options: dict[str, str] = Field(default_factory=dict)
    attached_to: QualifiedName | None = Field(
        None, description="the partitioned parent's index, of which this one's index is a part"
    )


class Index(Record):
    """An index that no constraint owns; it lives in its table's schema."""

    name: str
    definition: str
    access_method: str
    unique: bool
    valid: bool
    operator_classes: tuple[QualifiedName, ...] = ()
    statistics_targets: dict[int, int] = Field(
        default_factory=dict, description="by the column's number in the index"
    )
    attached_to: QualifiedName | None = None


class Sequence(QualifiedName):
    """`role`: identity and serial sequences are owned by `column`; shared ones are only used."""

    role: Literal["identity", "serial", "shared"]
    table: QualifiedName
    column: str
    data_type: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycle: bool
    unlogged: bool
    last_value: int | None = Field(description="null where the role may not read it")
    is_called: bool | None


class SequenceValue(QualifiedName):
    """The arguments of `setval`; read outside the snapshot, so never behind the rows."""

    last_value: int
    is_called: bool


class Policy(Record):
    name: str
    permissive: bool
    command: Literal["ALL", "SELECT", "INSERT", "UPDATE", "DELETE"]
    roles: tuple[str, ...] = Field(description="empty means PUBLIC")
    using: str | None
    with_check: str | None


class Statistics(QualifiedName):
    """Extended statistics: the object, not the numbers, which ANALYZE makes anew."""

    definition: str
    target: int | None = None


class Comment(Record):
    on: Literal["TABLE", "COLUMN", "CONSTRAINT", "INDEX", "POLICY", "SEQUENCE", "STATISTICS"]
    name: str
    schema_name: str | None = Field(None, description="of sequences and statistics")
    text: str


class SequenceComment(QualifiedName):
    """A sequence's comment, kept apart because a shared sequence of the target keeps its own."""

    ddl: str


class UnreadPolicy(Record):
    """A row security policy whose expressions the backup could not read without waiting."""

    table: QualifiedName
    name: str


class ForeignKey(Record):
    """A foreign key's statement, kept apart because the other table may not be restored."""

    table: QualifiedName
    name: str
    references: QualifiedName
    ddl: str


class ExternalObject(Record):
    """An object that a backup names but does not hold: a function, operator, text search
    configuration, … The first three fields are those of pg_identify_object_as_address."""

    kind: str
    names: tuple[str, ...]
    arguments: tuple[str, ...]
    description: str

    def __str__(self) -> str:
        return self.description


class Relation(QualifiedName):
    """What a table and each of its partitions have alike."""

    kind: Kind
    persistence: Persistence
    access_method: str | None
    options: dict[str, str]
    toast_options: dict[str, str]
    owner: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    statistics: tuple[Statistics, ...]
    policies: tuple[Policy, ...]
    row_security: bool
    row_security_forced: bool
    replica_identity: ReplicaIdentity
    replica_identity_index: str | None
    clustered_on: str | None
    partition_key: str | None
    of_type: str | None
    comments: tuple[Comment, ...]


class Partition(Relation):
    """One node of the partition tree below a table; its columns may be in another order."""

    parent: QualifiedName
    bound: str


class TableDefinition(Relation):
    """A table with all that is needed to recreate it; the module says in which order."""

    partitions: tuple[Partition, ...] = Field(description="the whole tree, parents first")
    partition_of: QualifiedName | None = None
    partition_bound: str | None = None
    created_with: QualifiedName | None = Field(
        None, description="the partitioned table whose statements create this one; ours are empty"
    )
    inherits: tuple[QualifiedName, ...] = Field((), description="parents that must exist before")
    sequences: tuple[Sequence, ...]
    sequence_values: tuple[SequenceValue, ...]
    needs: tuple[str, ...] = Field(description="keys of the dependencies used, in creation order")
    external_objects: tuple[ExternalObject, ...] = Field(
        (), description="what the table depends on and the target must have already"
    )
    not_recreated: tuple[str, ...] = Field(
        description="in words; the owner and unread policies are not among them"
    )
    unread_policies: tuple[UnreadPolicy, ...] = ()
    sequence_ddl: tuple[str, ...] = ()
    ddl: tuple[str, ...] = ()
    preference_ddl: tuple[str, ...] = Field(
        (), description="each may fail on a server that does not know the option; no row is lost"
    )
    key_ddl: tuple[str, ...] = ()
    index_ddl: tuple[str, ...] = ()
    late_constraint_ddl: tuple[str, ...] = Field(
        (), description="NOT VALID and NOT ENFORCED constraints, which the rows may not satisfy"
    )
    foreign_keys: tuple[ForeignKey, ...] = ()
    row_security_ddl: tuple[str, ...] = ()
    comment_ddl: tuple[str, ...] = ()
    sequence_comments: tuple[SequenceComment, ...] = ()

    @property
    def sequence_comment_ddl(self) -> tuple[str, ...]:
        return tuple(comment.ddl for comment in self.sequence_comments)

    @property
    def foreign_key_ddl(self) -> tuple[str, ...]:
        return tuple(key.ddl for key in self.foreign_keys)


class Dependency(Record):
    """`key` is unique in a set: the kind and the qualified name."""

    key: str
    ddl: tuple[str, ...]


class SchemaDependency(Dependency):
    kind: Literal["schema"] = "schema"
    name: str


class ExtensionDependency(Dependency):
    """Created in the version that the target has; `version` is the source's."""

    kind: Literal["extension"] = "extension"
    name: str
    version: str
    schema_name: str


class CollationDependency(Dependency, QualifiedName):
    kind: Literal["collation"] = "collation"
    provider: str


class EnumDependency(Dependency, QualifiedName):
    kind: Literal["enum"] = "enum"
    labels: tuple[str, ...]


class DomainConstraint(Record):
    name: str
    definition: str
    validated: bool


class DomainDependency(Dependency, QualifiedName):
    kind: Literal["domain"] = "domain"
    base: str
    collation: str | None
    default: str | None
    not_null: bool
    constraints: tuple[DomainConstraint, ...]


class CompositeAttribute(Record):
    name: str
    type: str
    collation: str | None


class CompositeDependency(Dependency, QualifiedName):
    kind: Literal["composite"] = "composite"
    attributes: tuple[CompositeAttribute, ...]


class RangeDependency(Dependency, QualifiedName):
    kind: Literal["range"] = "range"
    subtype: str
    multirange: str | None


AnyDependency = Annotated[
    SchemaDependency
    | ExtensionDependency
    | CollationDependency
    | EnumDependency
    | DomainDependency
    | CompositeDependency
    | RangeDependency,
    Field(discriminator="kind"),
]


class Dependencies(Record):
    """What tables share and need first, in creation order; each one's `ddl` may be run alone.

    Types have no `IF NOT EXISTS`: whoever restores skips those that are there.
    """

    objects: tuple[AnyDependency, ...]
    not_recreated: tuple[str, ...]

    @property
    def ddl(self) -> tuple[str, ...]:
        return tuple(statement for each in self.objects for statement in each.ddl)


class Definitions(Record):
    """All tables of a set by their OID in the source, and what they share."""

    tables: dict[int, TableDefinition]
    dependencies: Dependencies
