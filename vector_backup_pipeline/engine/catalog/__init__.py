"""Which backups a directory holds: the one catalog of restore, verify, retention and the doors."""

from vector_backup_pipeline.engine.catalog.downloads import Download, find_download
from vector_backup_pipeline.engine.catalog.finding import check_timestamp, find_set
from vector_backup_pipeline.engine.catalog.listing import BackupList, as_list, list_backups
from vector_backup_pipeline.engine.catalog.locations import (
    FoundFile,
    FoundLocation,
    FoundSet,
    check_root,
    find_locations,
    find_places,
)
from vector_backup_pipeline.engine.catalog.sets import (
    COLLECTION_TABLE,
    EMBEDDING_TABLE,
    BackupSet,
    DamagedSet,
    ManifestSet,
    has_backup,
    stamps_in_use,
)

__all__ = [
    "COLLECTION_TABLE",
    "EMBEDDING_TABLE",
    "BackupList",
    "BackupSet",
    "DamagedSet",
    "Download",
    "FoundFile",
    "FoundLocation",
    "FoundSet",
    "ManifestSet",
    "as_list",
    "check_root",
    "check_timestamp",
    "find_download",
    "find_locations",
    "find_places",
    "find_set",
    "has_backup",
    "list_backups",
    "stamps_in_use",
]
