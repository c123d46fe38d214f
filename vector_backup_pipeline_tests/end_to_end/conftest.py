"""One Dagster and one API for this package, so that they don't run during other tests."""

from collections.abc import Iterator

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline_tests.fix_api import Api, serving, settings_of
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
def api(dagster_dev: DagsterDev, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API on the loopback interface, without a token."""
    directory = tmp_path_factory.mktemp("api")
    with serving(directory, dagster_dev.webserver, settings_of(dagster_dev)) as running:
        yield running
