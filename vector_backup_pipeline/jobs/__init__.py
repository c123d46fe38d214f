"""The jobs, a module per operation: its steps and how they are composed."""

from collections.abc import Mapping

import dagster as dg

from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.prune import vector_prune_job
from vector_backup_pipeline.jobs.restore import vector_restore_job
from vector_backup_pipeline.jobs.verify import vector_verify_job
from vector_backup_pipeline.operations import BACKUP, PRUNE, RESTORE, VERIFY, Operation

JOBS: Mapping[Operation, dg.JobDefinition] = {
    BACKUP: vector_backup_job,
    RESTORE: vector_restore_job,
    VERIFY: vector_verify_job,
    PRUNE: vector_prune_job,
}
