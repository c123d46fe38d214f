"""Run markers in a bucket: heartbeats, takeovers, stores without conditions."""

import json
import time
from datetime import datetime, timedelta, tzinfo

import pytest

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage import contract, heart, object_bucket, object_claim
from vector_backup_pipeline.engine.storage.object_bucket import Bucket as ObjectBucket
from vector_backup_pipeline.engine.storage.object_claim import ObjectClaim
from vector_backup_pipeline.engine.storage.object_root import ObjectDirectory, ObjectRoot
from vector_backup_pipeline.engine.storage.object_url import parse_object_url
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import DEAD_AT_ONCE, Bucket

_OWNER: dict[str, str | int] = {"host": "here", "pid": 1, "run_id": "x"}
_NAME = ".vector_backup_20250101_000000.run"
_KEY = f"vector_bak/{_NAME}"


def _directory(bucket: Bucket) -> ObjectDirectory:
    """As another run would have it: with a connection of its own."""
    return ObjectRoot(bucket.url, "vector_bak").open(None)


@pytest.fixture(params=["with conditions", "without conditions"])
def directory(
    request: pytest.FixtureRequest, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> ObjectDirectory:
    if request.param == "without conditions":
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    return _directory(bucket)


def _held(directory: ObjectDirectory) -> ObjectClaim:
    held = directory.claim(_NAME, _OWNER)
    assert held is not None
    return held


def test_a_marker_says_who_is_writing(bucket: Bucket, directory: ObjectDirectory) -> None:
    held = _held(directory)
    (key,) = bucket.all_keys()
    said = json.loads(bucket.stored(key))
    assert said.items() >= _OWNER.items()
    assert "heartbeat" in said
    held.release()
    assert bucket.all_keys() == []


def test_a_marker_that_another_run_put_in_place_of_ours_stays(
    bucket: Bucket, directory: ObjectDirectory
) -> None:
    held = _held(directory)
    (key,) = bucket.all_keys()
    bucket.put(key, b'{"token": "another"}')
    held.release()
    assert bucket.all_keys() == [key]


def test_the_heart_beats_until_the_release(
    bucket: Bucket, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "HEARTBEAT_SECONDS", 0.01)
    held = _held(directory)
    (key,) = bucket.all_keys()
    written = bucket.stored(key)
    # As if by a beat whose answer was lost: ours, in a state that it does not know.
    bucket.put(key, written + b"\n\n")
    while len(bucket.stored(key)) > len(written):
        pass
    held.release()
    assert bucket.all_keys() == []


def test_a_marker_that_was_taken_away_is_not_made_again(
    bucket: Bucket, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "HEARTBEAT_SECONDS", 0.2)
    held = _held(directory)
    (key,) = bucket.all_keys()
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    held._heart._beating.join(20)
    assert not held._heart._beating.is_alive()
    held.release()
    assert bucket.all_keys() == []


def test_a_marker_without_a_beat_for_a_quarter_of_an_hour_is_dead(
    bucket: Bucket, directory: ObjectDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _held(directory)
    assert timedelta(minutes=15) == contract.DEAD_AFTER
    monkeypatch.setattr(object_claim, "DEAD_AFTER", DEAD_AT_ONCE)
    for name in (_NAME, *directory.names()):
        assert not directory.claim_is_alive(name)
    directory.remove_dead_claim(directory.names()[0])
    assert bucket.all_keys() == []
    held.release()


@pytest.mark.parametrize(
    ("ahead", "dead_after", "lives"),
    [(20, contract.DEAD_AFTER, True), (-20, DEAD_AT_ONCE, False)],
)
def test_the_stores_clock_tells_how_old_a_marker_is(
    directory: ObjectDirectory,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
    dead_after: timedelta,
    lives: bool,
) -> None:
    class OurClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "OurClock":
            return cls.fromtimestamp(time.time() + 60 * ahead, tz)

    for module in (object_bucket, object_claim):
        monkeypatch.setattr(module, "datetime", OurClock)
    monkeypatch.setattr(object_claim, "DEAD_AFTER", dead_after)
    held = _held(directory)
    assert directory.claim_is_alive(_NAME) == lives
    held.release()


def test_runs_that_think_differently_of_conditions_do_not_both_go_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_conditions = _directory(bucket)
    first = _held(with_conditions)
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    without = _directory(bucket)
    assert without.claim(_NAME, _OWNER) is None
    first.release()
    second = _held(without)
    assert with_conditions.claim(_NAME, _OWNER) is None
    second.release()
    assert bucket.all_keys() == []


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_a_store_that_keeps_no_conditions_is_found_out(
    bucket: Bucket, object_proxy: ObjectProxy, conditions: str
) -> None:
    object_proxy.conditions = "ignored" if conditions == "ignored" else "refused"
    directory = _directory(bucket)
    held = _held(directory)
    (key,) = bucket.all_keys()
    assert key.startswith(f"{_KEY}.")
    assert _directory(bucket).claim(_NAME, _OWNER) is None
    held.release()
    assert bucket.all_keys() == []


def test_a_store_that_keeps_them_is_known_for_it_and_nothing_is_left(bucket: Bucket) -> None:
    url = parse_object_url(bucket.url)
    assert ObjectBucket(url).has_conditions("vector_bak")
    assert bucket.all_keys() == []


def test_probes_of_killed_runs_are_removed_and_a_run_whose_own_is_removed_is_not_misled(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    left = "vector_bak/.vector_backup_probe.0123456789abcdef0123456789abcdef"
    bucket.put(left)

    def remove_probes() -> None:
        for key in bucket.all_keys():
            bucket.client.delete_object(Bucket=bucket.name, Key=key)

    creations = iter([None, Fault(happens=remove_probes)])
    object_proxy.fault = lambda request: (
        next(creations, None) if request.startswith("PUT") else None
    )
    held = _held(_directory(bucket))
    assert bucket.all_keys() == [_KEY]
    held.release()
    bucket.put(left)
    _held(_directory(bucket)).release()
    assert bucket.all_keys() == []


def test_a_claim_whose_answer_was_lost_is_ours_all_the_same(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    directory = _directory(bucket)
    object_proxy.does(
        Fault(answer_is_lost=True), to=lambda request: f"{_NAME} " in request, times=1
    )
    held = _held(directory)
    assert bucket.all_keys() == [_KEY]
    held.release()
    assert bucket.all_keys() == []


def test_of_two_that_find_a_dead_marker_the_slower_takes_none_away_from_the_faster(
    bucket: Bucket, object_proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = b"dead"
    monkeypatch.setattr(object_claim, "is_alive", lambda _, found: found.size != len(dead))
    bucket.put(_KEY, dead)
    faster, slower = _directory(bucket), _directory(bucket)
    held: list[ObjectClaim | None] = []

    def overtake() -> None:
        faster.remove_dead_claim(_NAME)
        held.append(faster.claim(_NAME, _OWNER))

    object_proxy.does(
        Fault(happens=overtake),
        to=lambda request: not request.startswith(("GET", "HEAD")) and f"{_NAME} " in request,
        times=1,
    )
    slower.remove_dead_claim(_NAME)
    (of_faster,) = held
    assert of_faster is not None
    assert slower.claim(_NAME, _OWNER) is None
    of_faster.release()
    assert bucket.all_keys() == []


def test_a_dead_marker_goes_also_when_the_answers_are_lost(
    bucket: Bucket, object_proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_claim, "DEAD_AFTER", DEAD_AT_ONCE)
    bucket.put(_KEY, b"dead")
    object_proxy.does(
        Fault(answer_is_lost=True), to=lambda request: f"{_NAME} " in request, times=1
    )
    _directory(bucket).remove_dead_claim(_NAME)
    assert bucket.all_keys() == []


def test_a_store_that_can_t_be_asked_for_its_conditions_keeps_no_probe(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    def refuse(request: str) -> Fault | None:
        is_second = request.startswith("PUT") and bucket.all_keys() != []
        return Fault(status=403) if is_second else None

    object_proxy.fault = refuse
    with pytest.raises(StorageError, match="403"):
        _directory(bucket).claim(_NAME, _OWNER)
    assert bucket.all_keys() == []
