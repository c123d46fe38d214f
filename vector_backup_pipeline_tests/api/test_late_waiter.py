"""Somebody begins to wait for a run while Dagster is answering about others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.run_watch import RunWatch


class _SlowDagster(DagsterClient):
    """Answers of each question's runs when it is let, and counts the questions."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.questions: list[list[str]] = []
        self.statuses_of: dict[str, str] = {}
        self.may_answer = asyncio.Event()

    async def statuses(self, run_ids: Sequence[str]) -> dict[str, str]:
        self.questions.append(list(run_ids))
        await self.may_answer.wait()
        return {run_id: self.statuses_of[run_id] for run_id in run_ids}


def test_a_run_that_was_not_asked_about_has_not_ended() -> None:
    asyncio.run(_wait_late())


async def _asked(dagster: _SlowDagster, times: int) -> None:
    while len(dagster.questions) < times:
        await asyncio.sleep(0.01)


async def _wait_late() -> None:
    dagster = _SlowDagster()
    dagster.statuses_of = {"first": "STARTED", "second": "STARTED"}
    watch = RunWatch(dagster)
    first = asyncio.create_task(watch.ended("first"))
    await asyncio.wait_for(_asked(dagster, 1), timeout=30)
    second = asyncio.create_task(watch.ended("second"))
    await asyncio.sleep(0)

    dagster.may_answer.set()
    await asyncio.wait_for(_asked(dagster, 3), timeout=30)

    assert dagster.questions[:2] == [["first"], ["first", "second"]]
    assert not first.done()
    assert not second.done()
    dagster.statuses_of = {"first": "SUCCESS", "second": "SUCCESS"}
    await asyncio.wait_for(asyncio.gather(first, second), timeout=30)
    await watch.aclose()
    await dagster.aclose()
