"""Key files against a model of dictionaries."""

import csv
import errno
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Set
from pathlib import Path

import duckdb
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import (
    IntegrityError,
    InvalidParams,
    MissingExtra,
    StorageError,
)
from vector_backup_pipeline.engine.formats.blocks import EMPTY, Content, digest_of
from vector_backup_pipeline.engine.incremental.key_files import (
    KeyFiles,
    hash_scanned,
    stored_names,
)

Key = tuple[str, ...]
# A row's value stands for the bytes of its record.
Rows = dict[Key, int]

FIRST, SECOND, THIRD = "20261101_000000_000000", "20261102_000000_000000", "20261103_000000_000000"

# PostgreSQL's text has neither NUL nor surrogates.
_values = st.text(
    st.one_of(
        st.sampled_from(list(",\"\n\r\\.'; \t")),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    max_size=4,
)
_columns = st.sampled_from(
    [["id"], ["digest"], ["tenant", "Stamp"], ["a", "A"], ['we"ird, name', "größe", "mark"]]
)


@st.composite
def _tables(draw: st.DrawFn, versions: int) -> tuple[list[str], list[Rows]]:
    """The columns of a key, and versions of a table with it."""
    columns = draw(_columns)
    keys = draw(st.lists(st.tuples(*[_values] * len(columns)), unique=True, max_size=20))
    rows = st.dictionaries(st.sampled_from(keys), st.integers(0, 2)) if keys else st.just({})
    return columns, [draw(rows) for _ in range(versions)]


def _digest(key: Key, value: int) -> int:
    return xxhash.xxh3_128_intdigest(repr((key, value)).encode())


def _content(rows: Rows) -> Content:
    return Content(len(rows), digest_of(repr(row).encode() for row in rows.items()))


def _scan(keys: KeyFiles, rows: Rows, changed: Set[Key]) -> dict[Path, int]:
    """Load the rows as if scanned in two ranges; returns the files of their digests, each with the
    number of its lines."""
    scanned, digests = [], {}
    for number in range(2):
        part = list(rows)[number::2]
        scanned.append(keys.directory / f"{number}.csv")
        with scanned[-1].open("w", encoding="utf-8", newline="") as file:
            # What COPY writes, with each value quoted.
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for block, key in enumerate(part):
                file.write(f'"({block},1)",' if key in changed else ",")
                writer.writerow(key)
        lines = [f"{_digest(key, rows[key]):032x}\n" for key in part if key in changed]
        file_of_digests = keys.directory / f"{number}.digests"
        file_of_digests.write_text("".join(lines))
        digests[file_of_digests] = len(lines)
    keys.load_scanned(scanned, all_changed=False)
    assert (keys.rows, keys.changed) == (len(rows), len(changed & rows.keys()))
    return digests


def _full(target: Path, columns: list[str], rows: Rows, stamp: str = FIRST) -> Path:
    """The key file of a full backup of these rows."""
    with KeyFiles.open(columns) as keys:
        contents = keys.write(target, _scan(keys, rows, set(rows)), stamp, has_base=False)
        assert sum(contents.values(), EMPTY) == _content(rows)
    return target


def _incremental(
    target: Path, columns: list[str], base: Path, before: Rows, rows: Rows, stamp: str = SECOND
) -> Path:
    """The key file of an incremental backup of these rows."""
    with KeyFiles.open(columns) as keys:
        digests = _scan(keys, rows, {key for key in rows if before.get(key) != rows[key]})
        assert keys.compare(base) == (0, len(before.keys() - rows.keys()))
        contents = keys.write(target, digests, stamp, has_base=True)
        assert sum(contents.values(), EMPTY) == _content(rows)
    return target


@settings(max_examples=5, deadline=None)
@given(_tables(versions=3))
def test_each_set_of_a_chain_knows_its_live_rows_and_where_they_are(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[Rows]]
) -> None:
    directory = tmp_path_factory.mktemp("keys")
    columns, [first, second, third] = table
    a = _full(directory / "a", columns, first)
    b = _incremental(directory / "b", columns, a, first, second)
    c = _incremental(directory / "c", columns, b, second, third, THIRD)
    stored = {
        FIRST: first,
        SECOND: {key: row for key, row in second.items() if first.get(key) != row},
        THIRD: {key: row for key, row in third.items() if second.get(key) != row},
    }
    with KeyFiles.open(columns) as keys:
        contents, restored = keys.contents(c), []
        for stamp, own in zip(stored, [a, b, c], strict=True):
            assert keys.contents(own).get(stamp, EMPTY) == _content(stored[stamp])
            digests = keys.digests(c, own, stamp, taken=True)
            taken = [row for row in stored[stamp].items() if _digest(*row) in digests]
            others = {_digest(*row) for row in stored[stamp].items()} - digests
            assert keys.digests(c, own, stamp, taken=False) == others
            assert contents.get(stamp, EMPTY) == _content(dict(taken))
            restored += taken
        assert sorted(restored) == sorted(third.items())
        _check_difference(keys, columns, (a, first), (c, third))
        lost = {key: row for key, row in first.items() if third.get(key) != row}
        assert keys.removed_since(a, c, directory / "lost") == len(lost)
        assert sum(keys.contents(directory / "lost").values(), EMPTY) == _content(lost)
        wanted = directory / "wanted.jsonl"
        objects = [dict(zip(columns[::-1], key[::-1], strict=True)) for key in [*lost, *lost]]
        wanted.write_text("".join(f"{json.dumps(key)}\n" for key in objects))
        assert keys.matching(a, wanted, directory / "found") == len(lost)
        assert keys.contents(directory / "found") == keys.contents(directory / "lost")


