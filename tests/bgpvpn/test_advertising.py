"""What speakers tell of tenants' addresses: each rule, each change, and every order of changes."""

from __future__ import annotations

import ipaddress
from random import Random

import pytest

from bgpvpn.advertising import FAMILY_OF, Advertising
from bgpvpn.intent import (
    Advertisement,
    FloatingIp,
    Intent,
    IntentError,
    Network,
    Object,
    Peer,
    Port,
    Removal,
    Router,
    Speaker,
    Subnet,
)
from speaker.decision import LOCAL, local
from speaker.rib import Rib
from speaker.values import Family, prefix_bytes
from speaker.wire.attribute import Interner

OUTSIDE = (
    Network(id="out", name="outside", external=True),
    Subnet(id="out4", network_id="out", cidr="203.0.113.0/24", address_scope="public"),
    Subnet(id="out6", network_id="out", cidr="2001:db8:ffff::/64", address_scope="public"),
)
TENANT = (
    Network(id="red"),
    Subnet(id="red4", name="red-v4", network_id="red", cidr="10.1.0.0/24", address_scope="public"),
    Subnet(id="red6", network_id="red", cidr="2001:db8:1::/64", address_scope="public"),
    Subnet(id="own", network_id="red", cidr="10.9.0.0/24", address_scope="private"),
)
ROUTER = Router(
    id="r1",
    name="gate",
    subnet_ids=("red4", "red6", "own"),
    gateway_network_id="out",
    gateway_ips=("203.0.113.5", "203.0.113.6", "2001:db8:ffff::5"),
)
FOUR = Speaker(id="s4", name="four", local_as=64512, networks=("out",))
SIX = Speaker(id="s6", local_as=64512, ip_version=6, networks=("out",))


def port(id_: str, *addresses: str, **fields: object) -> Port:
    number = int(id_[1:])
    return Port(id=id_, network_id="red", mac_address=f"02:00:00:00:00:{number:02x}", ip_addresses=addresses, **fields)  # type: ignore[arg-type]


P1 = port("p1", "10.1.0.7", "2001:db8:1::7", "10.9.0.7")
FLOATING = FloatingIp(id="f1", network_id="out", address="203.0.113.77", port_id="p1")


class Wanted:
    """Intent, and what speakers tell of it."""

    def __init__(self, *wishes: Object, host: str = "here") -> None:
        self.intent = Intent()
        self.rib = Rib()
        self.stage = Advertising(self.intent, self.rib, Interner(), host)
        self.want(*wishes)

    def want(self, *wishes: Object | Removal) -> None:
        self.intent.apply(self.intent.plan(wishes, 0.0))
        self.stage.step()
        assert self.stage.step() == 0, "settled"

    def told(self, speaker: str) -> dict[str, str]:
        """The destinations of a speaker with their next hops, the same in its table and in the RIB."""
        said = {destination: offer.next_hop for destination, offer in self.stage.told.get(speaker, {}).items()}
        in_rib = {}
        for family in (Family.IPV4, Family.IPV6):
            table = self.rib.tables.get((family, local(speaker)))
            for key, path in table.rows.items() if table is not None else ():
                in_rib[key] = str(ipaddress.ip_address(path.attributes.next_hop))
        assert in_rib == {prefix_bytes(destination): hop for destination, hop in said.items()}
        return said

    def why(self, speaker: str, destination: str) -> str:
        return self.stage.why(self.stage.told[speaker][destination])


def test_subnets_in_the_scope_of_the_external_network_are_told_behind_the_first_gateway_address() -> None:
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, FOUR, SIX)
    assert wanted.told("s4") == {"10.1.0.0/24": "203.0.113.5"}
    assert wanted.told("s6") == {"2001:db8:1::/64": "2001:db8:ffff::5"}
    why = "subnet red-v4 of router gate, in the address scope of its external network"
    assert wanted.why("s4", "10.1.0.0/24") == why
    assert wanted.stage.reason_untold("router", "r1") == ""
    assert set(wanted.rib.tables) == {(Family.IPV4, local("s4")), (Family.IPV6, local("s6"))}, "nothing for all peers"
    assert (Family.IPV4, LOCAL) not in wanted.rib.tables


