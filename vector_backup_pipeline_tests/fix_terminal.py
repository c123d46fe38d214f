"""The command, called in this process as in a terminal."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline import cli
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.fix_postgres import Database

# The command changes these for its own process.
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on standard output, which is one line."""
        assert self.out.count("\n") == 1
        document: dict[str, Any] = json.loads(self.out)
        return document


class Terminal:
    """Calls the command in this process, without a terminal."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str) -> Called:
        handlers = {number: signal.getsignal(number) for number in _HANDLED}
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main(arguments)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = self._captured.readouterr()
        return Called(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def installed(langchain: Database, root: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    return langchain
