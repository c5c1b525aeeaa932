from __future__ import annotations

from itertools import permutations
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpvpn.bagpipe import request as requests
from bgpvpn.bagpipe import wishes
from bgpvpn.bagpipe.request import Bridges, RequestError
from bgpvpn.intent import Intent, IntentError
from bgpvpn.objects import OvsPlug

MAC = "fa:16:3e:11:22:33"
NET = "1fc58c04-5b1f-4b3f-9d1b-3c6d8f3f2a11"
OVS: dict[str, Any] = {"linuxif": "patch2tun:31", "ovs": {"plugged": True, "port_number": 1, "vlan": 31}}
L3: dict[str, Any] = {
    "mac_address": MAC,
    "local_port": OVS,
    "gateway_ip": "10.0.0.1",
    "description": {"port": "8ab2e8ff"},
    "ip_address": "10.0.0.5",
    "instance_description": f"BGPVPN ipvpn associations for net {NET} (10.0.0.1)",
    "import_rt": ["64512:1", "64512:2"],
    "export_rt": ["64512:1", "64512:3"],
    "vpn_instance_id": f"ipvpn_{NET}",
    "vpn_type": "ipvpn",
}
L2: dict[str, Any] = L3 | {
    "local_port": {"linuxif": "patch2tun:31", "vlan": 31},
    "vni": 1042,
    "vpn_instance_id": f"evpn_{NET}",
    "vpn_type": "evpn",
}
PREFIX: dict[str, Any] = L3 | {
    "vpn_instance_id": "ipvpn_portassoc_pa1_prefix_192_168_7_0_24",
    "direction": "to-port",
    "ip_address": "192.168.7.0/24",
    "advertise_subnet": True,
    "local_pref": 150,
}
LEAK: dict[str, Any] = L3 | {
    "vpn_instance_id": "ipvpn_portassoc_pa1_bgpvpn_bbbb",
    "direction": "to-port",
    "local_pref": None,
    "readvertise": {"from_rt": ["64512:50"], "to_rt": ["64512:1", "64512:3"]},
}
FALLBACK: dict[str, Any] = {
    "fallback": {"dst_mac": "fa:16:3e:aa:bb:cc", "src_mac": "00:00:5e:2a:10:00", "ovs_port_number": 2}
}
LINUX: dict[str, Any] = L3 | {"local_port": {"linuxif": "tap1"}, "vpn_instance_id": "blue", "ip_address": "10.0.0.5/24"}


def attach(intent: Intent, given: Any) -> None:
    intent.apply(intent.plan(wishes.attach(intent, requests.attach(given, Bridges())), 1.0))


def detach(intent: Intent, given: Any) -> None:
    intent.apply(intent.plan(wishes.detach(intent, requests.detach(given)), 1.0))


def attached(*given: Any) -> Intent:
    intent = Intent()
    for each in given:
        attach(intent, each)
    return intent


def shown(intent: Intent) -> dict[str, Any]:
    """Every instance with its endpoints: (MAC address, prefix, LOCAL_PREF, direction)."""
    return {
        name: sorted(
            (port.mac_address, str(prefix), str(local_pref), association.direction)
            for port, association in wishes.members(intent, vpn)
            for prefix, local_pref in wishes.endpoints(port, association)
        )
        for name, vpn in wishes.instances(intent).items()
    }


def everything(intent: Intent) -> dict[str, Any]:
    return {kind: dict(table.rows) for kind, table in intent.tables.items() if table.rows}


