"""Two route reflectors of ours, FRR behind each and in another AS: what arrives, through whom, and what a change says.

    frr1, frr2 --- rr1 ----- rr2 --- frr3          all in AS 64512; the rr are no clients of each other
                                \\--- frr4          in AS 64513, several hops away (RFC 4364 section 10, option C)

All are around a router that takes no part; their addresses are 192.0.2.1 to 4, and 192.0.2.101 and 102.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.api import Api
from lab.runner import Lab, eventually, lab_of

NUMBERS = {"frr1": 1, "frr2": 2, "frr3": 3, "frr4": 4, "gobgp1": 11, "gobgp2": 12, "rr1": 101, "rr2": 102}
CLIENTS = {"rr1": ("frr1", "frr2"), "rr2": ("frr3",)}
FAMILIES = {"families": ["ipv4", "vpnv4"], "add_path_send": ["ipv4"], "add_path_receive": ["ipv4"]}
SHARED = "198.51.100.0/24"  # what both frr1 and frr2 say


def address(name: str) -> str:
    return f"192.0.2.{NUMBERS[name]}"


def frr(name: str, reflector: str) -> str:
    """The configuration of an FRR: a VPN route and a unicast route of its own, and one that others say as well."""
    number, local_as = NUMBERS[name], 64513 if name == "frr4" else 64512
    neighbor = f"neighbor {address(reflector)}"
    lines = [
        f"router bgp {local_as}",
        f" bgp router-id {address(name)}",
        " no bgp default ipv4-unicast",
        " no bgp network import-check",
        " no bgp ebgp-requires-policy",
        f" {neighbor} remote-as 64512",
        f" {neighbor} update-source {address(name)}",
        f" {neighbor} timers connect 1",
        *([f" {neighbor} ebgp-multihop 5"] if local_as == 64513 else []),
        " address-family ipv4 vpn",
        f"  network 10.1.{number}.0/24 rd 64512:{number} label {100 + number}",
        f"  {neighbor} activate",
        f"  {neighbor} route-map coloured out",
        " exit-address-family",
        " address-family ipv4 unicast",
        f"  network 203.0.113.{number}/32",
        *([f"  network {SHARED}"] if number in (1, 2) else []),
        f"  {neighbor} activate",
        " exit-address-family",
        "exit",
        "route-map coloured permit 1",
        " set extcommunity rt 64512:100",
        "exit",
    ]
    return "\n".join(lines) + "\n"


def ours(name: str, other: str) -> str:
    """The configuration of a reflector; its clients are made by the API, for only these can be changed."""
    text = f'[node]\nrouter_id = "{address(name)}"\nlocal_as = 64512\ntunnel_ip = "{address(name)}"\n'
    several = "".join(f"{option} = {json.dumps(families)}\n" for option, families in FAMILIES.items())
    peers = [f'name = "{other}"\nremote_as = 64512\n']
    if name == "rr2":
        peers.append(
            'name = "frr4"\nremote_as = 64513\nmultihop_ttl = 5\nimport_policy = "accept"\nexport_policy = "accept"\n'
        )
    for peer in peers:
        whose = peer.split('"')[1]
        text += f'[[peer]]\naddress = "{address(whose)}"\nlocal_address = "{address(name)}"\n{several}{peer}'
    return text


@contextlib.contextmanager
def around(folder: Path, name: str, nodes: Mapping[str, tuple[str, Mapping[str, str]]]) -> Iterator[Lab]:
    """A lab of nodes around a router: each has a program, and its files by path."""
    core: dict[str, Any] = {"labels": {"lab.run": "host"}, "sysctls": {"net.ipv4.ip_forward": 1}, "exec": []}
    made: dict[str, Any] = {"core": core}
    links = []
    for port, (node, (program, files)) in enumerate(nodes.items(), 1):
        binds = []
        for path, text in files.items():
            file = f"{node}{path.replace('/', '-')}"
            (folder / file).write_text(text)
            binds.append(f"{file}:{path}")
        commands = [
            f"ip address add {address(node)}/32 dev lo",
            f"ip address add 10.0.{port}.1/30 dev eth1",
            f"ip route add 192.0.2.0/24 via 10.0.{port}.2 src {address(node)}",
        ]
        made[node] = {"labels": {"lab.run": program}, "binds": binds, "exec": commands}
        core["exec"].append(f"ip address add 10.0.{port}.2/30 dev eth{port}")
        core["exec"].append(f"ip route add {address(node)} via 10.0.{port}.1")
        links.append({"endpoints": [f"{node}:eth1", f"core:eth{port}"]})
    defaults = {"kind": "linux", "image": "bgpvpn-lab"}
    plan = {"name": name, "topology": {"defaults": defaults, "nodes": made, "links": links}}
    (folder / f"{name}.clab.yml").write_text(yaml.safe_dump(plan))
    with lab_of(folder / f"{name}.clab.yml") as lab:
        yield lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    daemons = "zebra=yes\nbgpd=yes\nvtysh_enable=yes\n"
    nodes: dict[str, tuple[str, Mapping[str, str]]] = {}
    for name in ("rr1", "rr2"):
        nodes[name] = ("bgpvpnd", {"/etc/bgpvpn/bgpvpn.toml": ours(name, "rr2" if name == "rr1" else "rr1")})
    for name in ("frr1", "frr2", "frr3", "frr4"):
        reflector = "rr1" if name in CLIENTS["rr1"] else "rr2"
        nodes[name] = ("frr", {"/etc/frr/daemons": daemons, "/etc/frr/frr.conf": frr(name, reflector)})
    with around(tmp_path_factory.mktemp("reflecting"), "reflecting", nodes) as lab:
        for name, clients in CLIENTS.items():
            for each in clients:
                fields = {"name": each, "address": address(each), "local_address": address(name), "remote_as": 64512}
                api(lab, name).post({**fields, "route_reflector_client": True, **FAMILIES}, "peers")
        eventually(lambda: all(established(lab, name) for name in CLIENTS), 60, "all sessions are up")
        yield lab


def api(lab: Lab, name: str) -> Api:
    return Api(str(lab.folder / name / "run/bgpvpn/api.sock"))


def established(lab: Lab, name: str) -> bool:
    states = [each["state"] for each in api(lab, name).get("sessions")]
    return states == ["established"] * 3


def shown(lab: Lab, name: str, *words: str) -> Any:
    """What FRR says of it."""
    return json.loads(lab.run(name, "vtysh", "-c", f"show bgp {' '.join(words)} json"))


def vpn_paths(lab: Lab, name: str, of: str) -> list[Any]:
    """The paths that an FRR holds to the VPN route of another one."""
    number = NUMBERS[of]
    found = shown(lab, name, "ipv4 vpn", f"10.1.{number}.0/24")
    return [path for paths in found.values() for path in paths["paths"]] if found else []


def paths(lab: Lab, name: str, prefix: str) -> list[Any]:
    found: list[Any] = shown(lab, name, "ipv4 unicast", prefix).get("paths", [])
    return found


def heard(lab: Lab, name: str, of: str) -> Any:
    """The one path to the VPN route of another FRR, as soon as it is there."""
    eventually(lambda: len(vpn_paths(lab, name, of)) == 1, 20, f"{name} hears the route of {of}")
    (path,) = vpn_paths(lab, name, of)
    return path


def test_a_reflected_route_names_its_originator_and_the_clusters_on_its_way(lab: Lab) -> None:
    for name, of, clusters in [
        ("frr2", "frr1", ["rr1"]),
        ("frr1", "frr2", ["rr1"]),
        ("frr3", "frr1", ["rr2", "rr1"]),
        ("frr1", "frr3", ["rr1", "rr2"]),
    ]:
        path = heard(lab, name, of)
        assert path["originatorId"] == address(of), (name, of)
        assert path["clusterList"]["list"] == [address(each) for each in clusters], (name, of)
        assert path["nexthops"][0]["ip"] == address(of)
        assert path["extendedCommunity"]["string"] == "RT:64512:100"
        assert path["remoteLabel"] == 100 + NUMBERS[of]
        assert path["locPrf"] == 100


def test_two_reflectors_that_start_together_do_not_wait_for_each_other_with_End_of_RIB(lab: Lab) -> None:
    def ended(name: str) -> list[list[str]]:
        return [each["end_of_rib_out"] for each in api(lab, name).get("sessions")]

    for name in CLIENTS:  # the deferral time is 60 s
        eventually(lambda name=name: ended(name) == [["ipv4", "vpnv4"]] * 3, 20, f"{name} has told all")  # type: ignore[misc]


def test_another_AS_hears_our_AS_and_nothing_of_reflectors(lab: Lab) -> None:
    path = heard(lab, "frr4", "frr1")
    assert path["aspath"]["string"] == "64512"
    assert path["nexthops"][0]["ip"] == address("frr1"), "option C: the next hop is that of the PE"
    assert path["remoteLabel"] == 101
    assert not {"originatorId", "clusterList", "locPrf"} & path.keys()
    path = heard(lab, "frr3", "frr4")
    assert path["aspath"]["string"] == "64513"
    assert not {"originatorId", "clusterList"} & path.keys(), "rr2 has it from another AS: nothing is reflected"
    path = heard(lab, "frr1", "frr4")
    assert (path["originatorId"], path["clusterList"]["list"]) == (address("rr2"), [address("rr1")])


def test_all_paths_of_a_destination_go_through_both_reflectors(lab: Lab) -> None:  # RFC 7911
    eventually(lambda: len(paths(lab, "frr3", SHARED)) == 2, 20, "frr3 hears both")
    assert {path["originatorId"] for path in paths(lab, "frr3", SHARED)} == {address("frr1"), address("frr2")}
    assert {path["peer"]["peerId"] for path in paths(lab, "frr3", SHARED)} == {address("rr2")}
    api(lab, "rr2").patch({"paths_out": 1}, "peers", "frr3")
    eventually(lambda: len(paths(lab, "frr3", SHARED)) == 1, 10, "one path is withdrawn")
    api(lab, "rr2").patch({"paths_out": 4}, "peers", "frr3")
    eventually(lambda: len(paths(lab, "frr3", SHARED)) == 2, 10, "it is told again")


def test_a_client_that_becomes_none_loses_what_came_from_non_clients_in_the_same_session(lab: Lab) -> None:
    def of_rr1(name: str) -> set[str]:
        return {of for of in ("frr1", "frr2", "frr3", "frr4") if of != name and vpn_paths(lab, name, of)}

    eventually(lambda: of_rr1("frr1") == {"frr2", "frr3", "frr4"}, 20, "frr1 hears all")
    api(lab, "rr1").patch({"route_reflector_client": False}, "peers", "frr1")
    # rr2 is no client either, and frr2 is one: what they say is for it no more, or still
    eventually(lambda: of_rr1("frr1") == {"frr2"}, 10, "frr1 hears of the client alone")
    eventually(lambda: not vpn_paths(lab, "frr3", "frr1"), 10, "and rr2 does not hear of frr1")
    assert len(vpn_paths(lab, "frr2", "frr1")) == 1
    api(lab, "rr1").patch({"route_reflector_client": True}, "peers", "frr1")
    eventually(lambda: of_rr1("frr1") == {"frr2", "frr3", "frr4"}, 10, "frr1 hears all again")
    assert [each["established"] for each in api(lab, "rr1").get("sessions")] == [1, 1, 1]


def test_a_refresh_is_answered_in_full_and_takes_nothing_away(lab: Lab) -> None:  # RFC 7313
    def begins_and_ends() -> int:
        found = shown(lab, "frr1", f"neighbors {address('rr1')}")[address("rr1")]["messageStats"]["routeRefreshRecv"]
        assert isinstance(found, int)
        return found

    routes, before = shown(lab, "frr1", "ipv4 vpn")["routes"], begins_and_ends()
    lab.run("frr1", "vtysh", "-c", f"clear bgp ipv4 vpn {address('rr1')} soft in")
    eventually(lambda: begins_and_ends() == before + 2, 10, "BoRR and EoRR came")
    assert shown(lab, "frr1", "ipv4 vpn")["routes"].keys() == routes.keys()
    assert [each["established"] for each in api(lab, "rr1").get("sessions")] == [1, 1, 1]


def test_a_route_that_goes_is_gone_behind_both_reflectors(lab: Lab) -> None:
    lab.run(
        "frr1",
        "vtysh",
        *("-c", "configure terminal", "-c", "router bgp 64512", "-c", "address-family ipv4 vpn"),
        *("-c", "no network 10.1.1.0/24 rd 64512:1 label 101"),
    )
    for name in ("frr2", "frr3", "frr4"):
        eventually(lambda name=name: not vpn_paths(lab, name, "frr1"), 10, f"{name} hears of it no more")  # type: ignore[misc]


# RT membership (RFC 4684): GoBGP with VRFs behind a reflector.  All clients speak of memberships: where one does not,
# the reflector asks for all targets (`Engine.wants_all_targets`), and GoBGP 3.10 crashes when it hears that.


GOBGP = """\
[global.config]
as = 64512
router-id = "{own}"
local-address-list = ["{own}"]
[[neighbors]]
[neighbors.config]
neighbor-address = "192.0.2.101"
peer-as = 64512
[neighbors.transport.config]
local-address = "{own}"
[neighbors.timers.config]
connect-retry = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "l3vpn-ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "rtc"
"""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    text = f'[node]\nrouter_id = "{address("rr1")}"\nlocal_as = 64512\ntunnel_ip = "{address("rr1")}"\n'
    nodes: dict[str, tuple[str, Mapping[str, str]]] = {}
    for name in ("gobgp1", "gobgp2"):
        text += f'[[peer]]\naddress = "{address(name)}"\nlocal_address = "{address("rr1")}"\nremote_as = 64512\n'
        text += 'families = ["vpnv4", "rtc"]\nroute_reflector_client = true\n'
        nodes[name] = ("gobgp", {"/etc/gobgp/gobgpd.toml": GOBGP.format(own=address(name))})
    nodes["rr1"] = ("bgpvpnd", {"/etc/bgpvpn/bgpvpn.toml": text})
    with around(tmp_path_factory.mktemp("members"), "members", nodes) as lab:
        for name, vrf, number in [("gobgp1", "blue", 11), ("gobgp2", "blue", 12), ("gobgp2", "red", 22)]:
            join(lab, name, vrf, number)
        yield lab


def join(lab: Lab, name: str, vrf: str, number: int) -> None:
    """Make a VRF with a route."""
    target = {"blue": "64512:100", "red": "64512:200"}[vrf]
    lab.run(name, "gobgp", "vrf", "add", vrf, "rd", f"64512:{number}", "rt", "both", target)
    lab.run(name, "gobgp", "vrf", vrf, "rib", "add", f"10.9.{number}.0/24")


def vpn_routes(lab: Lab, name: str) -> set[str]:
    """The VPN routes that came from the reflector, by the number of their route distinguisher."""
    found = json.loads(lab.run(name, "gobgp", "neighbor", address("rr1"), "adj-in", "-a", "vpnv4", "-j") or "{}")
    return {nlri.split(":")[1] for nlri in found}


def test_members_hear_the_routes_of_their_VPNs_and_of_a_VPN_that_they_join_later(members: Lab) -> None:
    eventually(lambda: vpn_routes(members, "gobgp1") == {"12"}, 30, "gobgp1 hears of blue alone")
    eventually(lambda: vpn_routes(members, "gobgp2") == {"11"}, 10, "and so does gobgp2 of blue")
    join(members, "gobgp1", "red", 21)
    eventually(lambda: vpn_routes(members, "gobgp1") == {"12", "22"}, 10, "gobgp1 hears of red too")
    eventually(lambda: vpn_routes(members, "gobgp2") == {"11", "21"}, 10, "and gobgp2 of the new site of red")
    members.run("gobgp1", "gobgp", "vrf", "del", "red")
    eventually(lambda: vpn_routes(members, "gobgp1") == {"12"}, 10, "red is gone from gobgp1")
    eventually(lambda: vpn_routes(members, "gobgp2") == {"11"}, 10, "and the site from gobgp2")
    assert [each["established"] for each in api(members, "rr1").get("sessions")] == [1, 1]
