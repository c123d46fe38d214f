"""Source databases: which database the rows of a backup set came from.

Several databases may share a location. `latest` and retention never take one for another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vector_backup_pipeline.engine import manifest
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound


@dataclass(frozen=True)
class SourceDatabase:
    """A database of a server. `system_identifier` is None if the role could not read it, and for
    adopted sets."""

    system_identifier: str | None
    name: str

    @classmethod
    def of(cls, server: manifest.Server) -> SourceDatabase:
        return cls(server.system_identifier, server.database)

    @property
    def qualified(self) -> str:
        """The name with its server's identifier, if that is known."""
        if self.system_identifier is None:
            return self.name
        return f"{self.system_identifier}/{self.name}"

    def differs_from(self, other: SourceDatabase) -> bool:
        """Whether they are known to be two databases."""
        if None in (self.system_identifier, other.system_identifier):
            return self.name != other.name
        return self != other


# The source of adopted sets: the older system's files don't name their database.
OLDER_SYSTEM = SourceDatabase(None, manifest.OLDER_SYSTEM)


def source_labels(sources: Iterable[SourceDatabase | None]) -> dict[SourceDatabase, str]:
    """How each database is shown: by its name, or qualified if several servers share the name."""
    distinct = {source for source in sources if source is not None}
    uses = Counter(source.name for source in distinct)
    return {s: s.name if uses[s.name] == 1 else s.qualified for s in distinct}


def listed_sources(sources: Iterable[SourceDatabase]) -> str:
    return ", ".join(sorted(source_labels(sources).values()))


def source_named(text: str, sources: Iterable[SourceDatabase], location: str) -> SourceDatabase:
    """The database that the parameter `source_database` names, among those in `location`.

    Raises:
        InvalidParams: several servers have a database of that name.
        ResourceNotFound: there is none.
    """
    labels = source_labels(sources)
    # A database of an unknown server has only its bare name, even if others have that name too.
    matches = [source for source, label in labels.items() if text in (label, source.qualified)]
    matches = matches or [source for source in labels if source.name == text]
    if not matches:
        raise ResourceNotFound(
            f"There is no backup set of the database {text!r} in {location}. Databases with sets "
            f"there: {listed_sources(labels) or 'none'}."
        )
    if len(matches) > 1:
        raise InvalidParams(
            f"source_database {text!r} is the name of several databases in {location}. Give one of "
            f"{listed_sources(labels)}."
        )
    return matches[0]
