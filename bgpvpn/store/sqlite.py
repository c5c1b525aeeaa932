"""Intent and leases in one SQLite file (rim): what a write acknowledges survives SIGKILL and loss of power.

    DIRECTORY/lock            held by the one daemon that uses the directory
    DIRECTORY/NAME            the file: one row an object, one a lease; with it NAME-wal
    DIRECTORY/keys/ID.REV     the password or the keys of a BGP peer, mode 0600; the file proper holds no secrets

The write-ahead log is synced at every commit. SQLite's own checks find a damaged tree but not a damaged value, so
each row carries a checksum. A new file is made under another name and renamed, so that an empty file under the right
one is damage and not a fresh start.

A failed fsync leaves open whether the commit is on disk, and a later fsync that succeeds proves nothing. The write is
then refused, the file opened anew, and the rows put back as they were; only then is the next write taken. (Should
the daemon die between the two, a refused wish may be found at the next start; an acknowledged one is never lost.)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from bgpvpn.intent import Change, Peer, Stamp, StoredLease, StoreError, make
from bgpvpn.store.lock import DirectoryLock

APPLICATION_ID = 0x42475056  # "BGPV": tells a store from any other SQLite file

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE object (
            kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL,
            created_at REAL NOT NULL, updated_at REAL NOT NULL, json TEXT NOT NULL,
            checksum INTEGER NOT NULL, PRIMARY KEY (kind, id)
        ) STRICT""",
        """CREATE TABLE lease (
            pool TEXT NOT NULL, purpose TEXT NOT NULL, number INTEGER NOT NULL, released_at REAL,
            checksum INTEGER NOT NULL, PRIMARY KEY (pool, purpose)
        ) STRICT""",
    ),
    (
        "CREATE TABLE identity (number TEXT NOT NULL) STRICT",
        "INSERT INTO identity VALUES (lower(hex(randomblob(8))))",
    ),
)
"""What makes a file of format N one of format N + 1; the format is PRAGMA user_version."""


@attrs.frozen
class Statements:
    """What is said to one table; the first two columns are the key, the checksum comes last and covers all others."""

    every: str
    one: str
    put: str
    drop: str


STATEMENTS = {
    "object": Statements(
        every="SELECT * FROM object ORDER BY rowid",
        one="SELECT * FROM object WHERE kind = ? AND id = ?",
        put="INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)",
        drop="DELETE FROM object WHERE kind = ? AND id = ?",
    ),
    "lease": Statements(
        every="SELECT * FROM lease ORDER BY rowid",
        one="SELECT * FROM lease WHERE pool = ? AND purpose = ?",
        put="INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?)",
        drop="DELETE FROM lease WHERE pool = ? AND purpose = ?",
    ),
}

Row = tuple[Any, ...]
RowKey = tuple[str, str, str]
"""(table, and the two columns of its key)."""


