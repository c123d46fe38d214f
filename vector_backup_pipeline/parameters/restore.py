"""The parameters of a restore."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import ANY, Exclusion, Parameters, Shown
from vector_backup_pipeline.parameters.table_names import check_different, parse_table_name

_MAX_NAME_BYTES = 63  # NAMEDATALEN - 1
# The server counts kB in 31 bits.
_MEMORY = "^([1-9][0-9]{0,8}kB|[1-9][0-9]{0,5}MB|[1-9][0-9]{0,2}GB|1TB)?$"


def _rename(rename: Mapping[str, str]) -> Mapping[str, str]:
    check_different(tuple(rename.values()))
    for target in rename.values():
        name = parse_table_name(target)
        for part in (name.schema or "", name.name):
            # The server would truncate it and create another table.
            if len(part.encode()) > _MAX_NAME_BYTES:
                raise ValueError(f"has {part!r}; a name has at most {_MAX_NAME_BYTES} bytes.")
    return rename


# They select rows by what key files say.
_BY_KEY = ("keys_from", "where_removed_since")


class RestoreParameters(Parameters):
    """The parameters of a restore."""

    EXAMPLES: ClassVar[dict[str, Any]] = {
        "The newest complete set": {"timestamp": types.LATEST},
        "One of LangChain's collections, over the existing rows": {
            "timestamp": types.LATEST,
            "collections": ["handbook"],
            "on_conflict": "replace",
        },
    }
    LOCAL_FILES = ("keys_from",)
    EXCLUSIONS = (
        types.ONE_LOCATION,
        *(
            Exclusion(
                {key: ANY, "truncate_before_restore": [True]},
                "truncating would remove all other rows. To put some rows back over the existing "
                "ones, use on_conflict 'replace'.",
            )
            for key in ("collections", *_BY_KEY)
        ),
        *(
            Exclusion({one: ANY, other: ANY}, "both select rows. Give one of them.")
            for one, other in combinations(("collections", *_BY_KEY), 2)
        ),
        Exclusion(
            {"fire_triggers": [True], "disable_triggers": [True]},
            "triggers are either fired or disabled.",
        ),
        Exclusion(
            {"on_conflict": ["skip", "replace"], "truncate_before_restore": [True]},
            "an empty table has no conflicting rows.",
        ),
    )

    timestamp: types.SetName = Field(min_length=1)
    """Backup set to restore: its timestamp, such as 20250721_234914, or latest for the newest
    complete one. vector-backup list shows the sets."""
    source_database: Annotated[
        types.SourceDatabase, Shown(default="the only one with sets, else the target")
    ] = None
    backup_path: Annotated[types.BackupPath, Shown(default="the root's own directory")] = None
    task_id: types.TaskId = None
    db_connection: types.Connection = None
    tables: Annotated[types.Tables | None, Shown(default="all")] = Field(
        None, examples=[["docs", "app.images"]]
    )
    """Tables of the set to restore."""
    truncate_before_restore: bool = False
    """Truncate the target tables first, in the same transaction."""
    on_conflict: types.OnConflict = Field("fail", examples=["skip"])
    """If a row's key exists in the target: fail (nothing is restored), skip the row, or replace the
    existing row."""
    rename: Annotated[dict[types.TableText, types.TableText], AfterValidator(_rename)] = Field(
        {}, examples=[{"docs": "restored.docs"}], json_schema_extra={"additionalProperties": False}
    )
    """New names for tables in the target: name or schema.name."""
    collections: Annotated[types.Names | None, Shown(default="all")] = Field(
        None, examples=[["handbook"]]
    )
    """Restore only these of LangChain's collections, with their embeddings."""
    keys_from: Annotated[str | None, Shown(default="all rows")] = Field(
        None, examples=["keys.jsonl"]
    )
    """Restore only the rows whose primary keys are in this file: a JSON object per line, such as
    {"id": 7}. Requires a set with key files."""
    where_removed_since: Annotated[str | None, Shown(default="all rows")] = Field(
        None, examples=["20250720_234914"]
    )
    """Timestamp of an earlier set: restore only those of its rows that the set at timestamp lacks
    or has with other values. Requires sets with key files."""
    fire_triggers: bool = False
    """Fire the triggers of the target tables. By default, a table with triggers that the restore
    would fire is refused."""
    disable_triggers: bool = False
    """Disable the triggers of the target tables during the load. Requires the tables' owner or a
    superuser."""
    allow_other_versions: bool = False
    """Accept binary files of another version of PostgreSQL or pgvector."""
    workers: types.Workers = types.DEFAULT_WORKERS
    maintenance_work_mem: Annotated[str | None, Shown(default="the server's")] = Field(
        None, pattern=_MEMORY, examples=["2GB"]
    )
    """Memory for building an index, in kB, MB or GB."""
    max_parallel_maintenance_workers: Annotated[int | None, Shown(default="the server's")] = Field(
        None, ge=0, le=1024, examples=[2]
    )
    """Parallel worker processes for building an index."""
    probes: types.Probes = types.DEFAULT_PROBES
    progress_every: types.ProgressEvery = types.DEFAULT_PROGRESS_EVERY

    @property
    def selects_rows(self) -> bool:
        selections = self.collections, self.keys_from, self.where_removed_since
        return any(selection is not None for selection in selections)

    @property
    def loads_every_row_as_it_is(self) -> bool:
        """Whether each row of the files goes into the target, so that digests can be compared."""
        return self.on_conflict == "fail" and not self.selects_rows
