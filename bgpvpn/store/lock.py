"""One daemon per state directory (rim): a lock that names its holder and dies with it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bgpvpn.intent import StoreError


class DirectoryLock:
    """Holds `lock` in a directory by flock(2) until `release` or the end of the process; a stale file blocks nobody."""

    def __init__(self, directory: Path) -> None:
        """Take the lock; StoreError when the directory cannot be used, or names the process that holds it."""
        path = directory / "lock"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"the state directory {directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(f"{directory} is in use by another bgpvpnd, process {holder}") from None
        except OSError as error:
            os.close(self._file)
            raise StoreError(f"{path} cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let another daemon in."""
        os.close(self._file)


def holder_of(directory: Path) -> int | None:
    """Return the process that holds the lock of a directory, None if nobody does; OSError if it cannot be known."""
    try:
        file = os.open(directory / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(file, 20, 0).decode("ascii", "replace").strip()
        if not text.isdecimal():
            raise OSError(f"{directory} is held by a process that does not say its number") from None
        return int(text)
    finally:
        os.close(file)
    return None