def _check_difference(
    keys: KeyFiles, columns: list[str], earlier: tuple[Path, Rows], later: tuple[Path, Rows]
) -> None:
    (a, before), (b, after) = earlier, later
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
    expected = {
        *(("added", key) for key in after.keys() - before.keys()),
        *(("changed", key) for key in changed),
        *(("removed", key) for key in before.keys() - after.keys()),
    }
    named = list(keys.differing_keys(a, b))
    assert sorted((change, tuple(key.values())) for change, key in named) == sorted(expected)
    assert all(list(key) == columns for _, key in named)
    counts = Counter(change for change, _ in expected)
    difference = keys.difference(a, b).model_dump()
    assert difference == dict.fromkeys(difference, 0) | counts


_NO_KEYS = [
    *(b"", b'{"id": "1"', b"[" * 100_000, b'{"id": "\xff"}', b'["1"]', b'"1"', b'{"ID": "1"}'),
    *(b'{"id": "1", "n": "1"}', b'{"id": null}', b'{"id": true}', b'{"id": 1.0}'),
    *(b'{"id": "\\ud800"}', b'{"id": ' + b"1" * 5_000 + b"}"),
]
_OTHER_KEYS = ["2", "1 ", "", "1\0", "1,\r\n\"'"]


def test_a_line_that_is_no_key_of_the_set_is_named(tmp_path: Path) -> None:
    newest = _full(tmp_path / "a", ["id"], {("1",): 0})
    wanted = tmp_path / "keys.jsonl"
    no_key = r"^Line 2 of keys.jsonl is not a JSON object .* \(id\)"
    no_row = r"^The set has no row .* in line 2 of keys.jsonl"
    cases = [(line, no_key) for line in _NO_KEYS]
    cases += [(json.dumps({"id": value}).encode(), no_row) for value in _OTHER_KEYS]
    with KeyFiles.open(["id"]) as keys:
        for line, message in cases:
            wanted.write_bytes(b'{"id": "1"}\n' + line + b'\n{"id": "1"}\n')
            with pytest.raises(InvalidParams, match=message):
                keys.matching(newest, wanted, tmp_path / "b")


