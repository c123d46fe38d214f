"""What files a run writes, and which tables can be written so."""

from __future__ import annotations

from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.file_names import data_extension
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.table_definition import TableDefinition
from vector_backup_pipeline.parameters.types import Compression, Format

# The text of vectors is 2.5 times as long as their binary form in the table; all other forms are at
# most about as large. A guess, for a store that has to choose early how to cut a file up.
_TEXT_EXPANSION = 3


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
        """A guess at the size of the table's file in bytes; it may be half of the truth."""
        is_plain_text = (self.format, self.compression) == ("csv", "none")
        return table.size * (_TEXT_EXPANSION if is_plain_text else 1)

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
                f"{table.table.requested} can't be backed up in format 'binary': the binary form "
                f"of {', '.join(found)} holds object numbers that mean something else in another "
                "database, or there is none. Use format 'csv'."
            )
