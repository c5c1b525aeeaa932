from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec
import pytest

from bgpvpn.intent import Association, Bgpvpn, Change, Network, Object, Peer, Policy, Stamp, StoreError, kind_of
from bgpvpn.store.sqlite import MIGRATIONS, SqliteStore

NETWORK = Network(id="n", name="blue-net", mtu=1400)
PEER = Peer(id="p", name="rr", address="192.0.2.1", remote_as=64512, password="s3cret-of-rr")


def change(thing: Object, revision: int = 1) -> Change:
    return Change(kind_of(thing), thing.id, thing, Stamp(revision, 1.0, float(revision)))


def removal(thing: Object) -> Change:
    return attrs.evolve(change(thing), thing=None)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "intent.db"


def test_what_was_written_is_loaded_again(path: Path) -> None:
    changes = [change(NETWORK, 3), change(Bgpvpn(id="v", route_targets=["64512:1"])), change(PEER)]
    leases = [("label", "vrf", 16, None), ("table", "x", 7, 12.5)]
    with opened(path) as store:
        assert store.load() == ([], [])
        store.write(changes, leases)
    with opened(path) as store:
        assert store.load() == (changes, leases)


def test_later_writes_replace_and_remove(path: Path) -> None:
    with opened(path) as store:
        store.write([change(NETWORK)], [("label", "a", 16, None), ("label", "b", 17, None)])
        store.write([change(attrs.evolve(NETWORK, mtu=None), 2)], [("label", "a", 16, 5.0)], [("label", "b")])
        store.write([change(PEER), removal(PEER)])
    with opened(path) as store:
        assert store.load() == ([change(attrs.evolve(NETWORK, mtu=None), 2)], [("label", "a", 16, 5.0)])


def test_passwords_are_beside_the_store_and_only_for_its_owner(path: Path) -> None:
    with opened(path) as store:
        store.write([change(PEER)])
        store.write([change(attrs.evolve(PEER, password="0ther-secret"), 2)])
        (key,) = (path.parent / "keys").iterdir()
        assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("0ther-secret", 0o600)
        assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in path.parent.iterdir())
        for file in path.parent.glob("intent.db*"):
            assert b"secret" not in file.read_bytes()
        store.write([removal(PEER)])
        assert list((path.parent / "keys").iterdir()) == []


def test_keys_of_TCP_AO_are_beside_the_store_and_policies_in_it(path: Path) -> None:
    keys = [{"send_id": n, "receive_id": n, "secret": f"s3cret {n}"} for n in (1, 2)]
    policy = Policy(id="in", name="in", statement=[{"match": {"prefixes": ["10.0.0.0/8 le 24"]}, "then": "accept"}])
    limits = {"vpnv4": 5, "all": {"most": 7, "action": "restart"}}
    peer = attrs.evolve(PEER, password=None, tcp_ao=keys, import_policy={"vpnv4": "in"}, prefix_limits=limits)
    with opened(path) as store:
        store.write([change(policy), change(peer)])
        (key,) = (path.parent / "keys").iterdir()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        for file in path.parent.glob("intent.db*"):
            assert b"s3cret" not in file.read_bytes()
    with opened(path) as store:
        assert store.load() == ([change(policy), change(peer)], [])
    key.write_text("s3cret 1")
    with opened(path) as store, pytest.raises(StoreError, match="is damaged: peer p"):
        store.load()


def test_a_password_that_no_peer_has_goes_at_the_next_start(path: Path) -> None:
    with opened(path) as store:
        store.write([change(PEER)])
    (path.parent / "keys" / "p.2").write_text("left by a write that was refused")
    with opened(path) as store:
        assert store.load() == ([change(PEER)], [])
    assert [file.name for file in (path.parent / "keys").iterdir()] == ["p.1"]


