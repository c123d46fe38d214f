"""Encryption of connection strings in Dagster's storage: sealed by the API, opened by the run.

The run config holds `sealed:` and a Fernet token (AES-128-CBC with an HMAC). The key is
VECTOR_BACKUP_SECRET_KEY, or else a file that the API creates once in DAGSTER_HOME. The API and
Dagster's processes must share it.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from vector_backup_pipeline.engine.errors import InvalidParams, MissingExtra
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.settings import SECRET_KEY_VARIABLE, Settings

KEY_FILE = "vector_backup_secret_key"

_PREFIX = "sealed:"


def seal(text: SecretText, settings: Settings) -> str:
    """What may be stored in place of `text`. Raises `InvalidParams` if there is no key to share
    with the run."""
    sealed: bytes = _cipher(settings, create_key=True).encrypt(text.reveal().encode())
    return _PREFIX + sealed.decode()


def is_sealed(text: str) -> bool:
    return text.startswith(_PREFIX)


def open_sealed(text: str, settings: Settings) -> SecretText:
    """The text that `seal` was called with. Raises `InvalidParams` if it was sealed with another
    key, or is not a sealed text."""
    cipher = _cipher(settings)
    try:
        opened = cipher.decrypt(text.removeprefix(_PREFIX).encode(errors="replace"))
    except _load_fernet().InvalidToken:
        raise InvalidParams(
            "The sealed db_connection cannot be decrypted: the API sealed it with a different key "
            f"than this run's. Give both the same {SECRET_KEY_VARIABLE}, or the same DAGSTER_HOME."
        ) from None
    return SecretText(opened.decode())


def _load_fernet() -> Any:
    try:
        from cryptography import fernet
    except ImportError as error:
        raise MissingExtra(
            "The db_connection of an API call is encrypted, which needs the package cryptography.",
            "api",
        ) from error
    return fernet


def _cipher(settings: Settings, *, create_key: bool = False) -> Any:
    fernet = _load_fernet().Fernet
    key = settings.secret_key or _read_key_file(fernet.generate_key() if create_key else None)
    try:
        return fernet(key.reveal())
    except ValueError:
        raise InvalidParams(
            f"The file {KEY_FILE} in DAGSTER_HOME does not hold a key. Remove it, and the API "
            "creates a new one. Calls with a db_connection that are still queued must be repeated."
        ) from None


def _read_key_file(new_key: bytes | None) -> SecretText:
    """The key in DAGSTER_HOME; `new_key` is stored there first if there is none."""
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        raise InvalidParams(
            "A db_connection is encrypted before Dagster stores it, and there is no key. Set "
            f"{SECRET_KEY_VARIABLE} for the API and for Dagster's processes alike (create one: "
            "openssl rand -base64 32), or set DAGSTER_HOME, where a key is created and kept."
        )
    path = Path(home) / KEY_FILE
    try:
        if new_key is not None and not path.exists():
            _create_key_file(path, new_key)
        # A damaged file may hold any bytes.
        return SecretText(path.read_text("ascii", errors="replace").strip())
    except OSError as error:
        raise InvalidParams(
            f"The key {KEY_FILE} in DAGSTER_HOME cannot be read: {error.strerror}. The API creates "
            f"it; the runs need the same DAGSTER_HOME, or {SECRET_KEY_VARIABLE} for both."
        ) from error


def _create_key_file(path: Path, key: bytes) -> None:
    """Create the file completely or not at all. Of several processes the first one does."""
    # mkstemp creates it with mode 0600, before it has content.
    descriptor, pending = tempfile.mkstemp(prefix=f".{KEY_FILE}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(pending, path)
    finally:
        Path(pending).unlink()
