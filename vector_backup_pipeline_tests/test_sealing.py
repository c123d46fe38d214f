"""Connection strings in Dagster's storage can be read only with the key."""

import base64
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from vector_backup_pipeline.engine.errors import InvalidParams, MissingExtra
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.resources import PostgresResource
from vector_backup_pipeline.sealing import KEY_FILE, is_sealed, open_sealed, seal
from vector_backup_pipeline.settings import SECRET_KEY_VARIABLE, load_settings
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells

PASSWORD = "geheim-4711"
URL = f"postgresql://u:{PASSWORD}@db.example.com/d"
SECRET = SecretText(URL)
# Its base64 contains a special character of each alphabet.
_RAW_KEY = b"\xfb\xef\xff" * 10 + b"\xfb\xef"
KEY = base64.urlsafe_b64encode(_RAW_KEY).decode()


WITH_KEY, WITHOUT_KEY = load_settings(secret_key=KEY), load_settings()
WITH_OTHER_KEY = load_settings(secret_key=Fernet.generate_key().decode())


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def _refused(action: Callable[[], object], match: str) -> str:
    with pytest.raises(InvalidParams, match=match) as refusal:
        action()
    error = refusal.value
    text = "".join([all_that_it_tells(error), *traceback.format_exception(error)])
    assert not any(secret in text for secret in (PASSWORD, KEY))
    return text


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_in_either_alphabet_is_the_same_key(
    encode: Callable[[bytes], bytes], home: Path
) -> None:
    assert base64.b64encode(_RAW_KEY) != base64.urlsafe_b64encode(_RAW_KEY)
    # The setting takes precedence over the file in DAGSTER_HOME.
    sealed = seal(SECRET, load_settings(secret_key=encode(_RAW_KEY).decode()))

    assert list(home.iterdir()) == []
    assert is_sealed(sealed)
    assert not is_sealed(URL)
    assert PASSWORD not in sealed
    assert open_sealed(sealed, WITH_KEY).reveal() == URL
    assert seal(SECRET, WITH_KEY) != seal(SECRET, WITH_KEY)


def test_without_a_key_one_is_created_that_only_its_owner_can_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    link = os.link

    def look_and_link(source: str, target: Path) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in home.iterdir())
        link(source, target)

    monkeypatch.setattr(os, "link", look_and_link)
    before = os.umask(0)
    try:
        sealed = seal(SECRET, WITHOUT_KEY)
    finally:
        os.umask(before)

    assert open_sealed(sealed, WITHOUT_KEY).reveal() == URL
    other = seal(SecretText("another"), WITHOUT_KEY)
    assert open_sealed(other, WITHOUT_KEY).reveal() == "another"
    (path,) = home.iterdir()
    assert path.name == KEY_FILE
    assert [*modes, path.stat().st_mode & 0o777] == [0o600, 0o600]


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe\x00\x80" * 20, KEY[:-4].encode()])
def test_a_damaged_key_is_reported_and_not_shown(home: Path, damaged: bytes) -> None:
    path = home / KEY_FILE
    path.write_bytes(damaged)

    text = _refused(lambda: seal(SECRET, WITHOUT_KEY), f"{KEY_FILE} .* does not hold a key")
    assert len(damaged) < 5 or damaged.decode(errors="replace") not in text
    assert path.read_bytes() == damaged


def test_nothing_is_sealed_without_a_key_and_a_directory_for_one() -> None:
    _refused(lambda: seal(SECRET, WITHOUT_KEY), f"{SECRET_KEY_VARIABLE}.*DAGSTER_HOME")


@pytest.mark.parametrize("use", ["seal", "open"])
def test_an_unreadable_key_file_is_reported_without_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    # Only sealing creates a key.
    home = tmp_path / "nowhere" if use == "seal" else tmp_path
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    with pytest.raises(InvalidParams, match="cannot be read: No such file") as refusal:
        if use == "seal":
            seal(SECRET, WITHOUT_KEY)
        else:
            open_sealed("sealed:gAAAA", WITHOUT_KEY)
    assert str(tmp_path) not in refusal.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tamper",
    [
        lambda _: seal(SECRET, WITH_OTHER_KEY),
        lambda sealed: sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:],
        lambda _: "sealed:" + URL,
        lambda _: "sealed:\ud800",
    ],
    ids=["other key", "changed", "plain", "no text"],
)
def test_a_text_of_another_key_or_that_was_changed_is_not_opened(
    tamper: Callable[[str], str],
) -> None:
    sealed = tamper(seal(SECRET, WITH_KEY))
    text = _refused(
        lambda: open_sealed(sealed, WITH_KEY), f"decrypted: .*different key.*{SECRET_KEY_VARIABLE}"
    )
    assert sealed not in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealed = seal(SECRET, WITH_KEY)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    for use in (lambda: seal(SECRET, WITH_KEY), lambda: open_sealed(sealed, WITH_KEY)):
        with pytest.raises(MissingExtra, match=r"pip install 'vector-backup-pipeline\[api\]'"):
            use()


def test_a_run_opens_the_text_that_the_api_sealed() -> None:
    sealed = SecretStr(seal(SECRET, WITH_KEY))
    connect = PostgresResource().connection_settings

    settings = connect(WITH_KEY, sealed)

    assert settings.parameters["host"] == "db.example.com"
    assert settings.parameters["password"] == PASSWORD
    # Like a caller's own string, without the worker's settings.
    assert settings.stands_alone
    assert PASSWORD not in repr(settings)
    _refused(lambda: connect(WITH_OTHER_KEY, sealed), "cannot be decrypted")