def test_a_second_daemon_is_told_who_is_there_and_a_stale_lock_blocks_nobody(path: Path) -> None:
    with opened(path), pytest.raises(StoreError, match=f"in use by another bgpvpnd, process {os.getpid()}$"):
        SqliteStore(path)
    assert (path.parent / "lock").exists()
    with opened(path):
        pass


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bgpvpn.intent import Change, Network, Stamp
    from bgpvpn.store.sqlite import SqliteStore
    store = SqliteStore(Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), 1_000_000):
        network = Network(id=str(number), name="x" * (number % 200))
        store.write([Change("network", network.id, network, Stamp(1, 0.0, 0.0))], [("label", network.id, number, None)])
        print(number, flush=True)
""")


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    acknowledged = -1
    for lines in (1, 2, 7, 40, 3, 150):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, path, str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(lines):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
        with opened(path) as store:
            changes, leases = store.load()
        stored = [int(change.id) for change in changes]
        assert stored[: acknowledged + 1] == list(range(acknowledged + 1))
        assert len(stored) <= acknowledged + 2, "at most the one that was about to be acknowledged"
        assert [lease[2] for lease in leases] == stored, "an object and its lease come together"
        acknowledged = stored[-1]


@contextlib.contextmanager
def files_at_most(octets: int) -> Iterator[None]:
    """Let every write beyond this size fail with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_refused_and_leaves_nothing_and_the_next_is_taken(path: Path) -> None:
    big = [change(Network(id=str(number), name="x" * 200)) for number in range(2000)]
    with opened(path) as store:
        store.write([change(NETWORK)])
        with files_at_most(1 << 16), pytest.raises(StoreError, match=r"the store .*intent.db does not take the change"):
            store.write(big)
        assert store.load() == ([change(NETWORK)], [])
        store.write([change(NETWORK, 2)])
    with opened(path) as store:
        assert store.load() == ([change(NETWORK, 2)], [])


