"""Each operation's job, and the check of its parameters before a launch."""

from collections.abc import Callable, Mapping

import dagster as dg

from vector_backup_pipeline.jobs.backup import check_backup, vector_backup_job
from vector_backup_pipeline.jobs.prune import check_prune, vector_prune_job
from vector_backup_pipeline.jobs.restore import check_restore, vector_restore_job
from vector_backup_pipeline.jobs.verify import check_verify, vector_verify_job
from vector_backup_pipeline.operations import BACKUP, PRUNE, RESTORE, VERIFY, Operation

JOBS: Mapping[Operation, dg.JobDefinition] = {
    BACKUP: vector_backup_job,
    RESTORE: vector_restore_job,
    VERIFY: vector_verify_job,
    PRUNE: vector_prune_job,
}

CHECKS: Mapping[Operation, Callable[..., None]] = {
    BACKUP: check_backup,
    RESTORE: check_restore,
    VERIFY: check_verify,
    PRUNE: check_prune,
}
