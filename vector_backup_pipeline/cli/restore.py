"""`vector-backup restore`."""

import csv
from collections.abc import Sequence
from typing import Any

import click

from vector_backup_pipeline.cli.connection import handed_over
from vector_backup_pipeline.cli.options import json_option, progress_option
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.parameters import DEFAULT_WORKERS
from vector_backup_pipeline.engine.restore.request import CONFLICT_RULES, DEFAULT_PROBES
from vector_backup_pipeline.settings import split_tables


@click.command("restore")
@click.option(
    "--timestamp",
    metavar="STAMP",
    help="Which set, such as 20250721_234914, or latest for the newest complete one. Required; "
    "vector-backup list shows what is there.",
)
@click.option(
    "--source-database",
    metavar="NAME",
    help="Database whose newest set latest is, such as rag: its name as vector-backup list shows "
    "it, or {system_identifier}/{name} if servers share the name. Default: the only one with sets, "
    "else the target.",
)
@click.option(
    "--backup-path",
    metavar="PATH",
    help="Where the set is: under the root, absolute or relative to the root's parent, such as "
    "training_data/vector_bak. Default: the root's own backup directory.",
)
@click.option(
    "--task-id", metavar="ID", help="The set of this task, such as corpus_7. Default: none."
)
@click.option(
    "--db-connection",
    metavar="STRING",
    help="Restore into another database: postgresql://user@host:5432/dbname or 'host=db "
    "dbname=rag'. Other processes can see a command line: better set that variable. Default: "
    "VECTOR_BACKUP_DB_URL.",
)
@click.option(
    "--tables",
    metavar="A,B",
    help="Only these tables of the set, comma-separated, such as docs,app.images. Default: all.",
)
@click.option(
    "--truncate-before-restore",
    is_flag=True,
    help="Empty the target tables first, in the same transaction. Default: off.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(CONFLICT_RULES),
    default="fail",
    show_default=True,
    help="What becomes of a row whose key is there: --on-conflict skip leaves it, replace puts the "
    "backup's in its place, fail restores nothing.",
)
@click.option(
    "--rename",
    multiple=True,
    metavar="OLD=NEW",
    help="Restore a table under another name or in another schema, such as docs=rescued.docs; may "
    "be given several times. Default: none.",
)
@click.option(
    "--collections",
    metavar="A,B",
    help="Only these of LangChain's collections with their embeddings, comma-separated, such as "
    "handbook,faq; in double quotes a name that holds a comma. Default: all rows.",
)
@click.option(
    "--fire-triggers",
    is_flag=True,
    help="Let the target tables' triggers run. Without it, a table with triggers that the restore "
    "would fire is refused. Default: off.",
)
@click.option(
    "--disable-triggers",
    is_flag=True,
    help="Load without the target tables' triggers, which the tables' owner may do. Default: off.",
)
@click.option(
    "--allow-other-versions",
    is_flag=True,
    help="Load binary files into another version of PostgreSQL or pgvector than wrote them. "
    "Default: off.",
)
@click.option(
    "--workers",
    type=int,
    default=DEFAULT_WORKERS,
    show_default=True,
    metavar="N",
    help="Parallel connections where all tables are new in the target, such as 4.",
)
@click.option(
    "--maintenance-work-mem",
    metavar="SIZE",
    help="Memory for building indexes, such as 2GB. Default: the server's own.",
)
@click.option(
    "--max-parallel-maintenance-workers",
    type=int,
    metavar="N",
    help="Processes that help to build one index, such as 4. Default: the server's own.",
)
@click.option(
    "--probes",
    type=int,
    default=DEFAULT_PROBES,
    show_default=True,
    metavar="N",
    help="Searches to measure each vector index's recall with, such as 20; 0 for none.",
)
@progress_option
@json_option
def command(
    tables: str | None,
    collections: str | None,
    rename: tuple[str, ...],
    db_connection: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Restore a backup set, proven, all or nothing.

    \b
    Examples:
      vector-backup restore --timestamp latest
      vector-backup restore --timestamp 20250721_234914 --truncate-before-restore
      vector-backup restore --timestamp latest --collections handbook --on-conflict replace
    """
    given["tables"] = None if tables is None else list(split_tables(tables))
    given["collections"] = None if collections is None else _collection_names(collections)
    given["rename"] = _renamed(rename)
    parameters = {key: value for key, value in given.items() if value is not None}
    return _run_restore(parameters, db_connection, as_json=as_json)


def _renamed(pairs: Sequence[str]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InvalidParams(f"--rename is {pair!r}; write OLD=NEW, such as docs=rescued.docs.")
        if old in renamed:
            raise InvalidParams(f"--rename gives {old} two new names: {renamed[old]} and {new}.")
        renamed[old] = new
    return renamed


def _collection_names(text: str) -> list[str]:
    """Comma-separated as in CSV: a name that holds a comma stands in double quotes."""
    return next(csv.reader([text]), [])


def _run_restore(parameters: dict[str, Any], db_connection: str | None, *, as_json: bool) -> int:
    from vector_backup_pipeline.call_checks import check_restore
    from vector_backup_pipeline.launch import launch_restore
    from vector_backup_pipeline.terminal import restore_summary

    check_restore(parameters, db_connection)
    if db_connection is not None:
        parameters = {**parameters, "db_connection": handed_over(db_connection)}
    return show_outcome(launch_restore(parameters), restore_summary, as_json=as_json)