def test_an_ipvpn_of_the_agent_is_a_vpn_a_network_its_gateway_and_a_port_on_the_bridge() -> None:
    intent = attached(L3 | FALLBACK | {"local_pref": 300})
    (vpn,) = intent.bgpvpns.rows.values()
    assert (vpn.name, vpn.type, vpn.import_targets, vpn.export_targets, vpn.route_targets) == (
        f"ipvpn_{NET}",
        "l3",
        ("64512:1", "64512:2"),
        ("64512:1", "64512:3"),
        (),
    )
    (network,) = intent.networks.rows.values()
    assert network.fallback_mac == "fa:16:3e:aa:bb:cc"
    (subnet,) = intent.subnets.rows.values()
    assert (subnet.cidr, subnet.gateway_ip) == ("10.0.0.1/32", "10.0.0.1")
    (port,) = intent.ports.rows.values()
    assert (port.mac_address, port.ip_addresses, port.network_id) == (MAC, ("10.0.0.5",), network.id)
    assert port.ovs == OvsPlug(
        bridge="br-mpls", port="1", vlan=31, fallback_port="2", fallback_src_mac="00:00:5e:2a:10:00"
    )
    assert shown(intent) == {f"ipvpn_{NET}": [(MAC, "10.0.0.5/32", "300", "both")]}


def test_all_that_the_agent_attaches_of_a_port_ends_the_same_in_any_order() -> None:
    intents = [attached(*order) for order in permutations((L3, L2, PREFIX, LEAK))]
    assert shown(intents[0]) == {
        f"ipvpn_{NET}": [(MAC, "10.0.0.5/32", "None", "both")],
        f"evpn_{NET}": [(MAC, "10.0.0.5/32", "None", "both")],
        "ipvpn_portassoc_pa1_prefix_192_168_7_0_24": [(MAC, "192.168.7.0/24", "150", "to-port")],
        "ipvpn_portassoc_pa1_bgpvpn_bbbb": [(MAC, "10.0.0.5/32", "None", "to-port")],
    }
    for intent in intents:
        assert shown(intent) == shown(intents[0])
        by_bridge = {port.ovs.bridge: port for port in intent.ports.rows.values() if port.ovs is not None}
        assert sorted(by_bridge) == ["br-mpls", "br-tun"]
        assert by_bridge["br-tun"].ovs == OvsPlug(bridge="br-tun", port="patch-int", vlan=31)
        assert by_bridge["br-mpls"].network_id == f"bagpipe:ipvpn_{NET}"
        assert by_bridge["br-mpls"].ip_addresses == ("10.0.0.5",)
        assert sorted(intent.networks.rows) == [f"bagpipe:evpn_{NET}", f"bagpipe:ipvpn_{NET}"]


def test_attaching_again_changes_nothing_and_other_words_change_it_in_place() -> None:
    intent = attached(L3, L2, PREFIX, LEAK)
    for each in (L3, L2, PREFIX, LEAK):
        asked = requests.attach(each, Bridges())
        assert intent.plan(wishes.attach(intent, asked), 2.0) == []
    again = {"import_rt": "64512:9, 64512:10,64512:9,", "export_rt": [], "local_pref": 7, "gateway_ip": "10.0.0.2"}
    attach(intent, L3 | FALLBACK | again)
    vpn = wishes.instances(intent)[f"ipvpn_{NET}"]
    assert (vpn.import_targets, vpn.export_targets) == (("64512:9", "64512:10"), ())
    assert shown(intent)[vpn.name] == [(MAC, "10.0.0.5/32", "7", "both")]
    network = intent.networks[f"bagpipe:ipvpn_{NET}"]
    assert network.fallback_mac == "fa:16:3e:aa:bb:cc"
    assert [subnet.gateway_ip for subnet in intent.referring("network", network.id, "subnet")] == ["10.0.0.2"]
    assert len(list(intent.referring("network", network.id, "port"))) == 1
    attach(intent, L3)
    assert intent.networks[network.id].fallback_mac is None


