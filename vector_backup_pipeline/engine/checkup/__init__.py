"""Proving a configuration before its first backup: what works, what is missing, how to mend it.

Nothing of the user's is changed; what a check writes, it removes again.
"""

from vector_backup_pipeline.engine.checkup.finding import Area, Finding, Status
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.checkup.run import check_configuration

__all__ = ["Area", "CheckPlan", "Finding", "Status", "check_configuration"]
