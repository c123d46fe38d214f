"""What recreates a table in an empty database: SQL statements, and the facts a restore decides by.

A backup reads them from the server's catalogs; the manifest stores them as JSON.
"""

from enum import Enum
from typing import Literal, NamedTuple

from pydantic import Field

from vector_backup_pipeline.engine.record import Record


class Kind(str, Enum):
    """What a statement does. Statements run in the order of their kinds.

    Constraints that existing rows may violate, foreign keys and row security come after the rows:
    FORCE ROW LEVEL SECURITY would filter the restoring owner's own statements.
    """

    TYPE = "type"
    DOMAIN = "domain"
    DOMAIN_CONSTRAINT = "domain constraint"
    SEQUENCE = "sequence"
    TABLE = "table"
    COLUMN = "column"
    PARTITION = "partition"
    SEQUENCE_OWNER = "sequence owner"
    # A server may refuse these: other versions know other options. No row depends on them.
    SETTING = "setting"
    # The rows are loaded here.
    KEY = "key"
    INDEX = "index"
    INDEX_SETTING = "index setting"
    INDEX_PARTITION = "index partition"
    INDEX_CHOICE = "index choice"
    STATISTICS = "statistics"
    STATISTICS_TARGET = "statistics target"
    CONSTRAINT = "constraint"
    FOREIGN_KEY = "foreign key"
    POLICY = "policy"
    ROW_SECURITY = "row security"
    COMMENT = "comment"


class Statement(NamedTuple):
    """One SQL statement. The name is that of the object it creates, else of the one it alters."""

    kind: Kind
    schema_name: str
    name: str
    sql: str

    @property
    def qualified_name(self) -> tuple[str, str]:
        return self.schema_name, self.name


class QualifiedName(Record):
    """Names without quotes."""

    schema_name: str
    name: str

    def __str__(self) -> str:
        return self.schema_name + "." + self.name

    @property
    def qualified_name(self) -> tuple[str, str]:
        return self.schema_name, self.name


class ColumnType(Record):
    """`text` is SQL, qualified and with its modifier: `public.vector(3)`."""

    text: str
    schema_name: str
    name: str
    modifier: int = Field(description="atttypmod, -1 for none")
    binary_portable: bool = Field(
        description="false where there is no binary form, or it holds OIDs of the source database: "
        "reg* types, composites, and arrays of types that are not built in, also nested ones"
    )

    @property
    def is_large_object(self) -> bool:
        """Whether values are OIDs of large objects, by the type of the extension lo."""
        return self.name in ("lo", "_lo")


class Column(Record):
    name: str
    type: ColumnType
    generated: bool


class Index(Record):
    """An index that no constraint owns, with the statement that creates it."""

    table: QualifiedName
    name: str
    access_method: str
    sql: str
    has_rows: bool = Field(description="false for a partitioned table's own index")

    @property
    def statement(self) -> Statement:
        return Statement(Kind.INDEX, self.table.schema_name, self.name, self.sql)


class ForeignKey(Record):
    """A foreign key with its statement, which runs only if the other table exists."""

    table: QualifiedName
    name: str
    references: QualifiedName
    sql: str

    @property
    def statement(self) -> Statement:
        return Statement(Kind.FOREIGN_KEY, *self.table.qualified_name, self.sql)


class Sequence(QualifiedName):
    """A sequence that a column owns (identity, serial) or only draws from (shared).

    The value is read outside the snapshot, so it is never behind the rows.
    """

    role: Literal["identity", "serial", "shared"]
    table: QualifiedName
    column: str
    increment: int
    minimum: int
    maximum: int
    last_value: int | None = Field(description="null where the role may not read it")
    is_called: bool | None


class ObjectAddress(Record):
    """An object that the statements use and the backup does not contain: a function, an operator,
    a role, a member of an extension. The first three fields are those of
    pg_identify_object_as_address()."""

    kind: str
    names: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    description: str
    extension: str | None = Field(None, description="the extension that it is a member of")

    def __str__(self) -> str:
        return self.description


class OmissionKind(str, Enum):
    GRANT = "grant"
    TRIGGER = "trigger"
    RULE = "rule"
    PUBLICATION = "publication"
    SECURITY_LABEL = "security label"
    TABLESPACE = "tablespace"
    INVALID_INDEX = "invalid index"
    FOREIGN_SERVER = "foreign server"
    LARGE_OBJECTS = "large objects"
    SEQUENCE_VALUE = "sequence value"
    # Inheritance, a partition's parent, a typed table's type, an identity.
    STRUCTURE = "structure"
    OTHER = "other"
    # A table cannot be created without these; its rows can be restored into an existing one.
    UNREAD_POLICY = "unread policy"
    NO_STATEMENTS = "no statements"


class Omission(Record):
    """Something of the table that a restore does not recreate. `text` is for display."""

    kind: OmissionKind
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def prevents_creation(self) -> bool:
        return self.kind in (OmissionKind.UNREAD_POLICY, OmissionKind.NO_STATEMENTS)


class TableDefinition(QualifiedName):
    """A table and all its partitions."""

    owner: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    created_with: QualifiedName | None = Field(
        None, description="the partitioned table that creates this one, which has no own statements"
    )
    ddl: tuple[Statement, ...] = Field((), description="in the order of `Kind`")
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    needs: tuple[str, ...] = Field(
        (), description="keys of the dependencies that must exist first, in creation order"
    )
    requires: tuple[ObjectAddress, ...] = Field((), description="what the target must have already")
    omissions: tuple[Omission, ...] = ()

    def statements(self, *kinds: Kind) -> tuple[Statement, ...]:
        return tuple(statement for statement in self.ddl if statement.kind in kinds)

    @property
    def created(self) -> tuple[Statement, ...]:
        """The statements that create a relation or statistics object, all in one namespace."""
        kinds = (Kind.SEQUENCE, Kind.TABLE, Kind.KEY, Kind.STATISTICS)
        return (*self.statements(*kinds), *(index.statement for index in self.indexes))


class Dependency(QualifiedName):
    """An extension or a type that tables need first.

    An extension is created in the version that the target has; `version` is the source's.
    """

    kind: Literal["extension", "type"]
    version: str | None = None
    ddl: tuple[Statement, ...] = ()

    @property
    def key(self) -> str:
        return self.name if self.kind == "extension" else str(self)


class Definitions(Record):
    """All tables of a set by their OID in the source, and what they need, in creation order."""

    tables: dict[int, TableDefinition]
    dependencies: tuple[Dependency, ...]
