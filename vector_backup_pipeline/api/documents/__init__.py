"""The OpenAPI document: what each address takes and may answer, with examples."""

from vector_backup_pipeline.api.documents.answers import FILE, FILE_HEAD, answers
from vector_backup_pipeline.api.documents.document import TAGS, complete_document
from vector_backup_pipeline.api.documents.requests import (
    DOWNLOAD_HEADERS,
    request_body,
)

__all__ = [
    "DOWNLOAD_HEADERS",
    "FILE",
    "FILE_HEAD",
    "TAGS",
    "answers",
    "complete_document",
    "request_body",
]
