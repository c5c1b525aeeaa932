"""The daemon as a process, with a peer and a station: what the station and a dump tell is what the peer told."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

from speaker.values import Family, prefix_bytes
from speaker.wire.attribute import Interner, make
from speaker.wire.update import encode_updates, encode_withdrawals
from tests.bgpvpn.test_daemon import LIMIT_S, Machine
from tests.fakes.mrt import records
from tests.fakes.scripted_peer import ScriptedPeer
from tests.fakes.station import ConnectedStation, ListeningStation, View

IPV4 = Family.IPV4
US, PEER = "127.0.1.21", "127.0.1.29"
PRE, POST, BEST = (PEER, "pre"), (PEER, "post"), ("loc-rib", "")
KEPT = [prefix_bytes(f"10.1.{n}.0/24") for n in range(3)]
REJECTED = [prefix_bytes(f"10.66.{n}.0/24") for n in range(2)]


def configuration(machine: Machine, port: int, station: int) -> str:
    return f"""
        [node]
        router_id = "192.0.2.1"
        local_as = 64512
        tunnel_ip = "192.0.2.1"
        host = "pe1"
        [bgp]
        listen = ["{US}"]
        port = {port}
        [[policy]]
        name = "some"
        default = "accept"
        [[policy.statement]]
        match.prefixes = ["10.66.0.0/16 le 24"]
        then = "reject"
        [[peer]]
        address = "{PEER}"
        remote_as = 64512
        passive = true
        families = ["ipv4"]
        import_policy = "some"
        [[bmp]]
        address = "127.0.0.1"
        port = {station}
        statistics_s = 1
        [store]
        path = "{machine.store}"
        [api]
        socket = "{machine.socket}"
        [dataplane]
        kind = "dryrun"
        """


def told(station: ConnectedStation, view: View) -> set[bytes]:
    return {key for _, key in station.heard.routes.get(view, {})}


def dumped(machine: Machine, view: str) -> set[bytes]:
    words = [sys.executable, "-c", "from cli.main import main; main()", "--api", str(machine.socket)]
    done = subprocess.run([*words, "mrt", "dump", f"--{view}", "-"], capture_output=True, timeout=LIMIT_S, check=True)
    return {record.nlri[1:] + record.nlri[:1] for record in records(done.stdout) if record.entries[0].peer == 1}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((US, 0))
        return int(probe.getsockname()[1])


def test_a_station_hears_what_a_peer_tells_and_what_the_policy_makes_of_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    listener, port = ListeningStation(), free_port()
    machine.config.write_text(configuration(machine, port, listener.port))
    daemon = machine.start()
    try:
        asyncio.run(asyncio.wait_for(story(machine, daemon, listener, port), 3 * LIMIT_S))
    finally:
        daemon.kill()
        daemon.wait()
        listener.close()
        machine.notified.close()


async def story(machine: Machine, daemon: subprocess.Popen[bytes], listener: ListeningStation, port: int) -> None:
    station = await listener.accept()
    await station.until("END loc-rib ipv4")
    assert station.heard.log[0].startswith("INITIATION pe1: bgpvpnd ")
    async with await ScriptedPeer.dial(US, port, source=PEER) as peer:
        await peer.establish("OPEN as=64512 as4=64512 id=192.0.2.9 families=ipv4 refresh restart=120:")
        attributes = make(Interner(), next_hop=bytes((192, 0, 2, 9)), local_pref=100)
        for octets in encode_updates(IPV4, attributes, [(key, b"") for key in KEPT + REJECTED], as4=True):
            await peer.send(octets)
        await peer.say("END-OF-RIB ipv4")
        await station.until(f"END {PEER} post ipv4")
        assert station.heard.addresses[PEER] == (US, port, peer.socket.getsockname()[1])
        assert station.heard.up[PEER][1].startswith("OPEN as=64512 hold=90 id=192.0.2.9 families=ipv4")
        assert told(station, PRE) == set(KEPT + REJECTED) == await asyncio.to_thread(dumped, machine, "pre-policy")
        assert told(station, POST) == told(station, BEST) == set(KEPT)
        assert await asyncio.to_thread(dumped, machine, "post-policy") == set(KEPT)
        (state,) = (await asyncio.to_thread(machine.ask, "status"))["monitoring"]
        assert (state["station"], state["state"]) == (f"127.0.0.1:{listener.port}", "up")
        for octets in encode_withdrawals(IPV4, [KEPT[0], REJECTED[0]]):
            await peer.send(octets)
        while told(station, PRE) != set(KEPT[1:] + REJECTED[1:]):
            await station.receive()
        while PEER not in station.heard.statistics or station.heard.statistics[PEER][7] != 3:
            await station.receive()
        assert station.heard.statistics["loc-rib"] == {8: 2, (10, IPV4): 2}
    await station.until(f"PEER DOWN {PEER} 4")
    while told(station, BEST):
        await station.receive()
    daemon.send_signal(signal.SIGTERM)
    await station.rest()
    assert station.heard.log[-1] == "TERMINATION 0"
    assert await asyncio.to_thread(daemon.wait, LIMIT_S) == 0
    station.close()
