"""The list of all backups under a root."""

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from vector_backup_pipeline.engine.catalog.contents import has_backup
from vector_backup_pipeline.engine.catalog.locations import find_locations, list_backups
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import manifest_name, marker_name, tombstone_name
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter

SHANGHAI = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, ZoneInfo("Asia/Shanghai"))
AT = "2026-11-24T10:00:00Z"
DRILL = {"passed": False, "errors": []}
FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"2025010{day}_000000" for day in range(1, 6))


class Listing:
    """A root, and the list of its backups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = BackupRoot(str(path), "vector_bak")

    def sets(self, task: str | None = None) -> SetWriter:
        directory = self.path if task is None else self.path / task
        return SetWriter(directory / "vector_bak")

    def __call__(self, **filters: Any) -> dict[str, Any]:
        return list_backups(find_locations(self.root, **filters), self.root.timestamps).as_json()

    def only(self) -> dict[str, Any]:
        """The only location."""
        (location,) = self()["backup_locations"]
        assert isinstance(location, dict)
        return location


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    path = tmp_path / "training_data"
    path.mkdir()
    return Listing(path)


def _stamps(location: dict[str, Any]) -> Sequence[str]:
    return [backup["timestamp"] for backup in location["backups"]]


def test_the_list_has_the_contracts_shape(listing: Listing) -> None:
    listing.sets().write("20250721_154914")
    listing.sets().file("vector_backup_log.txt", b"a run")
    sizes = {file.name: file.size for file in listing.sets().directory.files()}
    size = sizes[f"{COLLECTION}_20250721_154914.csv"]

    listing.root = BackupRoot(str(listing.path), "vector_bak", timestamps=SHANGHAI)
    listed = listing()

    scan_time = datetime.fromisoformat(listed["summary"].pop("scan_time"))
    assert scan_time.utcoffset() == SHANGHAI.now().utcoffset()
    assert abs((scan_time - SHANGHAI.now()).total_seconds()) < 100
    assert listed == {
        "backup_locations": [
            {
                "type": "global",
                "task_id": None,
                "relative_path": "training_data/vector_bak",
                "backups": [
                    {
                        "timestamp": "20250721_154914",
                        "collection_file": f"{COLLECTION}_20250721_154914.csv",
                        "embedding_file": f"{EMBEDDING}_20250721_154914.csv",
                        "files": [
                            f"{COLLECTION}_20250721_154914.csv",
                            f"{EMBEDDING}_20250721_154914.csv",
                        ],
                        "collection_size": f"{size:.1f} B",
                        "embedding_size": "1.1 KB",
                        "backup_date": "2025-07-21T23:49:14+08:00",
                        "complete": True,
                        "has_log": True,
                        "log_file": "vector_backup_log.txt",
                        "state": "complete",
                        "verified": None,
                        "verified_at": None,
                        "drill": None,
                        "drilled_at": None,
                        "truncated": [],
                        "source_database": "d",
                        "mode": "full",
                        "builds_on": None,
                        "tables": {
                            COLLECTION: {"rows": 4, "bytes": size},
                            EMBEDDING: {
                                "rows": 58,
                                "bytes": sizes[f"{EMBEDDING}_20250721_154914.csv"],
                            },
                        },
                    }
                ],
                "other_files": [],
            }
        ],
        "summary": {
            "total_locations": 1,
            "total_backup_sets": 1,
            "global_backups": 1,
            "task_backups": 0,
        },
    }


def test_the_root_comes_first_then_tasks_by_name_with_the_newest_set_first(
    listing: Listing,
) -> None:
    for task in ("task_b", "task_a"):
        listing.sets(task).write(FIRST)
    for stamp in (SECOND, THIRD, FIRST):
        listing.sets().write(stamp)
    (listing.path / "not a task" / "vector_bak").mkdir(parents=True)
    (listing.path / "task_without").mkdir()
    (listing.path / "task_empty" / "vector_bak").mkdir(parents=True)

    listed = listing()

    locations = listed["backup_locations"]
    assert [(location["type"], location["task_id"]) for location in locations] == [
        ("global", None),
        ("task", "task_a"),
        ("task", "task_b"),
    ]
    assert locations[1]["relative_path"] == "training_data/task_a/vector_bak"
    assert _stamps(locations[0]) == [THIRD, SECOND, FIRST]
    assert {key: value for key, value in listed["summary"].items() if key != "scan_time"} == {
        "total_locations": 3,
        "total_backup_sets": 5,
        "global_backups": 3,
        "task_backups": 2,
    }


def test_one_task_or_the_root_alone_can_be_listed(listing: Listing) -> None:
    for task in (None, "task_a", "task_b"):
        listing.sets(task).write(FIRST)
    (listing.path / "task_new").mkdir()

    def tasks(**filters: Any) -> list[str | None]:
        return [location["task_id"] for location in listing(**filters)["backup_locations"]]

    assert tasks(task_id="task_b") == ["task_b"]
    assert tasks(global_only=True) == [None]
    assert tasks(task_id="task_new") == []
    with pytest.raises(ResourceNotFound, match="not_there"):
        listing(task_id="not_there")
    for filters in ({"task_id": "../x"}, {"task_id": "task_a", "global_only": True}):
        with pytest.raises(InvalidParams):
            listing(**filters)


def test_without_backups_the_list_is_empty_but_never_if_a_manifest_cannot_be_read(
    listing: Listing,
) -> None:
    assert listing()["backup_locations"] == []
    listing.sets().file("vector_backup_log.txt", b"Every run failed.")
    assert listing.only()["backups"] == []

    manifest = listing.sets().path / manifest_name(FIRST)
    manifest.symlink_to(manifest)  # A link to itself.

    with pytest.raises(StorageError):
        listing()
    with pytest.raises(StorageError):
        has_backup(listing.sets().directory)


def test_sets_that_are_not_whole_are_listed_as_incomplete(listing: Listing) -> None:
    sets = listing.sets()
    sets.write(FIRST, {COLLECTION: 1}, failed=[EMBEDDING])
    sets.write(SECOND)
    (sets.path / f"vector_backup_{SECOND}.json").write_bytes(b"{")
    sets.write(THIRD)
    (sets.path / f"{EMBEDDING}_{THIRD}.csv").unlink()
    sets.write(FOURTH)
    sets.file(f"{EMBEDDING}_{FOURTH}.csv", b"short")
    sets.write(FIFTH)
    sets.verdict(FIFTH, files_passed=False)

    changed, short, lost, damaged, failed = listing.only()["backups"]

    bad = (changed, short, lost, damaged)
    assert [backup_set["state"] for backup_set in (*bad, failed)] == ["damaged"] * 4 + [
        "incomplete"
    ]
    assert not any(backup_set["complete"] for backup_set in (*bad, failed))
    assert (short["embedding_size"], short["tables"][EMBEDDING]["rows"]) == ("5.0 B", 58)
    assert [backup_set["source_database"] for backup_set in (lost, damaged)] == ["d", None]
    assert (damaged["mode"], damaged["tables"][EMBEDDING]["rows"]) == (None, None)
    assert lost["embedding_file"] == f"{EMBEDDING}_{THIRD}.csv"
    assert lost["embedding_size"] is None
    assert damaged["files"] == [f"{COLLECTION}_{SECOND}.csv", f"{EMBEDDING}_{SECOND}.csv"]
    assert damaged["embedding_size"] == "1.1 KB"
    assert failed["files"] == [f"{COLLECTION}_{FIRST}.csv"]


def test_files_without_a_set_are_listed_as_what_they_are(listing: Listing) -> None:
    sets = listing.sets()
    sets.write(FIRST, {"t": 1, "app.t": 2})
    sets.file(f"u_{FIRST}.csv")
    sets.older(FOURTH, {EMBEDDING: 1})
    sets.older(FIFTH, line_end=b"\n")
    sets.file(f"t_{SECOND}.csv")
    sets.file(f"t_{SECOND}.csv.tmp")
    sets.file(f"t_{THIRD}.csv")
    sets.file(f"u_{THIRD}.csv.tmp", b"")
    sets.file("notes.csv")
    claim = sets.running(THIRD)

    location = listing.only()

    claim.release()
    assert _stamps(location) == [FIRST]
    assert list(location)[-1] == "other_files"
    assert location["other_files"] == [
        {"file": f"u_{FIRST}.csv", "state": "orphan"},
        {"file": f"t_{SECOND}.csv", "state": "orphan"},
        {"file": f"t_{SECOND}.csv.tmp", "state": "orphan"},
        {"file": f"t_{THIRD}.csv", "state": "running"},
        {"file": f"u_{THIRD}.csv.tmp", "state": "running"},
        {"file": f"{EMBEDDING}_{FOURTH}.csv", "state": "orphan"},
        {"file": f"{COLLECTION}_{FIFTH}.csv", "state": "adoptable"},
        {"file": f"{EMBEDDING}_{FIFTH}.csv", "state": "adoptable"},
    ]
    (backup,) = location["backups"]
    assert backup["files"] == [f"t_{FIRST}.csv", f"app.t_{FIRST}.csv"]
    for key in ("collection_file", "embedding_size", "log_file"):
        assert backup[key] is None


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (marker_name(FIRST), "orphan"),
        (f"docs_{FIRST}.csv.tmp", "orphan"),
        (f"{EMBEDDING}_{FIRST}.keys.parquet", "orphan"),
        (tombstone_name(FIRST), "removed"),
    ],
    ids=["a dead run's marker", "an unfinished file", "a key file", "a tombstone"],
)
def test_a_pair_that_this_tool_wrote_is_not_adoptable(
    listing: Listing, evidence: str, state: str
) -> None:
    listing.sets().older(FIRST)
    listing.sets().file(evidence, b"{}")
    os.utime(listing.sets().path / evidence, (0, 0))

    assert set(_states(listing)) == {state}
    claim = listing.sets().running(SECOND)
    listing.sets().older(SECOND)
    assert set(_states(listing)) == {state, "running"}
    claim.release()


def _states(listing: Listing) -> list[str]:
    return [file["state"] for file in listing.only()["other_files"]]


@pytest.mark.parametrize(
    ("verdict", "verified", "drill"),
    [
        ({"passed": True, "verified_at": AT}, True, None),
        ({"passed": False, "verified_at": "2026-11-24T10:00:00+08:00", "more": {}}, False, None),
        ({"files_passed": True, "passed": False, "verified_at": AT}, True, None),
        ({"passed": False, "files_passed": True, "verified_at": AT, "drill": DRILL}, True, False),
        ({"passed": True}, None, None),
        ({"passed": True, "verified_at": "yesterday"}, None, None),
        ({"passed": True, "verified_at": "2026-11-24T10:00:00"}, None, None),
        ([], None, None),
        (None, None, None),
    ],
)
def test_a_verdict_is_read_as_far_as_it_can_be(
    listing: Listing, verdict: Any, verified: bool | None, drill: bool | None
) -> None:
    listing.sets().write(FIRST)
    listing.sets().file(
        f"vector_backup_{FIRST}.verified.json", json.dumps(verdict).encode() if verdict else b"{"
    )

    (location,) = find_locations(listing.root)
    verdicts = location.sets[0]

    for verdict, passed in ((verdicts.verified, verified), (verdicts.drill, drill)):
        assert (verdict.passed if verdict else None) == passed
        assert verdict is None or verdict.at.isoformat().startswith("2026-11-24T10:00:00+0")
    (listed,) = listing.only()["backups"]
    words = {True: "passed", False: "failed", None: None}
    assert (listed["verified"], listed["drill"]) == (words[verified], words[drill])
    assert (listed["verified_at"] is None, listed["drilled_at"] is None) == (
        verified is None,
        drill is None,
    )
    assert listed["state"] == ("damaged" if verified is False else "complete")


def test_each_set_is_listed_with_its_source_database_and_truncated_tables(listing: Listing) -> None:
    listing.sets().write(FIRST, database="a", server="7", truncate="unknown", truncated=[EMBEDDING])
    listing.sets().write(SECOND, database="b", server="7")
    listing.sets("task_1").write(THIRD, database="a", server="7")

    def sources() -> list[str]:
        locations = listing()["backup_locations"]
        return [
            backup_set["source_database"]
            for location in locations
            for backup_set in location["backups"]
        ]

    assert sources() == ["b", "a", "a"]
    root = listing()["backup_locations"][0]
    assert [backup_set["truncated"] for backup_set in root["backups"]] == [[], [EMBEDDING]]
    listing.sets("task_1").write(FOURTH, database="a", server="8")
    assert sources() == ["b", "7/a", "8/a", "7/a"]


def test_only_a_complete_set_with_a_manifest_counts_as_a_backup(tmp_path: Path) -> None:
    sets = SetWriter(tmp_path)

    def is_backed_up() -> bool:
        return has_backup(sets.directory)

    assert not is_backed_up()
    sets.older(FIRST)
    sets.write(SECOND, failed=["t"])
    for number, content in enumerate((b"", b"{", b"[]", b'{"complete": true}', b"\xff\xfe")):
        sets.file(manifest_name(f"2025020{number + 1}_000000"), content)
    for name in (f"t_{THIRD}.csv.tmp", "t.csv", "t_20251399_000000.csv", "log.txt"):
        sets.file(name)
    assert not is_backed_up()

    sets.adopt()
    assert is_backed_up()