def test_no_scope_is_a_scope_as_well() -> None:
    unscoped = [Subnet(id=each.id, network_id=each.network_id, cidr=each.cidr) for each in (OUTSIDE[1], TENANT[1])]
    router = Router(id="r1", subnet_ids=("red4",), gateway_network_id="out", gateway_ips=("203.0.113.5",))
    wanted = Wanted(OUTSIDE[0], TENANT[0], *unscoped, router, FOUR)
    assert wanted.told("s4") == {"10.1.0.0/24": "203.0.113.5"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"admin_state_up": False}, "administratively down"),
        ({"gateway_network_id": None, "gateway_ips": ()}, "it leads to no external network"),
        ({"gateway_ips": ("2001:db8:ffff::5",)}, "it has no IPv4 address in network outside"),
        ({"subnet_ids": ("red6", "own")}, "no IPv4 subnet of it is in the address scope of network outside"),
    ],
)
def test_what_of_a_router_is_not_told_and_why(change: dict[str, object], reason: str) -> None:
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, FOUR)
    fields = {name: getattr(ROUTER, name) for name in ("subnet_ids", "gateway_network_id", "gateway_ips")}
    wanted.want(Router(id="r1", name="gate", **fields | change))
    assert wanted.told("s4") == {}
    assert wanted.stage.reason_untold("router", "r1") == reason
    wanted.want(ROUTER)
    assert wanted.told("s4") == {"10.1.0.0/24": "203.0.113.5"}


def test_flags_networks_and_scopes_work_at_once() -> None:
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, P1, FLOATING, FOUR)
    subnet, floating, fixed = (
        {"10.1.0.0/24": "203.0.113.5"},
        {"203.0.113.77/32": "203.0.113.5"},
        {"10.1.0.7/32": "203.0.113.5"},
    )
    assert wanted.told("s4") == subnet | floating

    def speaker(**fields: object) -> dict[str, str]:
        wanted.want(Speaker(id="s4", local_as=64512, **{"networks": ("out",)} | fields))  # type: ignore[arg-type]
        return wanted.told("s4")

    assert speaker(advertise_tenant_networks=False) == floating
    assert wanted.stage.reason_untold("router", "r1") == "speaker s4 announces no tenant networks"
    assert speaker(advertise_floating_ip_host_routes=False) == subnet
    assert wanted.stage.reason_untold("floating_ip", "f1") == (
        "no speaker announces IPv4 floating addresses of network outside"
    )
    assert speaker(advertise_fixed_ip_host_routes=True) == subnet | floating | fixed
    assert speaker(networks=()) == {}
    assert wanted.stage.reason_untold("router", "r1") == "no speaker tells of network outside"
    assert speaker() == subnet | floating
    wanted.want(Subnet(id="own", network_id="red", cidr="10.9.0.0/24", address_scope="public"))
    assert wanted.told("s4") == subnet | floating | {"10.9.0.0/24": "203.0.113.5"}
    wanted.want(Subnet(id="out4", network_id="out", cidr="203.0.113.0/24", address_scope="private"))
    assert wanted.told("s4") == floating
    wanted.want(Removal("speaker", "s4"))
    assert (wanted.stage.told, wanted.rib.tables) == ({}, {}), "nothing is left of a speaker"


def test_who_tells_who_hears_changes_no_route() -> None:
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, FOUR, Peer(id="p", address="192.0.2.9", remote_as=1, families=("ipv4",)))
    wanted.intent.apply(
        wanted.intent.plan([Speaker(id="s4", local_as=64512, networks=("out",), peers=("p",), name="x")], 0.0)
    )
    assert wanted.stage.step() == 0