class SqliteStore:
    """The `Store` of a node by itself; made, used and closed in one thread."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        """Lock the directory and open or make the file; StoreError, naming it, when that cannot be."""
        self.path = path
        self._migrations = migrations
        self._keys = path.parent / "keys"
        self._doubtful: dict[RowKey, Row | None] = {}  # rows to put back after a commit of unknown outcome
        self._connection: sqlite3.Connection | None = None
        self._lock = DirectoryLock(path.parent)
        try:
            with self._refusing("cannot be opened"):
                if not path.exists():
                    self._create()
                self._connection = self._open(path)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Close the file and let another daemon in."""
        self._disconnect()
        self._lock.release()

    # Reading

    def load(self) -> tuple[list[Change], list[StoredLease]]:
        """Return everything that is kept; StoreError names the file and the damaged row."""
        with self._refusing("cannot be read"):
            connection = self._ready()
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise StoreError(f"the store {self.path} is damaged: {verdict}")
            changes = [self._change(row) for row in self._rows(connection, "object")]
            leases: list[StoredLease] = [tuple(row) for row in self._rows(connection, "lease")]
            self._sweep_keys(changes)
        return changes, leases

    def identity(self) -> int:
        """Return the random number of 63 bits, never small, that was made with the file; StoreError."""
        with self._refusing("cannot be read"):
            row = self._ready().execute("SELECT number FROM identity").fetchone()
        if row is None:
            raise StoreError(f"the store {self.path} is damaged: it has no identity")
        return int(row[0], 16) >> 1 | 1 << 62

    def _rows(self, connection: sqlite3.Connection, table: str) -> Iterable[Row]:
        for *row, checksum in connection.execute(STATEMENTS[table].every):
            if checksum != _checksum(row):
                raise StoreError(f"the store {self.path} is damaged: {table} {row[0]} {row[1]} has a wrong checksum")
            yield tuple(row)

    def _change(self, row: Row) -> Change:
        kind, id_, revision, created_at, updated_at, text = row
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
            if (key := fields.pop("password_file", None)) is not None:
                _put_secrets(fields, (self._keys / key).read_text())
            thing = make(kind, _as_today(kind, fields))
        except (ValueError, msgspec.DecodeError, KeyError, OSError) as error:
            raise StoreError(f"the store {self.path} is damaged: {kind} {id_}: {error}") from error
        return Change(kind, id_, thing, Stamp(revision, created_at, updated_at))

    # Writing

    def write(
        self,
        changes: Iterable[Change] = (),
        leases: Iterable[StoredLease] = (),
        dropped_leases: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Keep all of it or nothing; durable when this returns. StoreError: refused, nothing of it counts."""
        rows: dict[RowKey, Row | None] = {}
        changed_peers: list[Change] = []
        with self._refusing("does not take the change"):
            for change in changes:
                rows["object", change.kind, change.id] = self._row(change)
                if change.kind == "peer":
                    changed_peers.append(change)
            for pool, purpose in dropped_leases:
                rows["lease", pool, purpose] = None
            for lease in leases:
                pool, purpose, number, released_at = lease
                released_at = None if released_at is None else float(released_at)
                rows["lease", pool, purpose] = (pool, purpose, number, released_at)
            if rows:
                self._keep(rows)
        for change in changed_peers:
            self._drop_keys(change)

    def _row(self, change: Change) -> Row | None:
        if change.thing is None:
            return None
        fields = attrs.asdict(change.thing)
        if isinstance(change.thing, Peer) and (secrets := _take_secrets(fields)) is not None:
            fields["password_file"] = self._write_key(change, secrets)
        text = msgspec.json.encode(fields).decode()
        stamp = change.stamp
        return (change.kind, change.id, stamp.revision, float(stamp.created_at), float(stamp.updated_at), text)

    def _keep(self, rows: dict[RowKey, Row | None]) -> None:
        connection = self._ready()
        before = {key: _read(connection, key) for key in rows}
        try:
            _commit(connection, rows)
        except sqlite3.Error as error:
            if _name_of(error) != "SQLITE_FULL":
                self._doubtful = before
                self._disconnect()
                with contextlib.suppress(sqlite3.Error, OSError, StoreError):
                    self._ready()
            raise

    def _ready(self) -> sqlite3.Connection:
        """Return a connection to a file that holds what was acknowledged and nothing else."""
        if self._connection is None:
            self._connection = self._open(self.path)
        if self._doubtful:
            try:
                _commit(self._connection, self._doubtful)
            except sqlite3.Error:
                self._disconnect()
                raise
            self._doubtful = {}
        return self._connection

    # The file

    def _create(self) -> None:
        """Make an empty store that is there under its name only when it is complete."""
        unborn = self.path.with_name(self.path.name + ".new")
        for leftover in self.path.parent.glob(unborn.name + "*"):
            leftover.unlink()
        connection = self._open(unborn, new=True)
        connection.close()
        os.rename(unborn, self.path)
        _sync(self.path.parent)

    def _open(self, path: Path, new: bool = False) -> sqlite3.Connection:
        if not new and path.stat().st_size == 0:
            raise StoreError(f"the store {path} is damaged: it is empty")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if new else 'rw'}", uri=True, isolation_level=None
        )
        try:
            os.chmod(path, 0o600)
            # Exclusive: nobody writes beside us, and no shared memory file, whose pages raise SIGBUS on a full disk.
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "trusted_schema = OFF",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            if new:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._migrate(connection)
            # A first commit makes the log, whose name must last too; SQLite ignores it when that sync fails.
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")
            _sync(path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the file to the format of this daemon."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} is not a store of bgpvpnd (application id {application:#x})")
        newest = len(self._migrations)
        if version > newest:
            raise StoreError(f"the store {self.path} has format {version}; this bgpvpnd knows formats up to {newest}")
        if version == newest:
            return
        connection.execute("BEGIN IMMEDIATE")
        for statement in (statement for migration in self._migrations[version:] for statement in migration):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """Turn what goes wrong below into a StoreError that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            reason = "the disk is full" if _name_of(error) == "SQLITE_FULL" else str(error)
            raise StoreError(f"the store {self.path} {what}: {reason}") from error
        except OSError as error:
            raise StoreError(f"the store {self.path} {what}: {error.strerror} ({error.filename})") from error

    # Passwords

    def _write_key(self, change: Change, secrets: str) -> str:
        """Write the secrets of a peer beside the file, durable; return the name of their file."""
        name = f"{change.id}.{change.stamp.revision}"
        self._keys.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._keys / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, secrets.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync(self._keys)
        return name

    def _drop_keys(self, change: Change) -> None:
        """Remove the passwords that a peer had before; what stays here after an error goes at the next start."""
        keep = f"{change.id}.{change.stamp.revision}" if change.thing is not None else ""
        with contextlib.suppress(OSError):
            for path in self._keys.iterdir():
                if path.name.rpartition(".")[0] == change.id and path.name != keep:
                    path.unlink()

    def _sweep_keys(self, changes: Iterable[Change]) -> None:
        """Remove passwords that no peer has any more."""
        if not self._keys.is_dir():
            return
        used = {f"{change.id}.{change.stamp.revision}" for change in changes if change.kind == "peer"}
        for path in self._keys.iterdir():
            if path.name not in used:
                path.unlink()


def _take_secrets(fields: dict[str, Any]) -> str | None:
    """Take the secrets out of the fields of a peer: its password as it is, or a line for each key of TCP-AO."""
    password: str | None = fields.pop("password")
    secrets = [key.pop("secret") for key in fields["tcp_ao"]]
    return "\n".join(secrets) if secrets else password


def _put_secrets(fields: dict[str, Any], text: str) -> None:
    """Put them back; ValueError if they are not those of the fields."""
    if keys := fields.get("tcp_ao"):
        for key, secret in zip(keys, text.split("\n"), strict=True):
            key["secret"] = secret
    else:
        fields["password"] = text


def _as_today(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an object as they are today, where an earlier daemon wrote others."""
    if kind == "association" and "prefixes" in fields:
        fields["routes"] = [{"type": "prefix", "prefix": prefix} for prefix in fields.pop("prefixes")]
    return fields


def _checksum(row: Sequence[Any]) -> int:
    return zlib.crc32(msgspec.json.encode(row))


def _name_of(error: sqlite3.Error) -> str:
    """Return SQLite's name for an error, "" for an error of the sqlite3 module itself."""
    return getattr(error, "sqlite_errorname", "")


def _read(connection: sqlite3.Connection, key: RowKey) -> Row | None:
    table, *values = key
    row: Row | None = connection.execute(STATEMENTS[table].one, values).fetchone()
    return None if row is None else row[:-1]


def _commit(connection: sqlite3.Connection, rows: dict[RowKey, Row | None]) -> None:
    """Make each row as given, None: gone, in one transaction."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for (table, *values), row in rows.items():
            if row is None:
                connection.execute(STATEMENTS[table].drop, values)
            else:
                connection.execute(STATEMENTS[table].put, (*row, _checksum(row)))
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
