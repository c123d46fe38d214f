"""Encryption of data files and key files in the format of age (https://age-encryption.org/v1).

    written pieces ─▶ queue ─▶ thread: encrypt ─▶ stored pieces
    stored chunks ─▶ thread: decrypt ─▶ queue ─▶ chunks

pyrage reads and writes a whole stream in one call, hence the threads. It does not hold the
interpreter while it encrypts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vector_backup_pipeline.engine.chunk_reader import ChunkReader
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    MissingExtra,
)
from vector_backup_pipeline.engine.piped_thread import PipedThread

EncryptionFormat: TypeAlias = Literal["age"]

ENCRYPTED_SUFFIX = ".age"
IDENTITY_VARIABLE = "VECTOR_BACKUP_IDENTITY_FILE"

# pyrage writes 64 KiB at a time when it encrypts, 8 KiB when it decrypts.
_PIECE_BYTES = 1 << 20
# With the pieces being written and read, about 4 MiB per file.
_QUEUED_PIECES = 2
_THREAD_NAME = "vector-backup-age"


class Undecryptable(IntegrityError):
    """No identity is that of a recipient, or the bytes are not what was written."""


@dataclass(frozen=True)
class Encryption:
    """The recipients that new files are encrypted to, none to leave them plain; and the file with
    the identities that decrypt."""

    recipients: tuple[str, ...] = ()
    identity_file: str | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the names of new files."""
        return ENCRYPTED_SUFFIX if self.recipients else ""

    def decrypted(self, stored: Iterator[bytes], name: str) -> Iterator[bytes]:
        """The bytes of the file `name` before encryption, in chunks of about a MiB. Another thread
        reads `stored`, until this iterator ends or is closed.

        Raises:
            InvalidParams: there are no identities.
            Undecryptable: see there.
        """
        identities = self._identities(name)

        def decrypt(thread: PipedThread) -> None:
            reader, writer = ChunkReader(stored), _JoiningWriter(thread.put)
            try:
                load_pyrage().decrypt_io(reader, writer, identities)
            except (load_pyrage().DecryptError, OSError) as error:
                damage = Undecryptable(
                    f"{name} cannot be decrypted: {error}. Check the disk, and use another set."
                )
                raise reader.error or writer.error or damage from error
            writer.flush()

        thread = PipedThread(decrypt, _THREAD_NAME, _QUEUED_PIECES)
        try:
            yield from thread.pieces()
            thread.finish()
        finally:
            thread.stop()

    def _identities(self, name: str) -> list[Any]:
        if self.identity_file is None:
            raise InvalidParams(
                f"{name} is encrypted, and {IDENTITY_VARIABLE} is not set. Set it to a "
                "file with the identity (private key) of one of the recipients."
            )
        try:
            return read_identities(self.identity_file)
        except InvalidParams as error:
            raise InvalidParams(f"{IDENTITY_VARIABLE}: {error.message}") from None


NO_ENCRYPTION = Encryption()


def start_encrypting(recipients: tuple[str, ...], store: Callable[[bytes], None]) -> PipedThread:
    """A thread that encrypts what it is fed, and passes it to `store` in pieces of about a MiB. An
    error of `store` is raised by the next call."""
    keys = [_recipient(text) for text in recipients]

    def encrypt(thread: PipedThread) -> None:
        reader, writer = ChunkReader(thread.pieces()), _JoiningWriter(store)
        try:
            load_pyrage().encrypt_io(reader, writer, keys)
        except load_pyrage().EncryptError as error:
            raise reader.error or writer.error or BackupError(str(error)) from error
        writer.flush()

    return PipedThread(encrypt, _THREAD_NAME, _QUEUED_PIECES)


class _JoiningWriter:
    """A file for pyrage to write to, which joins what is written. Keeps an error of `write_piece`:
    pyrage may report only its text."""

    def __init__(self, write_piece: Callable[[bytes], None]) -> None:
        self._write_piece = write_piece
        self._joined = bytearray()
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        self._joined += data
        if len(self._joined) >= _PIECE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        piece = bytes(self._joined)
        self._joined.clear()
        try:
            if piece:
                self._write_piece(piece)
        except BaseException as error:
            self.error = error
            raise


def read_recipients(text: str) -> tuple[str, ...]:
    """Recipients from a list, separated by commas, or from the file of that path. Raises
    `InvalidParams`, which does not repeat the text."""
    if not text.startswith(("age1", "ssh-")):
        try:
            text = Path(text).read_text("utf-8")
        except (OSError, ValueError):
            raise InvalidParams(
                "it is neither a list of recipients (age1…, ssh-ed25519 …, ssh-rsa …) nor a file "
                "that can be read"
            ) from None
    recipients = _without_comments(re.split(r"[,\n]", text))
    for number, recipient in enumerate(recipients, 1):
        try:
            _recipient(recipient)
        except load_pyrage().RecipientError:
            raise InvalidParams(
                f"recipient {number} of {len(recipients)} is not valid: give public keys such as "
                "age1…, ssh-ed25519 … or ssh-rsa …"
            ) from None
    if not recipients:
        raise InvalidParams("it has no recipients")
    return recipients


def read_identities(path: str) -> list[Any]:
    """The identities in a file. Raises `InvalidParams`, which repeats neither path nor content: one
    may be taken for the other."""
    pyrage = load_pyrage()
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError):
        raise InvalidParams("it is not a file that can be read") from None
    try:
        if data.startswith(b"-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer(data)]
        lines = _without_comments(data.decode().splitlines())
        identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except (pyrage.IdentityError, ValueError):
        identities = []
    if not identities:
        raise InvalidParams(
            "the file has no valid identity: write lines of AGE-SECRET-KEY-1…, or an SSH private "
            "key without a passphrase"
        )
    return identities


def load_pyrage() -> Any:
    """The package; raises `MissingExtra` without it."""
    try:
        import pyrage
    except ImportError as error:
        raise MissingExtra("Encryption needs the package pyrage.", "encryption") from error
    return pyrage


def _recipient(text: str) -> Any:
    pyrage = load_pyrage()
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    return kind.Recipient.from_str(text)


def _without_comments(lines: list[str]) -> tuple[str, ...]:
    stripped = (line.strip() for line in lines)
    return tuple(line for line in stripped if line and not line.startswith("#"))
