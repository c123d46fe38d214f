"""Where things are born: in their own schema, or in the scratch schema that stands for it."""

from __future__ import annotations

from collections.abc import Iterable

from vector_backup_pipeline.engine.relocation import Name


class Birthplaces:
    """One scratch schema for each schema of the backup, so that app.docs and public.docs both fit.

    The first of `schemas` gets exactly `scratch`, the others `scratch_2`, `scratch_3`, …
    """

    def __init__(self, scratch: str | None, schemas: Iterable[str]) -> None:
        self._scratch: dict[str, str] = {}
        for number, schema in enumerate(dict.fromkeys(schemas), 1):
            if scratch is not None:
                self._scratch[schema] = scratch if number == 1 else f"{scratch}_{number}"

    @property
    def scratch_schemas(self) -> set[str]:
        return set(self._scratch.values())

    def schema(self, original: str) -> str:
        return self._scratch.get(original, original)

    def place(self, original: Name) -> Name:
        return self.schema(original[0]), original[1]