def test_what_an_attachment_does_not_speak_of_stays() -> None:
    intent = attached(L2, LEAK)
    attach(intent, L2 | {"vni": None, "gateway_ip": None})
    attach(intent, LEAK | {"readvertise": None})
    evpn, leak = (wishes.instances(intent)[each["vpn_instance_id"]] for each in (L2, LEAK))
    assert evpn.vni == 1042
    assert str(wishes.gateway_of(intent, evpn)) == "10.0.0.1/32"
    assert wishes.readvertised(intent, leak) is not None
    attach(intent, L2 | {"vni": 1043})
    assert wishes.instances(intent)[evpn.name].vni == 1043


def test_detaching_in_any_order_and_twice_leaves_nothing() -> None:
    requests_ = (L3, L2, PREFIX, LEAK, L3 | {"mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6"})
    for order in permutations(requests_):
        intent = attached(*requests_)
        for each in order:
            detach(intent, {**each, "local_port": {"linuxif": "patch2tun:31"}})
            assert each["vpn_instance_id"] == f"ipvpn_{NET}" or each["vpn_instance_id"] not in shown(intent)
            detach(intent, each)
        assert everything(intent) == {}


def test_a_station_that_is_only_detached_from_one_instance_stays_in_the_others() -> None:
    intent = attached(L3, PREFIX)
    detach(intent, L3)
    assert shown(intent) == {PREFIX["vpn_instance_id"]: [(MAC, "192.168.7.0/24", "150", "to-port")]}
    (port,) = intent.ports.rows.values()
    assert port.ip_addresses[0].startswith("192.168.7.")  # something leads there


def test_what_is_announced_anew_are_two_vpns_and_every_station_of_the_instance_leads() -> None:
    second = LEAK | {"mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6", "readvertise": None}
    for order in permutations((LEAK | {"local_pref": 5}, second)):
        intent = attached(*order)
        source = intent.bgpvpns["bagpipe-from:ipvpn_portassoc_pa1_bgpvpn_bbbb"]
        into = intent.bgpvpns["bagpipe-to:ipvpn_portassoc_pa1_bgpvpn_bbbb"]
        assert (source.import_targets, source.export_targets) == (("64512:50",), ())
        assert (into.import_targets, into.export_targets) == ((), ("64512:1", "64512:3"))
        leads = list(intent.referring("bgpvpn", into.id, "association"))
        assert {intent.ports[each.port_id].mac_address for each in leads} == {MAC, "fa:16:3e:11:22:34"}
        assert {each.routes[0].local_pref for each in leads} == {5, None}
        assert {(each.routes[0].bgpvpn_id, each.direction, each.advertise_fixed_ips) for each in leads} == {
            (source.id, "to-port", False)
        }
        vpn = wishes.instances(intent)["ipvpn_portassoc_pa1_bgpvpn_bbbb"]
        assert wishes.readvertised(intent, vpn) == requests.Readvertise(("64512:50",), ("64512:1", "64512:3"))


def test_an_address_with_its_length_gives_the_subnet_of_the_gateway() -> None:
    intent = attached(LINUX, LINUX | {"mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6"})
    (subnet,) = intent.subnets.rows.values()
    assert (subnet.cidr, subnet.gateway_ip) == ("10.0.0.0/24", "10.0.0.1")
    assert {port.interface for port in intent.ports.rows.values()} == {"tap1"}
    intent = attached(
        LINUX | {"ip_address": "10.0.0.5"}, LINUX | {"mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6/24"}
    )
    (subnet,) = intent.subnets.rows.values()
    assert subnet.cidr == "10.0.0.0/24"


def test_advertise_subnet_announces_the_prefix_that_the_address_is_in() -> None:
    intent = attached(LINUX | {"advertise_subnet": True})
    assert shown(intent) == {"blue": [(MAC, "10.0.0.0/24", "None", "both")]}
    (port,) = intent.ports.rows.values()
    assert port.ip_addresses == ("10.0.0.5",)
    attach(intent, LINUX)
    assert shown(intent) == {"blue": [(MAC, "10.0.0.5/32", "None", "both")]}
    detach(intent, LINUX)
    assert everything(intent) == {}


