"""A second server, to which an address may lead; and less patience with a lost COMMIT."""

from collections.abc import Iterator

import pytest

from vector_backup_pipeline.engine.postgres import commit
from vector_backup_pipeline_tests.fix_postgres import Database, create_database, drop_database


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server at once for the outcome of a lost COMMIT."""
    monkeypatch.setattr(commit, "_ASK_EVERY_SECONDS", 0.05)


@pytest.fixture
def server16_port(langchain: Database, request: pytest.FixtureRequest) -> Iterator[int]:
    """PostgreSQL 16 with a database of the same name, the same password and later transactions."""
    other = request.getfixturevalue("server16")
    create_database(other, langchain.name)
    database = Database(other, langchain.name)
    database.run("ALTER ROLE postgres PASSWORD 'p'")
    # It then has all transaction ids of the run's own server.
    ahead = int(langchain.ask_one("SELECT pg_current_xact_id()::text")) + 100
    behind = int(database.ask_one("SELECT pg_current_xact_id()::text"))
    database.run(
        """
        CREATE TABLE numbers (i int);
        DO $$ BEGIN
            FOR i IN 1 .. %s LOOP
                BEGIN INSERT INTO numbers VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END;
            END LOOP;
        END $$
        """,
        [max(1, ahead - behind)],
    )
    yield other.port
    drop_database(other, langchain.name)
