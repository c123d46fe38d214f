"""Each table's backups as one asset, so that the UI keeps their history and plots their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg


def table_asset_key(table: str) -> dg.AssetKey:
    # As a list: a string would be split at every "/" of a table's name.
    return dg.AssetKey(["vector_backup", table])


def table_asset_specs(tables: Sequence[str]) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            table_asset_key(table),
            description=f"Backups of the table {table}.",
            group_name="vector_backup",
            kinds={"postgres", "csv"},
        )
        for table in tables
    ]