def test_a_floating_address_is_told_behind_its_own_router_else_behind_that_of_its_port() -> None:
    other = Router(id="r0", subnet_ids=(), gateway_network_id="out", gateway_ips=("203.0.113.9",))
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, other, P1, FLOATING, FOUR)
    place = "203.0.113.77/32"
    assert wanted.told("s4")[place] == "203.0.113.5"
    assert wanted.why("s4", place) == "floating address f1 by way of router gate"
    wanted.want(FloatingIp(id="f1", network_id="out", address="203.0.113.77", router_id="r0", port_id="p1"))
    assert wanted.told("s4")[place] == "203.0.113.9"
    wanted.want(Removal("router", "r0"))
    assert wanted.told("s4")[place] == "203.0.113.5", "its port is still there"
    wanted.want(Removal("port", "p1"))
    assert place not in wanted.told("s4")
    assert wanted.stage.reason_untold("floating_ip", "f1") == "it is bound to no port"
    wanted.want(P1, FloatingIp(id="f1", network_id="out", address="203.0.113.77", port_id="p1", fixed_ip="10.9.0.7"))
    assert wanted.told("s4")[place] == "203.0.113.5", "the router is on the subnet of that address too"
    wanted.want(Router(id="r1", subnet_ids=("red4",), gateway_network_id="out", gateway_ips=("203.0.113.5",)))
    assert place not in wanted.told("s4")
    assert wanted.stage.reason_untold("floating_ip", "f1") == (
        "no router that is up leads from its port to network outside with an IPv4 address there"
    )


def test_a_floating_address_that_is_in_no_subnet_of_its_network_is_somebody_elses() -> None:
    stray = FloatingIp(id="f2", network_id="out", address="8.8.8.8", port_id="p1")
    wanted = Wanted(*OUTSIDE, *TENANT, ROUTER, P1, stray, FOUR)
    assert "8.8.8.8/32" not in wanted.told("s4")
    assert wanted.stage.reason_untold("floating_ip", "f2") == "8.8.8.8 is in no subnet of network outside"


def test_fixed_addresses_of_ports_on_this_node_are_told_if_a_speaker_wants_them() -> None:
    hosts = {"advertise_fixed_ip_host_routes": True, "advertise_tenant_networks": False}
    wanted = Wanted(
        *OUTSIDE,
        *TENANT,
        ROUTER,
        P1,
        port("p2", "10.1.0.8", host="here"),
        port("p3", "10.1.0.9", host="elsewhere"),
        port("p4", "10.1.0.10", device_owner="network:dhcp"),
        port("p5", "10.1.0.11", admin_state_up=False),
        Speaker(id="s4", local_as=64512, networks=("out",), **hosts),  # type: ignore[arg-type]
        Speaker(id="s6", local_as=64512, ip_version=6, networks=("out",), **hosts),  # type: ignore[arg-type]
    )
    assert wanted.told("s4") == {"10.1.0.7/32": "203.0.113.5", "10.1.0.8/32": "203.0.113.5"}, "10.9.0.7 is private"
    assert wanted.told("s6") == {"2001:db8:1::7/128": "2001:db8:ffff::5"}
    assert wanted.why("s4", "10.1.0.8/32") == "fixed address of port p2 behind router gate"


def test_of_several_routers_the_lowest_id_wins_and_an_advertisement_wins_over_all() -> None:
    def router(number: int) -> Router:
        return Router(
            id=f"r{number}",
            subnet_ids=("red4",),
            gateway_network_id="out",
            gateway_ips=(f"203.0.113.{number}",),
        )

    wanted = Wanted(*OUTSIDE, *TENANT, router(3), FOUR)
    for wish, hop in [
        (router(2), "203.0.113.2"),
        (router(4), "203.0.113.2"),
        (Removal("router", "r2"), "203.0.113.3"),
        (Advertisement(id="a", speaker_id="s4", destination="10.1.0.0/24", next_hop="192.0.2.1"), "192.0.2.1"),
        (router(1), "192.0.2.1"),
        (Advertisement(id="a", speaker_id="s4", destination="10.1.0.0/24", next_hop="192.0.2.2"), "192.0.2.2"),
        (Removal("advertisement", "a"), "203.0.113.1"),
    ]:
        wanted.want(wish)  # type: ignore[arg-type]
        assert wanted.told("s4") == {"10.1.0.0/24": hop}, wish


def test_two_speakers_tell_each_its_own() -> None:
    beside = Network(id="beside", external=True)
    second = Router(id="r2", subnet_ids=("red4",), gateway_network_id="beside", gateway_ips=("198.51.100.1",))
    wanted = Wanted(
        *OUTSIDE,
        beside,
        Subnet(id="beside4", network_id="beside", cidr="198.51.100.0/24", address_scope="public"),
        *TENANT,
        ROUTER,
        second,
        FOUR,
        Speaker(id="other", local_as=64513, networks=("beside",)),
        Advertisement(id="a", speaker_id="other", destination="192.0.2.0/24", next_hop="198.51.100.2"),
    )
    assert wanted.told("s4") == {"10.1.0.0/24": "203.0.113.5"}
    assert wanted.told("other") == {"10.1.0.0/24": "198.51.100.1", "192.0.2.0/24": "198.51.100.2"}
    assert wanted.why("other", "192.0.2.0/24") == "advertisement a says so"


