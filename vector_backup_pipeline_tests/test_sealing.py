"""A connection string on its way through Dagster's storage: only who has the key can read it."""

import base64
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from vector_backup_pipeline.engine.errors import InvalidParams, MissingExtra
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.resources import PostgresResource
from vector_backup_pipeline.sealing import KEY_FILE, is_sealed, open_sealed, seal
from vector_backup_pipeline.settings import SECRET_KEY_VARIABLE, load_settings
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_process import child, hears

PASSWORD = "geheim-4711"
URL = f"postgresql://u:{PASSWORD}@db.example.com/d"
# Its base64 has a character of each alphabet's own two.
_RAW_KEY = b"\xfb\xef\xff" * 10 + b"\xfb\xef"
KEY = base64.urlsafe_b64encode(_RAW_KEY).decode()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_KEY_VARIABLE, raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(SECRET_KEY_VARIABLE, KEY)
    return KEY


def _told(error: BaseException) -> str:
    return "".join([all_that_it_tells(error), *traceback.format_exception(error)])


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_what_was_sealed_with_a_key_in_either_alphabet_is_opened_with_it(
    encode: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base64.b64encode(_RAW_KEY) != base64.urlsafe_b64encode(_RAW_KEY)
    monkeypatch.setenv(SECRET_KEY_VARIABLE, encode(_RAW_KEY).decode())

    sealed = seal(SecretText(URL))

    assert is_sealed(sealed)
    assert PASSWORD not in sealed
    assert open_sealed(sealed).reveal() == URL
    assert not is_sealed(URL)


def test_both_spellings_of_a_key_are_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_KEY_VARIABLE, base64.b64encode(_RAW_KEY).decode())
    sealed = seal(SecretText(URL))
    monkeypatch.setenv(SECRET_KEY_VARIABLE, base64.urlsafe_b64encode(_RAW_KEY).decode())

    assert open_sealed(sealed).reveal() == URL


def test_the_same_text_is_sealed_differently_each_time(key: str) -> None:
    assert seal(SecretText(URL)) != seal(SecretText(URL))


def test_without_a_key_one_is_made_and_kept_for_its_owner_alone(home: Path) -> None:
    sealed = seal(SecretText(URL))

    assert open_sealed(sealed).reveal() == URL
    assert open_sealed(seal(SecretText("another"))).reveal() == "another"
    (path,) = home.iterdir()
    assert path.name == KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_variable_comes_before_the_file(home: Path, key: str) -> None:
    seal(SecretText(URL))

    assert list(home.iterdir()) == []


def test_many_threads_at_once_make_one_key(home: Path) -> None:
    together = threading.Barrier(16, timeout=20)

    def seal_together(_: int) -> str:
        together.wait()
        return seal(SecretText(URL))

    with ThreadPoolExecutor(16) as pool:
        sealed = list(pool.map(seal_together, range(16)))

    assert {open_sealed(each).reveal() for each in sealed} == {URL}
    assert [path.name for path in home.iterdir()] == [KEY_FILE]


def test_several_processes_at_once_make_one_key(home: Path) -> None:
    sealing = (
        "import sys; from vector_backup_pipeline.sealing import seal;"
        "from vector_backup_pipeline.engine.secrets import SecretText;"
        "import cryptography.fernet; print('ready', flush=True); sys.stdin.read();"
        f"print(seal(SecretText({URL!r})))"
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                child(
                    [sys.executable, "-c", sealing],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
                )
            )
            for _ in range(3)
        ]
        for each in processes:
            assert hears(each) == "ready"
        for each in processes:
            assert each.stdin is not None
            each.stdin.close()
            each.stdin = None
        sealed = [each.communicate(timeout=60)[0].strip() for each in processes]

    assert [open_sealed(each).reveal() for each in sealed] == [URL] * 3


def test_the_key_is_readable_for_nobody_else_from_its_first_moment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    link = os.link

    def look_and_link(source: str, target: Path) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in home.iterdir())
        link(source, target)
        seen.extend(path.stat().st_mode & 0o777 for path in home.iterdir())

    monkeypatch.setattr(os, "link", look_and_link)
    before = os.umask(0)
    try:
        seal(SecretText(URL))
    finally:
        os.umask(before)

    assert seen == [0o600] * 3


def test_a_key_that_is_there_already_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Fernet.generate_key()
    # Another process was quicker, after this one had looked.
    monkeypatch.setattr(Path, "exists", lambda _: False)
    (home / KEY_FILE).write_bytes(theirs)
    (home / KEY_FILE).chmod(0o600)

    sealed = seal(SecretText(URL))

    assert (home / KEY_FILE).read_bytes() == theirs
    assert Fernet(theirs).decrypt(sealed.removeprefix("sealed:")) == URL.encode()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("use", [lambda _: seal(SecretText(URL)), open_sealed])
