"""One Dagster, one API and its callers for all tests, so that none runs during other tests."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline_tests.end_to_end.callers import (
    PASSWORD,
    TASK,
    WRONG_PASSWORD,
    Called,
    Stage,
)
from vector_backup_pipeline_tests.end_to_end.graphql_proxy import proxy_before
from vector_backup_pipeline_tests.fix_api import serving, settings_of
from vector_backup_pipeline_tests.fix_dagster import (
    QUICK_INSTANCE_CONFIG,
    DagsterDev,
    dagster_daemon,
    webserver_somewhere,
)
from vector_backup_pipeline_tests.fix_postgres import (
    LANGCHAIN_TABLES,
    Database,
    create_database,
    drop_database,
    find_free_port,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the test that sees Dagster before its daemon: a stopped daemon counts as alive for half
    an hour."""
    items.sort(key=lambda item: "test_api_outage" not in item.nodeid)


@pytest.fixture(scope="package")
def webserver(
    server18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterDev]:
    """Dagster's webserver, as the checkout configures it, and no daemon yet."""
    directory = tmp_path_factory.mktemp("dagster_dev")
    home, root = directory / "home", directory / "root"
    home.mkdir()
    root.mkdir()
    (home / "dagster.yaml").write_text(QUICK_INSTANCE_CONFIG)
    create_database(server18, "dagster_dev")
    database = Database(server18, "dagster_dev")
    database.run("CREATE EXTENSION vector")
    database.run(LANGCHAIN_TABLES)
    dev = DagsterDev(find_free_port(), home, root, database, directory / "log.txt")
    with webserver_somewhere(dev) as running:
        yield running
    drop_database(server18, "dagster_dev")


@pytest.fixture(scope="package")
def dagster_dev(webserver: DagsterDev) -> Iterator[DagsterDev]:
    """The webserver and the daemon."""
    with dagster_daemon(webserver):
        yield webserver


@pytest.fixture(scope="package")
def stage(dagster_dev: DagsterDev, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = dagster_dev.database.server
    create_database(server, "api_callers")
    callers = Database(server, "api_callers")
    callers.run("CREATE EXTENSION vector")
    callers.run(LANGCHAIN_TABLES)
    callers.create_role("api_owner", PASSWORD)
    callers.run("ALTER TABLE langchain_pg_collection OWNER TO api_owner")
    callers.run("ALTER TABLE langchain_pg_embedding OWNER TO api_owner")
    callers.create_role("api_stranger", PASSWORD)
    for task in (TASK, "callers_own", "canceled", "broken"):
        (dagster_dev.root / task).mkdir()
    # Where the directory of backups should be, there is a file.
    (dagster_dev.root / "broken" / "vector_bak").write_text("no directory")
    directory = tmp_path_factory.mktemp("staged_api")
    with (
        proxy_before(dagster_dev.webserver) as proxy,
        serving(directory, proxy.url, settings_of(dagster_dev)) as api,
    ):
        yield Stage(api, proxy, dagster_dev, callers)
    drop_database(server, "api_callers")


@pytest.fixture(scope="package")
def answers(stage: Stage) -> Mapping[str, Called]:
    """Eight concurrent callers with different requests."""
    owner = stage.callers.url_as("api_owner", PASSWORD)
    bodies: Mapping[str, Any] = {
        "empty": {},
        "task": {"task_id": TASK, "mode": "auto", "format": "binary", "compression": "zstd"},
        "truncate": {
            "task_id": "callers_own",
            "db_connection": owner,
            "truncate_vector_tables": True,
        },
        "no table": {"tables": ["langchain_pg_collection", "no\u0001where"]},
        "no server": {
            "db_connection": f"postgresql://u:{quote(WRONG_PASSWORD, safe='')}@127.0.0.1:1/d"
        },
        "wrong password": {"db_connection": stage.callers.url_as("api_owner", WRONG_PASSWORD)},
        "not allowed": {"db_connection": stage.callers.url_as("api_stranger", PASSWORD)},
        "no storage": {"task_id": "broken"},
    }
    with ThreadPoolExecutor(len(bodies)) as callers:
        called = {name: callers.submit(stage.back_up, body) for name, body in bodies.items()}
        return {name: call.result() for name, call in called.items()}
