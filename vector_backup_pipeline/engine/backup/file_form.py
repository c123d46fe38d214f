"""What files a run writes, and which tables can be written so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.file_names import data_extension
from vector_backup_pipeline.engine.parameters import Compression, Format
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.table_definition import TableDefinition

# How much larger than the table with its TOAST a file is at most, compressed or not: the text of
# vectors is 2.5 times as long as their binary form. A store that cuts files up goes by it.
_EXPANSION: Mapping[tuple[Format, bool], float] = {
    ("csv", False): 4.0,
    ("csv", True): 2.0,
    ("binary", False): 2.0,
    ("binary", True): 1.5,
}


@dataclass(frozen=True)
class FileForm:
    """`level` of the compression; None is the codec's fast one."""

    format: Format
    compression: Compression
    level: int | None

    @property
    def extension(self) -> str:
        return data_extension(self.format, self.compression)

    def expected_size(self, table: TableSource) -> int:
        """A guess at the size of the table's file in bytes, rather too large."""
        return int(table.size * _EXPANSION[self.format, self.compression != "none"])

    def check(self, table: TableSource, definition: TableDefinition) -> None:
        """Raises `InvalidParams` for a table that can't be written in this form."""
        if self.format == "csv":
            return
        found = [
            f"{column.name} ({column.type.text})"
            for column in definition.columns
            if column.name in table.columns and not column.type.binary_portable
        ]
        if found:
            raise InvalidParams(
                f"{table.found.requested} can't be backed up in format 'binary': the binary form "
                f"of {', '.join(found)} holds object numbers that mean something else in another "
                "database, or there is none. Use format 'csv'."
            )
