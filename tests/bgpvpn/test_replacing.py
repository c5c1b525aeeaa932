from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bgpvpn.intent import (
    Association,
    Bgpvpn,
    Intent,
    IntentError,
    Key,
    Network,
    Object,
    Port,
    Removal,
    Router,
    Subnet,
    kind_of,
)
from bgpvpn.objects import KINDS
from bgpvpn.replacing import Replacement, replace


def port(number: int, *addresses: str, mac: int | None = None, network: str = "o.n", **fields: Any) -> Port:
    mac_address = f"02:00:00:00:00:{number if mac is None else mac:02x}"
    return Port(id=f"o.p{number}", network_id=network, mac_address=mac_address, ip_addresses=addresses, **fields)


NETWORK = Network(id="o.n")
SUBNET = Subnet(id="o.s", network_id="o.n", cidr="10.0.0.0/24")


def done(intent: Intent, *things: Object, kept: Sequence[Key] = ()) -> Replacement:
    """Replace what owner "o" has, whatever the kind."""
    found = replace(intent, "o", things, KINDS, kept, 1.0)
    intent.apply(intent.plan(found.wishes, 1.0))
    return found


def there(intent: Intent) -> list[Object]:
    return [thing for kind in KINDS for _, thing in sorted(intent.tables[kind].rows.items())]


def reasons(found: Replacement) -> dict[Key, str]:
    return {key: str(error) for key, error in found.refused.items()}


def test_what_is_not_named_any_more_goes_and_what_is_not_the_owners_stays() -> None:
    intent = Intent()
    others: list[Object] = [Network(id="other"), Network(id="oo.n"), Bgpvpn(id="v")]
    intent.apply(intent.plan(others, 1.0))
    done(intent, NETWORK, SUBNET, port(1, "10.0.0.1"))
    assert len(there(intent)) == 6
    done(intent, NETWORK)
    assert set(there(intent)) == {*others, NETWORK}
    done(intent)
    assert set(there(intent)) == set(others)


def test_what_is_kept_stays_as_it_is_and_need_not_be_there() -> None:
    intent = Intent()
    done(intent, NETWORK, SUBNET, port(1, "10.0.0.1"))
    assert not done(intent, NETWORK, kept=[("subnet", "o.s"), ("port", "o.p1"), ("port", "o.nowhere")]).refused
    assert there(intent) == [NETWORK, SUBNET, port(1, "10.0.0.1")]


def test_addresses_move_between_ports_in_every_way_and_a_port_leaves_a_subnet_that_goes() -> None:
    one, two, three = "10.0.0.1", "10.0.0.2", "10.0.0.3"
    new_subnet = Subnet(id="o.t", network_id="o.n", cidr="10.0.0.0/25")
    cases: list[tuple[list[Object], list[Object]]] = [
        ([port(1, one)], [port(2, one)]),
        ([port(1, one), port(2, two)], [port(1, two), port(2, one)]),
        ([port(1, one), port(2, two), port(3, three)], [port(1, two), port(2, three), port(3, one)]),
        ([port(1, one), port(2, two), port(3, three)], [port(1, two), port(2, three), port(3, "10.0.0.4")]),
        ([port(1, mac=1), port(2, mac=2)], [port(1, mac=2), port(2, mac=1)]),
        ([port(1, one)], [new_subnet, port(1, two)]),
        ([port(1, one)], [new_subnet, port(1, one)]),
    ]
    for before, after in cases:
        intent = Intent()
        done(intent, NETWORK, SUBNET, *before)
        subnets = () if new_subnet in after else (SUBNET,)
        assert not done(intent, NETWORK, *subnets, *after).refused, after
        assert set(there(intent)) == {NETWORK, *subnets, *after}, after


def test_an_association_outlives_that_its_port_is_made_anew() -> None:
    intent = Intent()
    vpn, bound = Bgpvpn(id="o.v"), Association(id="o.a", bgpvpn_id="o.v", port_id="o.p1")
    done(intent, NETWORK, SUBNET, vpn, bound, port(1, "10.0.0.1"), port(2, "10.0.0.2"))
    stamp = intent.stamps["port", "o.p1"]
    done(intent, NETWORK, SUBNET, vpn, bound, port(1, "10.0.0.2"), port(2, "10.0.0.1"))
    assert bound in there(intent)
    assert intent.stamps["port", "o.p1"].created_at == stamp.created_at
    assert intent.stamps["port", "o.p1"].revision > stamp.revision


def test_a_port_is_not_made_anew_when_that_takes_along_what_others_bound_to_it() -> None:
    intent = Intent()
    done(intent, NETWORK, SUBNET, port(1, "10.0.0.1"), port(2, "10.0.0.2"))
    theirs = [Association(id=f"theirs-{number}", bgpvpn_id="v", port_id=f"o.p{number}") for number in (1, 2)]
    intent.apply(intent.plan([Bgpvpn(id="v"), *theirs], 1.0))
    found = done(intent, NETWORK, SUBNET, port(1, "10.0.0.2"), port(2, "10.0.0.1"))
    assert reasons(found) == {
        ("port", "o.p1"): "ip_addresses: '10.0.0.2' is taken by port 'o.p2'",
        ("port", "o.p2"): "ip_addresses: '10.0.0.1' is taken by port 'o.p1'",
    }
    assert set(theirs) <= set(there(intent))


