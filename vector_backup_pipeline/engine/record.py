"""What every object of a stored or told document is."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable, with no key but its own: one of another version of this tool is not half read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