@pytest.mark.parametrize(
    ("base", "unchanged", "changed", "unknown"),
    [
        *[("12", "14", "3", 1), ("12", "12", "2", 1), ("12", "122", "", 1)],
        *[("122", "12", "", 1), ("122", "1", "2", 0)],
    ],
)
def test_unknown_keys_are_duplicates_and_unchanged_ones_that_the_base_lacks_or_has_twice(
    tmp_path: Path, base: str, unchanged: str, changed: str, unknown: int
) -> None:
    file, digests = tmp_path / "scanned", tmp_path / "digests"
    file.write_text("".join(f",{key}\n" for key in base))
    digests.write_text("".join(f"{row:032x}\n" for row in range(len(base))))
    with KeyFiles.open(["id"]) as keys:
        keys.load_scanned([file], all_changed=True)
        keys.write(tmp_path / "a", {digests: len(base)}, FIRST, has_base=False)
    lines = [*(f",{key}\n" for key in unchanged), *(f'"(0,1)",{key}\n' for key in changed)]
    file.write_text("".join(lines))
    with KeyFiles.open(["id"]) as keys:
        keys.load_scanned([file], all_changed=False)
        assert keys.compare(tmp_path / "a")[0] == unknown


def test_each_unchanged_row_needs_one_in_the_base(tmp_path: Path) -> None:
    base = _full(tmp_path / "a", ["id"], {("1",): 0, ("2",): 0})
    with KeyFiles.open(["id"]) as keys:
        digests = _scan(keys, {("1",): 0, ("3",): 0, ("4",): 0}, {("3",)})
        assert keys.compare(base) == (1, 1)
        with pytest.raises(IntegrityError, match="one row for each row of the table"):
            keys.write(tmp_path / "b", digests, SECOND, has_base=True)


@pytest.mark.parametrize("moved", [-1, 1])
def test_each_changed_row_needs_its_digest(tmp_path: Path, moved: int) -> None:
    rows: Rows = {(str(number),): 0 for number in range(10)}
    with KeyFiles.open(["id"]) as keys:
        digests = _scan(keys, rows, set(rows))
        first, second = digests
        # The sum is right, each file is not.
        lines = (first.read_text() + second.read_text()).splitlines(keepends=True)
        first.write_text("".join(lines[: 5 + moved]))
        second.write_text("".join(lines[5 + moved :]))
        with pytest.raises(IntegrityError, match="one row for each row of the table"):
            keys.write(tmp_path / "a", digests, FIRST, has_base=False)
    assert not (tmp_path / "a").exists()