FULL = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bgpvpn.intent import Change, Network, Stamp, StoreError
    from bgpvpn.store.sqlite import SqliteStore
    folder = Path(sys.argv[1])
    store, kept = SqliteStore(folder / "intent.db"), 0
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(64 * 1024))
    def write(number):
        network = Network(id=str(number), name="x" * 200)
        store.write([Change("network", network.id, network, Stamp(1, 0.0, 0.0))])
    try:
        while True:
            write(kept)
            kept += 1
    except StoreError as error:
        print(error)
    assert len(store.load()[0]) == kept > 0
    ballast.unlink()
    write(kept)
    store.close()
    store = SqliteStore(folder / "intent.db")
    print(len(store.load()[0]) - kept)
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_is_named_and_writes_go_on_when_there_is_space(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=512k none {tmp_path} && exec "$0" "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, sys.executable, "-c", FULL, str(tmp_path)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words == [f"the store {tmp_path}/intent.db does not take the change: the disk is full", "1"]


UNSYNCED = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bgpvpn.intent import Change, Network, Stamp, StoreError
    from bgpvpn.store.sqlite import SqliteStore
    path = Path(sys.argv[1])
    store, kept, refused = SqliteStore(path), [], 0
    for number in range(20):
        network = Network(id=str(number))
        try:
            store.write([Change("network", network.id, network, Stamp(1, 0.0, 0.0))])
            kept.append(network.id)
        except StoreError as error:
            refused += 1
    while True:
        try:
            stored = [change.id for change in store.load()[0]]
            break
        except StoreError:
            continue
    print(refused, stored == kept)
""")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the fsync fail")
@pytest.mark.parametrize("when", ["4", "4+7", "5+2", "6+5"])
def test_a_failed_fsync_refuses_the_write_and_undoes_it(path: Path, when: str) -> None:
    with opened(path):
        pass
    inject = f"inject=fdatasync:error=EIO:when={when}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", inject, sys.executable, "-c", UNSYNCED, str(path)]
    words = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert int(words[0]) > 0, "no fsync failed"
    assert words[1] == "True", "what was refused is not in the store, what was acknowledged is"
    with opened(path) as store:
        changes, _ = store.load()
    assert len(changes) == 20 - int(words[0])


def filled(path: Path) -> tuple[bytes, tuple[list[Change], list[tuple[str, str, int, float | None]]]]:
    with opened(path) as store:
        store.write(
            [change(Network(id=str(number), name="name" * 9)) for number in range(30)], [("label", "a", 16, None)]
        )
        loaded = store.load()
    return path.read_bytes(), loaded


def outcome(path: Path) -> object:
    try:
        with opened(path) as store:
            return store.load()
    except StoreError as error:
        return "refused" if str(path) in str(error) else error


def test_a_flipped_octet_is_harmless_or_the_start_is_refused(path: Path) -> None:
    octets, loaded = filled(path)
    refused = 0
    for position in range(0, len(octets), 41):
        path.write_bytes(octets[:position] + bytes([octets[position] ^ 0x15]) + octets[position + 1 :])
        got = outcome(path)
        assert got in ("refused", loaded), f"octet {position} of {len(octets)}"
        refused += got == "refused"
    assert refused > 50


def test_a_cut_file_is_refused(path: Path) -> None:
    octets, _ = filled(path)
    for length in range(0, len(octets), 501):
        path.write_bytes(octets[:length])
        assert outcome(path) == "refused", f"cut to {length} octets"


def test_a_cut_log_loses_its_tail_only(path: Path) -> None:
    command = [sys.executable, "-c", CHILD, path, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.kill()
    log = path.with_name("intent.db-wal")
    octets, database = log.read_bytes(), path.read_bytes()
    for length in range(0, len(octets), 7001):
        path.write_bytes(database)
        log.write_bytes(octets[:length])
        with opened(path) as store:
            changes, leases = store.load()
        assert [change.id for change in changes] == [str(number) for number in range(len(changes))]
        assert len(leases) == len(changes)


def test_a_store_of_a_newer_format_or_another_program_is_refused(path: Path) -> None:
    for pragma, words in [
        ("user_version = 3", r"intent.db has format 3; this bgpvpnd knows formats up to 2"),
        ("application_id = 5", r"intent.db is not a store of bgpvpnd"),
    ]:
        with opened(path):
            pass
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
        with pytest.raises(StoreError, match=words):
            SqliteStore(path)
        path.unlink()


def test_an_older_format_is_brought_up_to_date_with_what_it_holds(path: Path) -> None:
    with opened(path) as store:
        store.write([change(NETWORK)])
    newer = (*MIGRATIONS, ("ALTER TABLE object RENAME COLUMN json TO text", "CREATE TABLE later (x TEXT) STRICT"))
    store = SqliteStore(path, newer)
    assert store.load() == ([change(NETWORK)], [])
    store.close()
    with pytest.raises(StoreError, match="has format 3"):
        SqliteStore(path)


def test_prefixes_that_an_earlier_daemon_wrote_are_routes_of_the_association(path: Path) -> None:
    with opened(path):
        pass
    json = '{"id":"a","bgpvpn_id":"v","port_id":"p","advertise_fixed_ips":false,"prefixes":["10.9.0.0/16"]}'
    row = ["association", "a", 2, 1.0, 2.0, json]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, zlib.crc32(msgspec.json.encode(row))))
    connection.close()
    routes = ({"type": "prefix", "prefix": "10.9.0.0/16"},)
    kept = Association(id="a", bgpvpn_id="v", port_id="p", advertise_fixed_ips=False, routes=routes)  # type: ignore[arg-type]
    with opened(path) as store:
        assert store.load() == ([change(kept, 2)], [])


def test_a_store_has_a_number_of_its_own_that_stays_and_one_of_the_first_format_gets_one(tmp_path: Path) -> None:
    numbers = set()
    for name, migrations in (("a", MIGRATIONS), ("b", MIGRATIONS), ("old", MIGRATIONS[:1])):
        path = tmp_path / name / "intent.db"
        store = SqliteStore(path, migrations)
        store.write([change(NETWORK)])
        store.close()
        with opened(path) as store:
            first = store.identity()
        with opened(path) as store:
            assert store.identity() == first
            assert store.load() == ([change(NETWORK)], [])
        assert 1 << 62 <= first < 1 << 63
        numbers.add(first)
    assert len(numbers) == 3


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the state directory .*/file/state cannot be used: Not a directory"):
        SqliteStore(tmp_path / "file" / "state" / "intent.db")