def test_both_address_families_of_a_station_are_announced() -> None:
    v6 = LINUX | {"ip_address": "2001:db8::5/64", "gateway_ip": "2001:db8::1"}
    intent = attached(LINUX, v6)
    assert [each[1] for each in shown(intent)["blue"]] == ["10.0.0.5/32", "2001:db8::5/128"]
    assert {subnet.cidr for subnet in intent.subnets.rows.values()} == {"10.0.0.0/24", "2001:db8::/64"}
    (port,) = intent.ports.rows.values()
    assert port.ip_addresses == ("10.0.0.5", "2001:db8::5")
    detach(intent, LINUX)
    assert intent.ports[port.id].ip_addresses == ("2001:db8::5",)


def test_a_station_whose_interface_is_another_now_moves_with_all_its_instances() -> None:
    moved = {"linuxif": "patch2tun:7", "ovs": {"plugged": True, "port_number": 4, "vlan": 7}}
    for order in permutations((L3, PREFIX)):
        intent = attached(L3, PREFIX)
        for each in order:
            attach(intent, each | {"local_port": moved})
        (port,) = intent.ports.rows.values()
        assert port.ovs == OvsPlug(bridge="br-mpls", port="4", vlan=7)
        assert set(shown(intent)) == {L3["vpn_instance_id"], PREFIX["vpn_instance_id"]}
    second = L3 | {"mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6"}
    renumbered = OVS | {"ovs": {"plugged": True, "port_number": 9, "vlan": 31}}
    intent = attached(L3, second)
    attach(intent, L3 | {"local_port": renumbered})  # they share the interface
    assert {port.ovs.port for port in intent.ports.rows.values() if port.ovs} == {"9"}
    assert len(shown(intent)[L3["vpn_instance_id"]]) == 2


def test_an_ipvpn_behind_an_evpn_is_bound_to_its_network() -> None:
    evpn = {key: value for key, value in L2.items() if key != "local_port"} | {"local_port": "tap1"}
    behind = L3 | {"local_port": {"evpn": {"id": evpn["vpn_instance_id"]}}}
    with pytest.raises(RequestError, match=r"there is no evpn"):
        attached(behind)
    other = evpn | {"local_port": "tap2", "mac_address": "fa:16:3e:11:22:34", "ip_address": "10.0.0.6"}
    intent = attached(evpn, behind, other)
    (network,) = intent.networks.rows.values()
    bound = {intent.bgpvpns[each.bgpvpn_id].type for each in intent.referring("network", network.id, "association")}
    assert bound == {"l3"}
    detach(intent, behind)
    assert list(intent.referring("network", network.id, "association")) == []
    for each in (evpn, other):
        detach(intent, each)
    assert everything(intent) == {}
    intent = attached(evpn, behind | {"mac_address": "52:54:00:99:99:22", "ip_address": "10.0.0.200"})
    detach(intent, behind | {"mac_address": "52:54:00:99:99:22", "ip_address": "10.0.0.200"})
    detach(intent, evpn)
    assert everything(intent) == {}


def test_a_station_of_an_evpn_needs_no_address_and_may_get_one_later() -> None:
    bare = {key: value for key, value in L2.items() if key not in ("ip_address", "gateway_ip")} | {"local_port": "tap1"}
    intent = attached(bare)
    assert shown(intent) == {L2["vpn_instance_id"]: [(MAC, "None", "None", "both")]}
    attach(intent, bare | {"ip_address": "10.0.0.5"})
    assert shown(intent) == {L2["vpn_instance_id"]: [(MAC, "10.0.0.5/32", "None", "both")]}
    detach(intent, bare)
    assert everything(intent) == {}


def test_names_that_our_ids_do_not_take_are_kept_as_names() -> None:
    for name in ("a b", "ü", "x" * 200, "a:b"):
        intent = attached(LINUX | {"vpn_instance_id": name})
        assert list(shown(intent)) == [name]
        detach(intent, LINUX | {"vpn_instance_id": name})
        assert everything(intent) == {}


