"""Connection strings on their way through Dagster's storage: sealed by the API, opened by the run.

Whoever reads the run config sees `sealed:` and a Fernet token (AES-128-CBC with an HMAC). The key
is VECTOR_BACKUP_SECRET_KEY, or else a file that is made once in DAGSTER_HOME; the API and Dagster's
processes have to share it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vector_backup_pipeline.engine.errors import InvalidParams, MissingExtra
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.settings import SECRET_KEY_VARIABLE, load_settings

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_FILE = "vector_backup_secret_key"

_PREFIX = "sealed:"
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def seal(text: SecretText) -> str:
    """What may be stored in place of `text`.

    Raises:
        InvalidParams: there is no key to share with the run.
    """
    key = load_settings().secret_key or _file_key(make=True)
    return _PREFIX + _fernet(key).encrypt(text.reveal().encode()).decode()


def is_sealed(text: str) -> bool:
    return text.startswith(_PREFIX)


def open_sealed(text: str) -> SecretText:
    """What `seal` was given.

    Raises:
        InvalidParams: it was sealed with another key, or is no sealed text.
    """
    fernet = _fernet(load_settings().secret_key or _file_key(make=False))
    # Not before: that it is missing is told there.
    from cryptography.fernet import InvalidToken

    try:
        opened = fernet.decrypt(text.removeprefix(_PREFIX).encode(errors="replace"))
    except InvalidToken:
        raise InvalidParams(
            "The sealed db_connection can't be opened: the API that sealed it has another key than "
            f"this run. Give both the same {SECRET_KEY_VARIABLE}, or the same DAGSTER_HOME."
        ) from None
    return SecretText(opened.decode())


def _fernet(key: SecretText) -> Fernet:
    try:
        from cryptography.fernet import Fernet
    except ImportError as error:
        raise MissingExtra(
            "The db_connection of an API call is encrypted, which needs the package cryptography.",
            "api",
        ) from error
    try:
        return Fernet(key.reveal())
    except ValueError:
        raise InvalidParams(
            f"What is in {KEY_FILE} in DAGSTER_HOME is no key. Remove the file, and the API makes "
            "another one; runs that are waiting with a db_connection of the API must be sent again."
        ) from None


def _file_key(*, make: bool) -> SecretText:
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        raise InvalidParams(
            "A db_connection is sealed before Dagster stores it, and there is no key for that. Set "
            f"{SECRET_KEY_VARIABLE} for the API and for Dagster's processes alike (make one: "
            "openssl rand -base64 32), or DAGSTER_HOME, where a key is made and kept."
        )
    path = Path(home) / KEY_FILE
    try:
        if make and not path.exists():
            _make_key_file(path)
        if path.stat().st_mode & _FOR_OTHERS:
            raise InvalidParams(
                f"Others may read the key {KEY_FILE} in DAGSTER_HOME, so nothing is sealed with "
                f"it. If nobody did, run: chmod 600 $DAGSTER_HOME/{KEY_FILE}; else remove it."
            )
        # One that was damaged may hold any bytes.
        return SecretText(path.read_text("ascii", errors="replace").strip())
    except OSError as error:
        raise InvalidParams(
            f"The key {KEY_FILE} in DAGSTER_HOME can't be had: {error.strerror}. The API makes it; "
            f"the runs need the same DAGSTER_HOME, or {SECRET_KEY_VARIABLE} for both."
        ) from error


def _make_key_file(path: Path) -> None:
    """Whole or not at all, and only the first of several at once."""
    from cryptography.fernet import Fernet

    # Made with mode 0600, before there is anything in it.
    descriptor, pending = tempfile.mkstemp(prefix=f".{KEY_FILE}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(pending, path)
    finally:
        Path(pending).unlink()
