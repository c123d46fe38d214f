"""Calls over GraphQL, with a real webserver and daemon."""

import json
from typing import Any

from vector_backup_pipeline_tests.fix_dagster import DagsterDev, eventually

_SELECTOR = {
    "repositoryLocationName": "vector_backup_pipeline",
    "repositoryName": "__repository__",
}
LAUNCH = """
    mutation ($job: JobOrPipelineSelector!, $config: RunConfigData!) {
        launchRun(executionParams: {selector: $job, runConfigData: $config}) {
            __typename
            ... on LaunchRunSuccess { run { runId } }
            ... on RunConfigValidationInvalid { errors { message } }
        }
    }
"""
RUN = """
    query ($run: ID!) {
        runOrError(runId: $run) {
            ... on Run {
                status
                runConfig
                eventConnection {
                    events {
                        ... on DisplayableEvent {
                            metadataEntries { label ... on JsonMetadataEntry { jsonString } }
                        }
                    }
                }
            }
        }
    }
"""
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


def launch(dev: DagsterDev, config: dict[str, Any]) -> dict[str, Any]:
    job = _SELECTOR | {"jobName": "vector_backup_job"}
    launched: dict[str, Any] = dev.ask(LAUNCH, job=job, config=config)["launchRun"]
    return launched


def ended(dev: DagsterDev, run_id: str) -> dict[str, Any]:
    def read() -> dict[str, Any] | None:
        run: dict[str, Any] = dev.ask(RUN, run=run_id)["runOrError"]
        return run if run["status"] in _ENDED else None

    run: dict[str, Any] = eventually(read, f"the end of run {run_id}")
    return run


def result_of(run: dict[str, Any]) -> dict[str, Any]:
    entries = [
        entry
        for event in run["eventConnection"]["events"]
        for entry in event.get("metadataEntries", [])
        if entry["label"] == "vector_backup_result"
    ]
    result: dict[str, Any] = json.loads(entries[-1]["jsonString"])
    return result


def test_a_flat_object_is_the_run_config_and_keeps_a_connection_by_name(
    dagster_dev: DagsterDev,
) -> None:
    (dagster_dev.root / "corpus_1").mkdir()
    config = {
        "task_id": "corpus_1",
        "db_connection": {"env": "A_CALLERS_DATABASE"},
        "tables": ["langchain_pg_embedding"],
        "workers": 1,
    }

    launched = launch(dagster_dev, config)
    run = ended(dagster_dev, launched["run"]["runId"])

    assert run["status"] == "SUCCESS"
    assert run["runConfig"] == config
    assert result_of(run)["backup_directory"] == str(dagster_dev.root / "corpus_1" / "vector_bak")


def test_no_password_is_shown_by_the_resources_page(dagster_dev: DagsterDev) -> None:
    answer = dagster_dev.ask(
        """
        query ($s: RepositorySelector!) {
            allTopLevelResourceDetailsOrError(repositorySelector: $s) {
                ... on ResourceDetailsList {
                    results { name configuredValues { key value type } configFields { name } }
                }
            }
        }
        """,
        s=_SELECTOR,
    )

    resources = {
        resource["name"]: resource
        for resource in answer["allTopLevelResourceDetailsOrError"]["results"]
    }
    assert {"postgres", "backup_run", "progress"} <= resources.keys()
    shown = {value["key"]: value for value in resources["postgres"]["configuredValues"]}
    assert {key: entry["value"] for key, entry in shown.items()} == {
        "connection_variable": '"VECTOR_BACKUP_DB_URL"'
    }
    assert dagster_dev.database.url not in json.dumps(answer)
