"""Properties of a prune with any contents of a directory, and stopped at any moment."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name, tombstone_name
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline_tests.engine.retention.histories import rules
from vector_backup_pipeline_tests.fix_prune import prune_root, stopped_at
from vector_backup_pipeline_tests.fix_sets import (
    COLLECTION,
    EMBEDDING,
    SetWriter,
    find_set,
    read_sets,
)

_TABLES = {COLLECTION: 1, EMBEDDING: 2}
_FOREIGN = ("notes.txt", "b_20261001_020000.csv.gpg", "b.csv", ".vector_backup_x.run", "x.tmp")
_KINDS = ("good", "good", "good", "verified", "failed", "cut", "incomplete", "emptied")
# Newer than any history, but not in the future.
_BEGIN, _NEWER = datetime(2025, 10, 1, 2), "20260101_000000"  # noqa: DTZ001 - a stamp has no zone
_FIRST, _SECOND = "20251001_020000", "20251001_030000"
_OTHER_KINDS = ("adoptable", "damaged", "orphan", "tombstone")

flags = st.booleans()
options = st.fixed_dictionaries({"include_truncated": flags, "include_orphans": flags})


@dataclass
class Location:
    """A directory with a drawn history; `good` and `verified` are the stamps of such sets."""

    root: Path
    good: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)

    @property
    def sets(self) -> SetWriter:
        return SetWriter(self.root / "vector_bak")

    def files(self) -> dict[str, bytes]:
        """All files except the log, which contains the time."""
        files = {path.name: path.read_bytes() for path in self.sets.path.iterdir()}
        files.pop("vector_backup_log.txt", None)
        return files

    def add(self, stamp: str, kind: str, base: str | None) -> None:
        sets = self.sets
        if kind == "adoptable":
            sets.older(stamp, _TABLES)
        elif kind == "damaged":
            sets.damaged(stamp)
        elif kind == "orphan":
            sets.file(f"{EMBEDDING}_{stamp}.csv")
        elif kind == "tombstone":
            self._left_by_a_prune(stamp)
        else:
            self._add_with_manifest(stamp, kind, base)

    def _add_with_manifest(self, stamp: str, kind: str, base: str | None) -> None:
        emptied = [EMBEDDING] if kind == "emptied" else []
        self.sets.write(
            stamp,
            _TABLES,
            failed=["t"] if kind == "incomplete" else (),
            truncate="done" if emptied else "none",
            truncated=emptied,
            builds_on=base,
        )
        if kind in ("verified", "failed"):
            passed = kind == "verified"
            self.sets.verdict(stamp, files_passed=passed)
        if kind == "cut":
            self.sets.file(f"{EMBEDDING}_{stamp}.csv", b"")
        elif kind not in ("failed", "incomplete") and (base is None or base in self.good):
            self.good.append(stamp)
            if kind == "verified":
                self.verified.append(stamp)

    def _left_by_a_prune(self, stamp: str) -> None:
        """A removal that stopped between its files."""
        with tempfile.TemporaryDirectory() as folder:
            other = Location(Path(folder))
            other.add(stamp, "good", None)
            other.add(_NEWER, "good", None)
            with stopped_at(3):
                prune_root(other.root)
            names = other.files().keys()
            assert tombstone_name(stamp) in names and manifest_name(stamp) not in names
            for name, data in other.files().items():
                if stamp in name:
                    self.sets.file(name, data)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, str | None]]:
    """Stamps, oldest first, each with its kind and what it builds on."""
    hours = sorted(draw(st.sets(st.integers(0, 24 * 40), min_size=1, max_size=7)))
    history: list[tuple[str, str, str | None]] = []
    for hour in hours:
        stamp = f"{_BEGIN + timedelta(hours=hour):%Y%m%d_%H%M%S}"
        kind = draw(st.sampled_from([*_KINDS, *_KINDS, *_OTHER_KINDS]))
        # No set builds on the older system's files.
        others = [stamp for stamp, kind, _ in history if kind != "adoptable"]
        bases = st.sampled_from([None, None, *others])
        history.append((stamp, kind, draw(bases)))
    return history


@contextmanager
def made(history: list[tuple[str, str, str | None]]) -> Iterator[Location]:
    with tempfile.TemporaryDirectory() as folder:
        location = Location(Path(folder) / "root")
        for name in _FOREIGN:
            location.sets.file(name)
        for stamp, kind, base in history:
            location.add(stamp, kind, base)
        yield location


@settings(max_examples=60, deadline=None)
@given(histories(), rules, options, st.integers(0, 12))
@example(
    # Orphaned files go with the set that builds on them.
    [(_FIRST, "orphan", None), (_SECOND, "good", _FIRST), (_NEWER, "good", None)],
    KeepRules(keep_last=1),
    {"include_truncated": False, "include_orphans": True},
    1,
)
def test_a_prune_keeps_its_guarantees_wherever_it_is_stopped(
    history: list[tuple[str, str, str | None]], keep: KeepRules, chosen: dict[str, bool], call: int
) -> None:
    with made(history) as location:
        stopped = Location(location.root.parent / "stopped")
        shutil.copytree(location.root, stopped.root)

        _check_that_it_does_what_its_dry_run_said(location, keep, chosen)
        _check_what_stays(location, history, keep, chosen)
        after = location.files()
        again = prune_root(location.root, keep, **chosen)
        assert (again.location.removed, location.files()) == ([], after)

        _check_that_no_half_set_is_one(stopped, keep, chosen, call)
        prune_root(stopped.root, keep, **chosen)
        assert stopped.files() == after


def _check_that_it_does_what_its_dry_run_said(
    location: Location, keep: KeepRules, chosen: dict[str, bool]
) -> None:
    before = location.files()
    planned = prune_root(location.root, keep, dry_run=True, **chosen)
    assert location.files() == before
    assert not planned.result.pruned
    assert not (location.sets.path / LOG_NAME).exists()

    done = prune_root(location.root, keep, **chosen)

    after = location.files()
    assert done.error is None
    assert done.location == planned.location
    removals = [*done.location.removed, *done.location.finished]
    removed_files = {name for removal in removals for name in removal.files}
    tombstones = {name for name in before if name.endswith(".tombstone.json")}
    assert before.keys() - after.keys() == removed_files | tombstones
    assert after.items() <= before.items()
    assert done.result.bytes_freed == sum(len(before[name]) for name in removed_files)


def _check_that_no_half_set_is_one(
    location: Location, keep: KeepRules, chosen: dict[str, bool], call: int
) -> None:
    before = location.files()
    stamps = {stored_set.stamp for stored_set in read_sets(location.sets.directory)}
    with stopped_at(call):
        prune_root(location.root, keep, **chosen)
    left = location.files()
    for stored_set in read_sets(location.sets.directory):
        assert stored_set.stamp in stamps
        assert all(left.get(n) == d for n, d in before.items() if stored_set.stamp in n)


def _check_what_stays(
    location: Location,
    history: list[tuple[str, str, str | None]],
    keep: KeepRules,
    chosen: dict[str, bool],
) -> None:
    by_stamp = {s.stamp: s for s in read_sets(location.sets.directory)}
    kinds = {stamp: kind for stamp, kind, _ in history}
    bases = {stamp: base for stamp, _, base in history if kinds[stamp] not in _OTHER_KINDS}
    assert set(_FOREIGN) <= location.files().keys()
    last = max(1, keep.keep_last)
    assert {*location.good[-last:], *location.verified[-1:]} <= by_stamp.keys()
    for stamp, kind in kinds.items():
        if kind == "adoptable":
            assert {f"{table}_{stamp}.csv" for table in _TABLES} <= location.files().keys()
        stays = kind == "damaged" or (kind == "emptied" and not chosen["include_truncated"])
        assert not stays or stamp in by_stamp
        base = bases.get(stamp)
        if stamp in by_stamp and base in bases:
            assert base in by_stamp
    for stored_set in by_stamp.values():
        if isinstance(stored_set, ManifestSet) and stored_set.stamp in location.good:
            find_set(location.sets.directory, stored_set.stamp)
