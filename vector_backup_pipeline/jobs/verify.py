"""The verification of stored sets: their files and, with `drill`, a restore test."""

from collections.abc import Iterator, Sequence

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.assets import (
    RESTORE_DRILL,
    ROW_COUNT_DROP,
    evaluations,
    table_check_specs,
)
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.verification.run import verdict_lines
from vector_backup_pipeline.jobs.frame import log_step, operation_job, plain_keys
from vector_backup_pipeline.operations import VERIFY
from vector_backup_pipeline.outcome import failing_step, location_metadata
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import Settings, load_settings


@dg.op(config_schema=config_schema(VERIFY), out=dg.DynamicOut(str))
def find_backup_sets(
    context: dg.OpExecutionContext,
    verify_run: resources.VerifyRunResource,
) -> Iterator[dg.DynamicOutput[str]]:
    """Find the sets, and start a step for each."""
    with failing_step():
        sets = verify_run.begin(context).find()
    for key, backup_set in sets.items():
        yield dg.DynamicOutput(
            key,
            mapping_key=key,
            metadata={
                "directory": location_metadata(backup_set.directory.location),
                "timestamp": backup_set.stamp,
            },
        )


@dg.op
def verify_backup_set(
    context: dg.OpExecutionContext,
    key: str,
    verify_run: resources.VerifyRunResource,
) -> dg.Output[SetVerdict | None]:
    """Read and compare all files of the set, and run a restore test if requested. A set that was
    removed meanwhile is skipped."""
    with failing_step():
        run = verify_run.current
        backup_set = run.parts[key]
        verify_run.progress.announced(
            f"Verifying {backup_set.directory.location}, {backup_set.stamp}"
        )
        verdict = run.verify(key)
        if verdict is None:
            return dg.Output(None, metadata={"timestamp": backup_set.stamp, "skipped": True})
        lines = "\n".join(verdict_lines(verdict))
        context.log.info(lines)
        run.check(key)
    return dg.Output(
        verdict, metadata={"timestamp": verdict.timestamp, "verdict": dg.MetadataValue.md(lines)}
    )


@log_step
def write_verify_log(
    verify_run: resources.VerifyRunResource,
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[dict[str, object]]]:
    """Write the log, even if a set failed, and evaluate each table's asset checks."""
    with failing_step():
        result = verify_run.current.finish()
    yield from evaluations(result, verify_run.settings)
    yield dg.Output(result.as_json(), metadata=verify_run.report(result))


@operation_job(VERIFY, first_step=find_backup_sets)
def vector_verify_job() -> None:
    """Verify stored backup sets, optionally with a restore test."""
    sets = find_backup_sets()
    sets.map(verify_backup_set)
    write_verify_log(sets.collect())


def latest_backup_checks(fleet: Sequence[Settings]) -> dg.AssetsDefinition:
    """The checks of all tables. Backups and `vector_verify_job` evaluate them; the UI's own
    "Execute" verifies the newest set of the root."""
    specs = [spec for settings in fleet for spec in table_check_specs(settings)]
    plain = plain_keys(spec.asset_key for spec in specs)

    @dg.multi_asset_check(
        name="verify_latest_backup",
        specs=[
            spec.replace_key(dg.AssetCheckKey(plain[spec.asset_key], spec.name)) for spec in specs
        ],
        can_subset=True,
    )
    def verify_latest_backup(
        context: dg.AssetCheckExecutionContext,
    ) -> Iterator[dg.AssetCheckResult]:
        # "Materialize" selects all checks too, and the backup has evaluated its own.
        is_backup = context.job_def.asset_layer.selected_asset_keys
        chosen = set() if is_backup else context.selected_asset_check_keys
        for loaded in fleet:
            names = {spec.name for spec in table_check_specs(loaded) if spec.key in chosen}
            if names <= {ROW_COUNT_DROP}:
                continue
            with failing_step():
                settings = load_settings(target=loaded.target)
                path, drill = settings.open_root().default_path, RESTORE_DRILL in names
                parameters = VerifyParameters(timestamp=LATEST, backup_path=path, drill=drill)
                run_id = context.run.run_id
                run = resources.VerifyRunResource.make_run(parameters, settings, run_id)
                for key in run.find():
                    run.verify(key)
                result = run.finish()
            for evaluation in evaluations(result, settings):
                if evaluation.asset_check_key in chosen:
                    yield dg.AssetCheckResult(
                        asset_key=evaluation.asset_key,
                        check_name=evaluation.check_name,
                        passed=evaluation.passed,
                        metadata=evaluation.metadata,
                    )

    own_keys = {name: key for key, name in plain.items()}
    return verify_latest_backup.with_attributes(asset_key_replacements=own_keys)
