"""The base of every stored document."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable. Unknown keys are refused: a document of another version is never read in part.

    pydantic builds a model's validator when it is first used, not at import.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,
        json_schema_serialization_defaults_required=True,
    )
