"""Callers of the API, who have their own database."""

from dataclasses import dataclass
from typing import Any

import httpx

from vector_backup_pipeline_tests.end_to_end.graphql_proxy import GraphQLProxy
from vector_backup_pipeline_tests.fix_api import Api
from vector_backup_pipeline_tests.fix_dagster import DagsterDev
from vector_backup_pipeline_tests.fix_postgres import Database

PASSWORD = "S3cret/pass:wörd'1"
WRONG_PASSWORD = "wrong-S3cret/2"
# The task of the OpenAPI document's own examples.
TASK = "corpus_7"


@dataclass(frozen=True)
class Called:
    """A response of the API."""

    answer: httpx.Response

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = self.answer.json()
        return body

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data


@dataclass(frozen=True)
class Stage:
    """An API that queries Dagster through a proxy, and the callers' own database."""

    api: Api
    proxy: GraphQLProxy
    dev: DagsterDev
    callers: Database

    def back_up(self, body: Any) -> Called:
        return Called(self.api.back_up(body))
