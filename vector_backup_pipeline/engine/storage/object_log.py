"""A text in a bucket that several runs append to at once, and no section of it is lost.

Where the store keeps conditions, the text is read and written back on condition that it is still
what was read. Where it keeps none, each section is an object of its own under `{name without
ending}/`, and the text is put together from all of them, again until no new one has appeared: so
whoever writes the text last has seen them all.
"""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from datetime import datetime, timezone

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.object_bucket import Bucket, StoredObject

# Each time at least one other run has got its section in.
_TRIES = 200
_LONGEST_WAIT = 0.5
# Before every section: what the text held when the first one came.
_FIRST = "00000000T000000"


def append(bucket: Bucket, folder: str, name: str, text: str) -> None:
    """Add a section to the end."""
    key, section = f"{folder}/{name}", text.encode()
    if bucket.has_conditions(folder):
        _append_on_condition(bucket, key, section)
        return
    sections = key.rpartition(".")[0] or key
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
    bucket.write(f"{sections}/{_section_name(stamp, section, uuid.uuid4().hex[:12])}", section)
    _put_together(bucket, key, sections)


def _append_on_condition(bucket: Bucket, key: str, section: bytes) -> None:
    tried: bytes | None = None
    for attempt in range(_TRIES):
        found = bucket.read(key)
        before, version = found if found else (b"", None)
        if tried is not None and before.startswith(tried):
            return  # It was written, and the answer was lost.
        tried = before + section
        if bucket.write_if(key, tried, version or "create") is not None:
            return
        time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.02 * (attempt + 1))))  # noqa: S311
    raise StorageError(
        f"Could not append to {bucket.at(key)}: others wrote to it {_TRIES} times meanwhile. Look "
        "for what else writes there."
    )


def _put_together(bucket: Bucket, key: str, sections: str) -> None:
    done: list[str] = []
    while True:
        # In this order: each section in the text is an object already.
        log = bucket.read(key)
        found = sorted(bucket.objects(sections), key=lambda each: each.name)
        names = [each.name for each in found]
        if names == done:
            return
        texts, rest = _texts(bucket, found, log[0] if log else b"")
        rest_name = _section_name(_FIRST, rest, "text")
        if rest.strip() and rest_name not in names:
            # From before there were sections, or by a run that found the store to keep conditions.
            bucket.write(f"{sections}/{rest_name}", rest)
            continue
        bucket.write(key, b"".join(texts))
        done = names


def _texts(bucket: Bucket, found: list[StoredObject], log: bytes) -> tuple[list[bytes], bytes]:
    """The sections' texts, and what the log holds beside them. Those that the log has in their
    place, which are most, are not read again."""
    texts: list[bytes] = []
    place, moved = 0, []
    for each in found:
        text = log[place : place + each.size]
        if each.size and each.name.endswith(_fingerprint(text)):
            place += each.size
        else:
            text = _read(bucket, each)
            moved.append(text)
        texts.append(text)
    rest = log[place:]
    for text in moved:
        rest = rest.replace(text, b"", 1)
    return texts, rest


def _read(bucket: Bucket, section: StoredObject) -> bytes:
    found = bucket.read(section.key)
    return found[0] if found else b""


def _section_name(stamp: str, text: bytes, unique: str) -> str:
    return f"{stamp}-{unique}-{_fingerprint(text)}"


def _fingerprint(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