def test_a_key_that_others_may_read_is_not_used(
    home: Path, mode: int, use: Callable[[str], object]
) -> None:
    sealed = seal(SecretText(URL))
    (home / KEY_FILE).chmod(mode)

    with pytest.raises(InvalidParams, match="Others may read") as refusal:
        use(sealed)
    assert (home / KEY_FILE).read_text().strip() not in _told(refusal.value)


@pytest.mark.parametrize(
    "damaged", [b"", b"\n", b"dG9vIHNob3J0", b"\xff\xfe\x00\x80" * 20, KEY[:-4].encode()]
)
def test_a_damaged_key_is_told_and_not_shown(home: Path, damaged: bytes) -> None:
    path = home / KEY_FILE
    path.write_bytes(damaged)
    path.chmod(0o600)

    with pytest.raises(InvalidParams, match=f"What is in {KEY_FILE}") as refusal:
        seal(SecretText(URL))
    told = _told(refusal.value)
    assert PASSWORD not in told
    assert len(damaged) < 5 or damaged.decode(errors="replace") not in told
    assert path.read_bytes() == damaged


def test_with_no_key_and_no_place_for_one_nothing_is_sealed() -> None:
    with pytest.raises(InvalidParams, match=f"{SECRET_KEY_VARIABLE}.*DAGSTER_HOME") as refusal:
        seal(SecretText(URL))
    assert PASSWORD not in _told(refusal.value)


def test_a_home_that_is_not_there_is_told_without_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))

    with pytest.raises(InvalidParams, match="can't be had: No such file") as refusal:
        seal(SecretText(URL))
    assert str(tmp_path) not in refusal.value.message


def test_opening_makes_no_key(home: Path) -> None:
    with pytest.raises(InvalidParams, match="can't be had"):
        open_sealed("sealed:gAAAA")
    assert list(home.iterdir()) == []


def test_what_was_sealed_with_another_key_is_not_opened(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal(SecretText(URL))
    monkeypatch.setenv(SECRET_KEY_VARIABLE, Fernet.generate_key().decode())

    with pytest.raises(InvalidParams, match=f"another key.*{SECRET_KEY_VARIABLE}") as refusal:
        open_sealed(sealed)
    told = _told(refusal.value)
    assert not any(secret in told for secret in (PASSWORD, KEY, sealed))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda sealed: sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:],
        lambda sealed: sealed[:-20],
        lambda _: "sealed:",
        lambda _: "sealed:" + URL,
        lambda _: "sealed:ключ",
        lambda _: "sealed:\ud800",
    ],
    ids=["changed", "cut off", "nothing", "plain", "no ASCII", "no text"],
)
def test_what_was_tampered_with_is_not_opened(key: str, tamper: Callable[[str], str]) -> None:
    with pytest.raises(InvalidParams, match="can't be opened") as refusal:
        open_sealed(tamper(seal(SecretText(URL))))
    assert PASSWORD not in _told(refusal.value)


@pytest.mark.parametrize("use", [lambda _: seal(SecretText(URL)), open_sealed])
def test_a_missing_package_is_named_with_what_installs_it(
    key: str, monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]
) -> None:
    sealed = seal(SecretText(URL))
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)

    with pytest.raises(MissingExtra, match=r"pip install 'vector-backup-pipeline\[api\]'"):
        use(sealed)


def test_what_was_opened_shows_itself_nowhere(key: str) -> None:
    opened = open_sealed(seal(SecretText(URL)))

    assert PASSWORD not in f"{opened} {opened!r} {[opened]}"
    with pytest.raises(TypeError):
        pickle.dumps(opened)


def test_a_run_opens_what_the_api_sealed(key: str) -> None:
    resource = PostgresResource(db_connection=seal(SecretText(URL)))

    settings = resource.connection_settings(load_settings())

    assert settings.parameters["host"] == "db.example.com"
    assert settings.parameters["password"] == PASSWORD
    # As a caller's own string: nothing of the worker's is added.
    assert settings.stands_alone
    assert PASSWORD not in repr(resource) + repr(settings)


def test_a_run_with_another_key_says_so_and_shows_nothing(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = PostgresResource(db_connection=seal(SecretText(URL)))
    monkeypatch.setenv(SECRET_KEY_VARIABLE, Fernet.generate_key().decode())

    with pytest.raises(InvalidParams, match="can't be opened") as refusal:
        resource.connection_settings(load_settings())
    assert PASSWORD not in _told(refusal.value)