def test_what_cannot_stand_beside_the_rest_is_refused_and_changes_nothing() -> None:
    for before, asked, words in [
        ([LINUX], LINUX | {"vpn_type": "evpn"}, r"'blue' is an ipvpn already, not an evpn"),
        ([LINUX], LINUX | {"mac_address": "fa:16:3e:11:22:34"}, r"'10.0.0.5' is taken"),
        ([LINUX], LINUX | {"ip_address": "10.0.0.1/24"}, r"10.0.0.1 is the gateway"),
        ([L2], L2 | {"vpn_instance_id": "x", "local_port": "tap2"}, r"VNI 1042 would be in two networks"),
    ]:
        intent = attached(*before)
        seen = everything(intent)
        with pytest.raises((RequestError, IntentError), match=words):
            attach(intent, asked)
        assert everything(intent) == seen, asked


MACS = (MAC, "fa:16:3e:11:22:34")
PORTS: tuple[Any, ...] = (OVS, {"linuxif": "tap1"}, {"linuxif": "tap2"})
ADDRESSES = ("10.0.0.5", "10.0.0.6/24", "10.0.0.7/16")


@attrs.frozen
class Step:
    """One request: to attach, or to detach."""

    attach: bool
    fields: Any


steps = st.builds(
    lambda detach, instance, mac, port, address, direction, local_pref, whole: Step(
        not detach,
        LINUX
        | {
            "vpn_instance_id": instance,
            "mac_address": mac,
            "local_port": port,
            "ip_address": address,
            "direction": direction,
            "local_pref": local_pref,
            "advertise_subnet": whole,
        },
    ),
    st.sampled_from([True, False, False]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(MACS),
    st.sampled_from(PORTS),
    st.sampled_from(ADDRESSES),
    st.sampled_from(["both", "to-port", "from-port", None]),
    st.sampled_from([None, 0, 100, 200]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=12))
def test_after_any_requests_each_instance_has_what_was_last_said_of_its_stations(given: list[Step]) -> None:
    intent = Intent()
    wanted: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for step in given:
        endpoint = requests.detach(step.fields).endpoint
        at = (step.fields["vpn_instance_id"], step.fields["mac_address"])
        if not step.attach:
            detach(intent, step.fields)
            for prefix in (endpoint.host, endpoint.subnet):
                wanted.get(at, {}).pop(str(prefix), None)
            continue
        before = everything(intent)
        try:
            attach(intent, step.fields)
        except (RequestError, IntentError):  # an address that another station has
            assert everything(intent) == before
            continue
        prefixes = wanted.setdefault(at, {})
        for prefix in (endpoint.host, endpoint.subnet):
            prefixes.pop(str(prefix), None)
        told = endpoint.subnet if step.fields["advertise_subnet"] else endpoint.host
        prefixes[str(told)] = (str(step.fields["local_pref"]), step.fields["direction"] or "both")
    expected: dict[str, list[Any]] = {}
    for (instance, mac), prefixes in wanted.items():
        direction = next(reversed(prefixes.values()))[1] if prefixes else ""
        for prefix, (local_pref, _) in prefixes.items():
            expected.setdefault(instance, []).append((mac, prefix, local_pref, direction))
    found = {name: [each[:3] for each in endpoints] for name, endpoints in shown(intent).items()}
    assert found == {name: [each[:3] for each in sorted(endpoints)] for name, endpoints in expected.items()}
    for port in intent.ports.rows.values():
        assert port.ip_addresses, "what is announced leads to an address"
    assert {each.network_id for each in intent.ports.rows.values()} == set(intent.networks.rows)
    for instance, mac in wanted:
        for address in ADDRESSES:
            detach(intent, LINUX | {"vpn_instance_id": instance, "mac_address": mac, "ip_address": address})
    assert everything(intent) == {}
