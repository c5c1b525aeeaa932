"""Two route reflectors of ours, FRR behind each and in another AS: what arrives, through whom, and what a change says.

    frr1, frr2 --- rr1 ----- rr2 --- frr3          all in AS 64512; the rr are no clients of each other
                                \\--- frr4          in AS 64513, several hops away (RFC 4364 section 10, option C)

All are around a router that takes no part; their addresses are 192.0.2.1 to 4, and 192.0.2.101 and 102.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.api import Api
from lab.runner import Lab, eventually, lab_of

NUMBERS = {"frr1": 1, "frr2": 2, "frr3": 3, "frr4": 4, "rr1": 101, "rr2": 102}
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


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("reflecting")
    (folder / "daemons").write_text("zebra=yes\nbgpd=yes\nvtysh_enable=yes\n")
    nodes: dict[str, Any] = {"core": {"labels": {"lab.run": "host"}, "sysctls": {"net.ipv4.ip_forward": 1}, "exec": []}}
    links = []
    for port, name in enumerate(NUMBERS, 1):
        reflector = "rr1" if name in (*CLIENTS["rr1"], "rr1") else "rr2"
        is_ours = name in CLIENTS
        text = ours(name, "rr2" if name == "rr1" else "rr1") if is_ours else frr(name, reflector)
        (folder / f"{name}.conf").write_text(text)
        target = "/etc/bgpvpn/bgpvpn.toml" if is_ours else "/etc/frr/frr.conf"
        nodes[name] = {
            "labels": {"lab.run": "bgpvpnd" if is_ours else "frr"},
            "binds": [f"{name}.conf:{target}", *([] if is_ours else ["daemons:/etc/frr/daemons"])],
            "exec": [
                f"ip address add {address(name)}/32 dev lo",
                f"ip address add 10.0.{port}.1/30 dev eth1",
                f"ip route add 192.0.2.0/24 via 10.0.{port}.2 src {address(name)}",
            ],
        }
        nodes["core"]["exec"] += [
            f"ip address add 10.0.{port}.2/30 dev eth{port}",
            f"ip route add {address(name)} via 10.0.{port}.1",
        ]
        links.append({"endpoints": [f"{name}:eth1", f"core:eth{port}"]})
    plan = {
        "name": "reflecting",
        "topology": {"defaults": {"kind": "linux", "image": "bgpvpn-lab"}, "nodes": nodes, "links": links},
    }
    file = folder / "reflecting.clab.yml"
    file.write_text(yaml.safe_dump(plan))
    with lab_of(file) as lab:
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
