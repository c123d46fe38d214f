"""A stand-in for Dagster's webserver."""

from collections.abc import Iterator

import pytest

from vector_backup_pipeline_tests.api.dagster_stand_in import DagsterServer, StandIn


@pytest.fixture(scope="module")
def _dagster_server() -> Iterator[tuple[DagsterServer, str]]:
    server = DagsterServer()
    with server.running() as running:
        yield server, running.url


@pytest.fixture
def dagster(_dagster_server: tuple[DagsterServer, str]) -> StandIn:
    server, url = _dagster_server
    server.stand_in = StandIn(url=url)
    return server.stand_in