def test_every_order_of_changes_ends_where_a_new_node_begins() -> None:
    for seed in range(150):
        chance = Random(seed)
        wanted = Wanted(*(Network(id=id_, external=id_ in "xy") for id_ in "abxy"))
        for _ in range(chance.choice((100, 150))):
            try:
                changes = wanted.intent.plan([_some_wish(chance, wanted.intent)], 0.0)
            except IntentError:
                continue
            wanted.intent.apply(changes)
            if chance.random() < 0.7:
                wanted.stage.step()
        wanted.stage.step()
        rib = Rib()
        new = Advertising(wanted.intent, rib, Interner(), "here")
        new.step()
        assert wanted.stage.told == new.told, seed
        for speaker in ("s0", "s1", "s2"):
            wanted.told(speaker)
        for family in FAMILY_OF.values():
            sources = {source for source, table in wanted.rib.sources(family) if table.rows}
            assert sources == {source for source, table in rib.sources(family) if table.rows}, seed


def _some_wish(chance: Random, intent: Intent) -> Object | Removal:
    """A wish about a few objects that have much to do with each other; it may be refused."""
    number, network = chance.randrange(3), chance.choice(("a", "b"))
    outside = chance.choice(("x", "y"))
    v6 = chance.random() < 0.3
    kinds = ("subnet", "router", "port", "floating_ip", "speaker", "advertisement")
    if chance.random() < 0.1:
        things = [(kind, id_) for kind in kinds for id_ in intent.tables[kind]]
        if things:
            return Removal(*chance.choice(things))
    scope = chance.choice(("", "one"))
    match chance.choice(kinds):
        case "subnet":
            name = chance.choice((network, outside))
            cidr = f"2001:db8:{ord(name):x}{number}::/64" if v6 else f"10.{ord(name)}.{number}.0/24"
            return Subnet(id=f"{name}{number}{v6}", network_id=name, cidr=cidr, address_scope=scope)
        case "router":
            subnets = [id_ for id_ in intent.subnets if chance.random() < 0.4 and id_[0] in "ab"]
            addresses = [f"10.{ord(outside)}.0.{number + 1}", f"2001:db8::{number + 1}"]
            return Router(
                id=f"r{number}",
                subnet_ids=tuple(subnets),
                gateway_network_id=outside,
                gateway_ips=tuple(each for each in addresses if chance.random() < 0.8),
                admin_state_up=chance.random() < 0.8,
            )
        case "port":
            base = f"10.{ord(network)}.{chance.randrange(3)}.{number + 9}"
            return Port(
                id=f"{network}{number}",
                network_id=network,
                mac_address=f"02:00:00:00:{ord(network):02x}:{number:02x}",
                ip_addresses=(base,) if chance.random() < 0.8 else (),
                host=chance.choice(("", "here", "there")),
            )
        case "floating_ip":
            ports = list(intent.ports)
            return FloatingIp(
                id=f"f{number}{outside}",
                network_id=outside,
                address=f"10.{ord(outside)}.0.{number + 100}",
                router_id=chance.choice([None, *intent.routers]),
                port_id=chance.choice([None, *ports]),
            )
        case "speaker":
            return Speaker(
                id=f"s{number}",
                local_as=64512,
                ip_version=6 if number == 2 else 4,
                advertise_tenant_networks=chance.random() < 0.8,
                advertise_floating_ip_host_routes=chance.random() < 0.8,
                advertise_fixed_ip_host_routes=chance.random() < 0.5,
                networks=tuple(each for each in "xy" if chance.random() < 0.6),
            )
    return Advertisement(
        id=f"d{number}",
        speaker_id=f"s{number}",
        destination="2001:db8::/32" if number == 2 else f"10.{ord(network)}.{number}.0/24",
        next_hop="2001:db8::9" if number == 2 else "192.0.2.9",
    )