def test_blocks_with_changed_rows_are_grouped_and_belong_to_one_group(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
    blocks = [[1, 1, 1, 2, 2, 9], [], [4] * 10 + [2**32 - 1] * 2]
    for file, of_rows in zip(files, blocks, strict=True):
        lines = [f'"({block},{row})",{row}\n' for row, block in enumerate(of_rows, start=1)]
        file.write_text("".join([",0\n", *lines]))
    with KeyFiles.open(["id"]) as keys:
        keys.load_scanned(files, all_changed=False)
        groups = [(0, 1, 3, 5), (0, 9, 10, 1), (2, 4, 5, 10), (2, 2**32 - 1, 2**32, 2)]
        assert keys.changed_blocks(4) == groups
        assert keys.changed_blocks(100) == [(0, 1, 10, 6), (2, 4, 2**32, 12)]


def test_digests_stay_with_their_keys_over_many_blocks(tmp_path: Path) -> None:
    """Far more rows than one of DuckDB's vectors and row groups, some of them unchanged."""
    rows: Rows = {(f"{number:x}",): number for number in range(130_000)}
    before: Rows = {key: -1 if row % 3 else row for key, row in rows.items()}
    base = _full(tmp_path / "a", ["id"], before)
    newest = _incremental(tmp_path / "b", ["id"], base, before, rows)
    query = "SELECT id, digest::VARCHAR, stamp FROM read_parquet($file)"
    for key, digest, stamp in duckdb.execute(query, {"file": str(newest)}).fetchall():
        row = rows[key,]
        assert int(digest.replace("-", ""), 16) == _digest((key,), row)
        assert stamp == (SECOND if row % 3 else FIRST)


def test_keys_are_any_text(tmp_path: Path) -> None:
    marks = ["", '"', 'a"",', ",", "\r", "\n", '\r\n"', "\\.", " ", "\t'"]
    texts = [*marks, "NULL", "größe", "\ufeffa"]
    rows: Rows = {(a, b): 0 for a in texts for b in texts}
    file = _full(tmp_path / "a", ["a", "b"], rows)
    with KeyFiles.open(["a", "b"]) as keys:
        empty = _full(tmp_path / "b", ["a", "b"], {})
        found = {tuple(key.values()) for _, key in keys.differing_keys(empty, file)}
    assert found == set(rows)


def test_a_directory_named_like_a_column_and_a_value_is_no_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: Rows = {("1",): 0, ("2",): 0}
    rows: Rows = {("1",): 0, ("2",): 1}
    for name in "id=7", "key_1=7", "mark=7", "digest=7", "stamp=7":
        directory = tmp_path / name
        directory.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        base = _full(directory / "a", ["id"], before)
        newest = _incremental(directory / "b", ["id"], base, before, rows)
        with KeyFiles.open(["id"]) as keys:
            assert keys.contents(newest).keys() == {FIRST, SECOND}


def test_the_hash_of_scanned_keys_depends_on_keys_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def hashed(*texts: str) -> tuple[str, int]:
        first.write_text(texts[0])
        second.write_text("".join(texts[1:]))
        return hash_scanned([first, second])

    sha256, marked = hashed(",a\n,b\n,c\n")
    assert (hashed(",a\n", ",b\n,c\n"), marked) == ((sha256, 0), 0)
    assert hashed('"(0,1)",a\n"(12,34)",b\n', '"(99,1)",c\n') == (sha256, 3)
    assert hashed('"(0,1)",a\n,c\n,b\n')[0] != sha256
    assert hashed(',"a\n""(0,1)"",b"\n')[1] == 0, "a key is no mark"


def test_an_empty_table_has_a_key_file(tmp_path: Path) -> None:
    with KeyFiles.open(["id"]) as keys:
        keys.load_scanned([], all_changed=True)
        assert keys.write(tmp_path / "a", {}, FIRST, has_base=False) == {}


def test_columns_keep_their_names_where_duckdb_can_tell_them_apart(tmp_path: Path) -> None:
    for own in ["id"], ["key_2", "mark"]:
        assert stored_names(own) == own
        names = duckdb.read_parquet(str(_full(tmp_path / "a", own, {}))).columns
        assert names == [*own, "digest", "stamp"]
    for ambiguous in ["a", "A"], ["id", "Digest"]:
        assert stored_names(ambiguous) == ["key_1", "key_2"]
        names = duckdb.read_parquet(str(_full(tmp_path / "a", ambiguous, {}))).columns
        assert names == ["key_1", "key_2", "digest", "stamp"]


def test_without_duckdb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with (
        pytest.raises(MissingExtra, match=r"vector-backup-pipeline\[incremental\]"),
        KeyFiles.open(["id"]),
    ):
        pass


def test_a_full_disk_is_an_error_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="TMPDIR"), KeyFiles.open(["id"]) as keys:
        digests = _scan(keys, {("1",): 0}, {("1",)})
        keys.write(tmp_path / "missing" / "a", digests, FIRST, has_base=False)
    with pytest.raises(StorageError, match="TMPDIR"), KeyFiles.open(["id"]):
        Path("/dev/full").write_text("Scanned keys")
    with pytest.raises(BrokenPipeError), KeyFiles.open(["id"]):
        raise BrokenPipeError(errno.EPIPE, "The terminal is gone")
