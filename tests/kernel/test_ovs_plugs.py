"""Plugs in a real Open vSwitch without packets: its own server and daemon, with its dummy datapath, in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from bgpvpn.dataplane.openflow import Surroundings
from bgpvpn.dataplane.ovs import Ovs
from bgpvpn.dataplane.plugs import Plug
from bgpvpn.objects import OvsPlug

LIMIT_S = 15.0
GATEWAY, ROUTER = "00:00:5e:00:43:64", "fa:16:3e:00:00:01"
PLUG = Plug("bp.31", OvsPlug(bridge="br-mpls", port="1", vlan=31), mtu=1450)
SEG = Plug("bp.32", OvsPlug(bridge="br-tun", port="patch-int", vlan=32), switched=True)
BOTH = {each.interface: each for each in (PLUG, SEG)}


class Switch:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "OVS_RUNDIR": str(folder), "OVS_DBDIR": str(folder)}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def sh(self, line: str) -> str:
        done = subprocess.run(line.split(" "), env=self.env, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout.strip()

    def vsctl(self, *commands: str, options: str = "--timeout=20") -> str:
        return self.sh(f"ovs-vsctl {options} --db=unix:{self.folder}/db.sock {' -- '.join(commands)}")

    def flows(self, bridge: str, *match: str) -> list[str]:
        said = self.sh(
            " ".join(["ovs-ofctl -O OpenFlow13 --names dump-flows", f"unix:{self.folder}/{bridge}.mgmt", *match])
        )
        return [line for line in said.splitlines() if "cookie=" in line]

    def start(self, name: str) -> None:
        words = {
            "ovsdb-server": [f"{self.folder}/conf.db", f"--remote=punix:{self.folder}/db.sock"],
            "ovs-vswitchd": ["--enable-dummy=override", "--disable-system", f"unix:{self.folder}/db.sock"],
        }[name]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen([name, *words], env=self.env, stdout=log, stderr=log)
        if name == "ovsdb-server":
            until = time.monotonic() + LIMIT_S
            while not (self.folder / "db.sock").exists():
                assert time.monotonic() < until
                time.sleep(0.01)

    def kill(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()
        (self.folder / "db.sock").unlink() if name == "ovsdb-server" else None


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    switch = Switch(tmp_path)
    switch.sh(f"ovsdb-tool create {tmp_path}/conf.db /usr/share/openvswitch/vswitch.ovsschema")
    try:
        switch.start("ovsdb-server")
        switch.vsctl("init", options="--no-wait")
        switch.start("ovs-vswitchd")
        for bridge, port in (("br-mpls", "patch-from-tun"), ("br-tun", "patch-int")):
            switch.vsctl(
                f"add-br {bridge}",
                f"set Bridge {bridge} datapath_type=dummy fail_mode=secure",
                f"add-port {bridge} {port}",
                f"set Interface {port} type=dummy",
            )
        yield switch
    finally:
        for name in list(switch.daemons):
            with contextlib.suppress(FileNotFoundError):
                switch.kill(name)


async def until(fact: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not fact():
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def keeping(switch: Switch) -> AsyncIterator[Ovs]:
    ovs = Ovs(str(switch.folder), Surroundings(GATEWAY, "br-tun"))
    try:
        yield ovs
    finally:
        await ovs.stop()


async def settled(ovs: Ovs) -> None:
    await until(lambda: not ovs.troubles(), "nothing is waited for")


def test_plugs_come_and_go_and_what_others_made_stays(switch: Switch) -> None:
    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want(BOTH)
            assert ovs.reason("bp.31") == "bp.31 is about to be plugged into Open vSwitch"
            await settled(ovs)
            assert switch.vsctl("list-ports br-mpls").split() == ["bp.31", "patch-from-tun"]
            assert switch.vsctl("get Interface bp.31 type mtu_request external_ids:bgpvpn-1").split() == [
                "internal",
                "1450",
                "patch-from-tun",
            ]
            assert len(switch.flows("br-mpls")) == 4
            assert len(switch.flows("br-tun")) == 3
            ovs.want({"bp.32": SEG})
            await until(lambda: switch.vsctl("list-ports br-mpls") == "patch-from-tun", "the port is gone")
            await until(lambda: not switch.flows("br-mpls"), "its flows are gone")
            ovs.want({})
            await until(lambda: switch.vsctl("list-ports br-tun") == "patch-int", "the last port is gone")
            await until(lambda: len(switch.flows("br-tun")) == 1, "the flow of another is there, and none of ours")

    switch.sh(f"ovs-ofctl add-flow unix:{switch.folder}/br-tun.mgmt table=22,dl_vlan=32,priority=1,actions=drop")
    asyncio.run(story())


def test_a_plug_waits_for_its_bridge_and_then_for_its_port(switch: Switch) -> None:
    late = Plug("late", OvsPlug(bridge="br-late", port="trunk", vlan=5))

    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want({"late": late, **BOTH})
            await until(
                lambda: ovs.reason("late") == "there is no bridge br-late in Open vSwitch", "waits for the bridge"
            )
            assert ovs.reason("bp.31") == "", "the others do not wait for it"
            switch.vsctl("add-br br-late", "set Bridge br-late datapath_type=dummy")
            await until(lambda: ovs.reason("late") == "bridge br-late has no port trunk", "waits for the port")
            assert ovs.troubles() == ["1 interfaces are not in Open vSwitch: bridge br-late has no port trunk"]
            switch.vsctl("add-port br-late trunk", "set Interface trunk type=dummy")
            await settled(ovs)
            assert len(switch.flows("br-late", "table=0,in_port=late")) == 2

    asyncio.run(story())


def test_an_interface_of_somebody_else_is_left_alone(switch: Switch) -> None:
    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want(BOTH)
            taken = "bp.31 is a port of bridge br-tun already, and not ours"
            await until(lambda: ovs.reason("bp.31") == taken, "it says so")
            assert switch.vsctl("list-ports br-tun").split() == ["bp.31", "bp.32", "patch-int"]
            assert not switch.flows("br-mpls")

    switch.vsctl("add-port br-tun bp.31", "set Interface bp.31 type=dummy")
    asyncio.run(story())


def test_after_a_new_start_with_other_numbers_the_flows_are_there_again(switch: Switch) -> None:
    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want(BOTH)
            await settled(ovs)
            for daemon in ("ovs-vswitchd", "ovsdb-server"):
                switch.kill(daemon)
            await until(lambda: "Open vSwitch" in str(ovs.troubles()), "it says what is missing")
            switch.start("ovsdb-server")
            switch.vsctl("set Interface patch-from-tun ofport_request=77", options="--no-wait")
            switch.start("ovs-vswitchd")
            await until(
                lambda: (
                    switch.vsctl("get Interface patch-from-tun ofport") == "77"
                    and len(switch.flows("br-mpls", "in_port=77")) == 2
                    and len(switch.flows("br-tun")) == 2
                ),
                "the flows are there",
            )
            await settled(ovs)

    asyncio.run(story())


def test_what_others_take_away_comes_back(switch: Switch) -> None:
    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want(BOTH)
            await settled(ovs)
            for bridge, flows in (("br-mpls", 4), ("br-tun", 2)):
                switch.sh(f"ovs-ofctl del-flows unix:{switch.folder}/{bridge}.mgmt")
                await until(lambda at=bridge, of=flows: len(switch.flows(at)) == of, "flows are back")  # type: ignore[misc]
            switch.vsctl("del-port br-mpls bp.31")
            await until(lambda: "bp.31" in switch.vsctl("list-ports br-mpls"), "the port is back")
            await settled(ovs)

    asyncio.run(story())


def test_a_new_keeper_finds_all_in_order_and_takes_away_what_nobody_wants_any_more(switch: Switch) -> None:
    async def one(plugs: dict[str, Plug]) -> None:
        async with keeping(switch) as ovs:
            ovs.want(plugs)
            await settled(ovs)

    def kept() -> list[str]:
        return [line.split(",")[0] for bridge in ("br-mpls", "br-tun") for line in switch.flows(bridge)]

    asyncio.run(one(BOTH))
    number, cookies = switch.vsctl("get Interface bp.31 ofport"), kept()
    asyncio.run(one(BOTH))
    assert (switch.vsctl("get Interface bp.31 ofport"), kept()) == (number, cookies)
    assert "duration=0.0" not in switch.flows("br-mpls")[0], "flows were written anew"
    asyncio.run(one({"bp.32": SEG}))
    assert switch.vsctl("list-ports br-mpls") == "patch-from-tun"
    assert not switch.flows("br-mpls")


def test_clearing_takes_all_away_and_says_what_it_cannot(switch: Switch) -> None:
    async def story() -> None:
        async with keeping(switch) as ovs:
            ovs.want(BOTH)
            await settled(ovs)

    def cleared() -> list[str]:
        return asyncio.run(Ovs(str(switch.folder), Surroundings(GATEWAY, "br-tun")).clear())

    asyncio.run(story())
    assert cleared() == []
    assert switch.vsctl("list-ports br-mpls") == "patch-from-tun"
    assert not switch.flows("br-mpls")
    switch.kill("ovs-vswitchd")
    assert sorted(each.split(":")[0] for each in cleared()) == ["br-mpls", "br-tun"]
    switch.kill("ovsdb-server")
    assert cleared() == [], "there is no Open vSwitch"