def test_what_is_refused_stays_out_with_what_names_it_and_the_rest_is_done() -> None:
    intent = Intent()
    outside = Network(id="taken")
    intent.apply(intent.plan([outside, Port(id="x", network_id="taken", mac_address="02:00:00:00:01:01")], 1.0))
    bad = port(1, "192.0.2.1")
    vpn = Bgpvpn(id="o.v")
    found = done(
        intent,
        NETWORK,
        SUBNET,
        bad,
        port(2, "10.0.0.2"),
        vpn,
        Association(id="o.a", bgpvpn_id="o.v", port_id="o.p1"),
        Association(id="o.b", bgpvpn_id="o.v", network_id="o.n"),
    )
    assert reasons(found) == {
        ("port", "o.p1"): "ip_addresses: 192.0.2.1 is in no subnet of network 'o.n'",
        ("association", "o.a"): "port_id: there is no port 'o.p1'",
    }
    assert {thing.id for thing in there(intent)} == {"taken", "x", "o.n", "o.s", "o.p2", "o.v", "o.b"}


def test_a_port_whose_change_is_refused_keeps_what_it_had() -> None:
    intent = Intent()
    done(intent, NETWORK, SUBNET, port(1, "10.0.0.1"))
    found = done(intent, NETWORK, SUBNET, port(1, "192.0.2.1"))
    assert list(found.refused) == [("port", "o.p1")]
    assert port(1, "10.0.0.1") in there(intent)


def test_what_others_hold_on_to_is_not_removed() -> None:
    intent = Intent()
    done(intent, NETWORK, SUBNET)
    theirs = Port(id="theirs", network_id="o.n", mac_address="02:00:00:00:00:09", ip_addresses=("10.0.0.9",))
    intent.apply(intent.plan([theirs], 1.0))
    assert set(done(intent).refused) == {("network", "o.n"), ("subnet", "o.s")}
    assert there(intent) == [NETWORK, SUBNET, theirs]


def possible(wishes: Sequence[Object]) -> list[Object]:
    """All of the wishes that can be together, made one after another."""
    intent = Intent()
    for wish in wishes:
        try:
            intent.apply(intent.plan([wish], 1.0))
        except IntentError:
            continue
    return there(intent)


NETWORKS = st.builds(lambda number: Network(id=f"o.n{number}"), st.integers(0, 1))
SUBNETS = st.builds(
    lambda number, third, of, gateway: Subnet(
        id=f"o.s{number}.{third}.{of}",
        network_id=f"o.n{of}",
        cidr=f"10.0.{third}.0/{24 - number}",
        gateway_ip=f"10.0.{third}.1" if gateway else None,
    ),
    st.integers(0, 1),
    st.sampled_from([0, 2]),
    st.integers(0, 1),
    st.booleans(),
)
PORTS = st.builds(
    lambda number, last, third, mac: port(number, f"10.0.{third}.{last}", mac=mac, network=f"o.n{number % 2}"),
    st.integers(0, 5),
    st.integers(1, 5),
    st.sampled_from([0, 2]),
    st.integers(0, 5),
)
ROUTERS = st.builds(
    lambda number, subnets: Router(id=f"o.r{number}", subnet_ids=subnets),
    st.integers(0, 1),
    st.lists(st.sampled_from(["o.s0.0.0", "o.s0.2.1", "o.s1.2.0"]), max_size=2),
)
VPNS = st.builds(lambda number, kind: Bgpvpn(id=f"o.v{number}", type=kind), st.integers(0, 2), st.just("l3"))
ASSOCIATIONS = st.builds(
    lambda number, vpn, of: Association(id=f"o.a{number}", bgpvpn_id=f"o.v{vpn}", **of),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from([{"network_id": "o.n0"}, {"network_id": "o.n1"}, {"router_id": "o.r0"}, {"port_id": "o.p0"}]),
)
STATES = st.tuples(
    st.lists(NETWORKS, max_size=3),
    st.lists(SUBNETS, max_size=5),
    st.lists(ROUTERS, max_size=3),
    st.lists(PORTS, max_size=8),
    st.lists(VPNS, max_size=3),
    st.lists(ASSOCIATIONS, max_size=6),
).map(lambda kinds: possible([thing for things in kinds for thing in things]))


@given(STATES, STATES)
def test_whatever_is_there_becomes_whatever_can_be(before: list[Object], after: list[Object]) -> None:
    intent = Intent()
    assert not done(intent, *before).refused
    assert there(intent) == before
    found = done(intent, *after)
    assert not found.refused
    assert there(intent) == after
    assert intent.plan(replace(intent, "o", after, KINDS, (), 2.0).wishes, 2.0) == []
    intent.apply(intent.plan([Removal(kind_of(each), each.id) for each in reversed(there(intent))], 1.0))
