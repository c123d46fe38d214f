"""The checks of each table's backups, so that Dagster knows them and can run them on demand."""

from collections.abc import Iterable, Sequence

import dagster as dg

from vector_backup_pipeline.assets import RESTORE_DRILL, evaluations, table_check_specs
from vector_backup_pipeline.engine.verification.run import VerifyRun
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.resources import BackupStorageResource, DrillServerResource
from vector_backup_pipeline.settings import load_settings


def make_table_checks(tables: Sequence[str]) -> dg.AssetChecksDefinition:
    """Evaluations of checks that are not defined are lost; so they are, for these tables.

    `vector_verify_job` evaluates them over all sets. The UI's own "Execute" reads the newest set
    under the root, and drills it where the drill's check was chosen.
    """

    @dg.multi_asset_check(
        name="verify_latest_backup", specs=table_check_specs(tables), can_subset=True
    )
    def verify_latest_backup(
        context: dg.AssetCheckExecutionContext,
        backup_storage: BackupStorageResource,
        drill_server: DrillServerResource,
    ) -> Iterable[dg.AssetCheckResult]:
        chosen = context.selected_asset_check_keys
        settings = load_settings()
        root = backup_storage.open_root(settings)
        run = VerifyRun(
            VerifyParameters(
                timestamp=LATEST,
                backup_path=root.default_path,
                drill=any(key.name == RESTORE_DRILL for key in chosen),
            ),
            root,
            settings.timestamps,
            drill_server.open,
            lock_timeout=settings.lock_timeout,
            run_id=context.run.run_id,
        )
        for each in run.find():
            run.verify(each.key)
        for evaluation in evaluations(run.finish(), tables):
            if evaluation.asset_check_key in chosen:
                yield dg.AssetCheckResult(
                    asset_key=evaluation.asset_key,
                    check_name=evaluation.check_name,
                    passed=evaluation.passed,
                    metadata=evaluation.metadata,
                )

    return verify_latest_backup
