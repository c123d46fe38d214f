"""Source databases: which database the rows of a set came from.

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
    sets adopted from the older system."""

    system_identifier: str | None
    name: str

    @property
    def qualified(self) -> str:
        """The name with its server's identifier, as far as that is known."""
        if self.system_identifier is None:
            return self.name
        return f"{self.system_identifier}/{self.name}"

    def differs_from(self, other: SourceDatabase) -> bool:
        """Whether they are known to be two databases."""
        if None in (self.system_identifier, other.system_identifier):
            return self.name != other.name
        return self != other


# The source of sets that were adopted from the older system, whose files say nothing about it.
OLDER_SYSTEM = SourceDatabase(None, manifest.OLDER_SYSTEM)


def source_labels(sources: Iterable[SourceDatabase]) -> dict[SourceDatabase, str]:
    """How each is shown and named: by its name, or qualified if several servers have that name."""
    distinct = set(sources)
    times = Counter(each.name for each in distinct)
    return {each: each.name if times[each.name] == 1 else each.qualified for each in distinct}


def listed_sources(sources: Iterable[SourceDatabase]) -> str:
    return ", ".join(sorted(source_labels(sources).values()))


def source_named(text: str, sources: Iterable[SourceDatabase], where: str) -> SourceDatabase:
    """The one of the sources in `where` that `text` names.

    Raises:
        InvalidParams: several servers have a database of that name.
        ResourceNotFound: there is none.
    """
    labels = source_labels(sources)
    found = [each for each, label in labels.items() if label == text]
    found = found or [each for each in labels if each.qualified == text]
    found = found or [each for each in labels if each.name == text]
    if not found:
        there = listed_sources(labels)
        raise ResourceNotFound(
            f"There is no backup set of the database {text!r} in {where}. "
            + (f"Databases with sets there: {there}." if there else "There are no sets at all.")
        )
    if len(found) > 1:
        raise InvalidParams(
            f"source_database {text!r} is the name of several databases in {where}. Give one of "
            f"{listed_sources(labels)}."
        )
    return found[0]
