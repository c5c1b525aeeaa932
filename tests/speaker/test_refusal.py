"""What is refused whatever the policy: loops, an AS_PATH that is not the peer's, route leaks."""

from __future__ import annotations

from typing import Any

import pytest

from speaker.path import AS_CONFED_SEQUENCE, AS_SEQUENCE, AS_SET, AsPath
from speaker.refusal import Own, refusal
from speaker.session import Role
from speaker.values import Family
from tests.speaker.hearing import IPV4, RTC, VPNV4, Peer, agreed, saying
from tests.speaker.routes import block

OURS, CLUSTER = bytes((192, 0, 2, 1)), bytes((0, 0, 0, 7))
PEER: AsPath = ((AS_SEQUENCE, (64513,)),)


def own(cluster_id: bytes = b"") -> Own:
    return Own(OURS, frozenset({64512}), frozenset({OURS}), cluster_id)


@pytest.mark.parametrize(
    ("cluster_id", "cluster_list", "loop"),
    [
        (b"", (OURS,), True),
        (b"", (CLUSTER, OURS), True),
        (b"", (CLUSTER,), False),
        (CLUSTER, (CLUSTER,), True),
        (CLUSTER, (OURS,), False),
        (CLUSTER, (), False),
    ],
)
def test_a_route_that_went_through_our_cluster_is_a_loop(  # RFC 4456 section 8
    cluster_id: bytes, cluster_list: tuple[bytes, ...], loop: bool
) -> None:
    for family in (VPNV4, RTC):
        reason = refusal(family, block(1, cluster_list=cluster_list), own(cluster_id), agreed(family))
        assert (reason is not None and "CLUSTER_LIST" in reason) is loop


@pytest.mark.parametrize(
    ("as_path", "good"),
    [
        (PEER, True),
        (((AS_SEQUENCE, (64513, 7)),), True),
        (((AS_SEQUENCE, (64513,)), (AS_SET, (7, 8))), True),
        (((AS_SEQUENCE, (7, 64513)),), False),
        (((AS_SET, (64513,)),), False),
        (((AS_CONFED_SEQUENCE, (64513,)), (AS_SEQUENCE, (64513,))), False),
        ((), False),
    ],
)
def test_the_AS_PATH_of_an_external_peer_begins_with_its_AS(as_path: AsPath, good: bool) -> None:  # RFC 4271 6.3
    attributes = block(1, as_path=as_path)
    for family in (IPV4, VPNV4, RTC):
        reason = refusal(family, attributes, own(), agreed(family, ibgp=False))
        assert (reason is None) is good, reason
        assert refusal(family, attributes, own(), agreed(family)) is None, "an internal peer says what it was told"
        client = agreed(family, ibgp=False, role="route-server-client")
        assert refusal(family, attributes, own(), client) is None, "a route server leaves itself out"


OTC_RULES: tuple[tuple[Role | None, int | None, bool, int | None], ...] = (
    # our role, OTC as it came, refused, OTC as it is kept; the peer is AS 64513
    ("provider", None, False, None),
    ("provider", 64513, True, None),
    ("provider", 9, True, None),
    ("route-server", None, False, None),
    ("route-server", 64513, True, None),
    ("peer", None, False, 64513),
    ("peer", 64513, False, 64513),
    ("peer", 9, True, None),
    ("customer", None, False, 64513),
    ("customer", 64513, False, 64513),
    ("customer", 9, False, 9),
    ("route-server-client", None, False, 64513),
    ("route-server-client", 9, False, 9),
    (None, None, False, None),
    (None, 9, False, 9),
)


@pytest.mark.parametrize(("role", "otc", "refused", "kept"), OTC_RULES)
def test_what_OTC_means_follows_from_the_roles(  # RFC 9234 section 5
    role: Role | None, otc: int | None, refused: bool, kept: int | None
) -> None:
    key = b"\x0a\x08"
    for family in (IPV4, Family.IPV6):
        peer = Peer()
        peer.up(family, ibgp=False, role=role)
        peer.hear(family, saying(block(as_path=PEER), only_to_customer=otc), key)
        assert (peer.held(family) == set()) is refused
        assert any("route leak" in reason for _, _, _, reason in peer.adj_rib_in.refusals()) is refused
        if not refused:
            assert peer.says(family, key).only_to_customer == kept


def test_OTC_says_nothing_in_other_families_and_to_internal_peers() -> None:  # RFC 9234 section 5
    vpn: dict[str, Any] = {"ibgp": False, "role": "provider"}
    for family, fields in ((VPNV4, vpn), (IPV4, {}), (VPNV4, {**vpn, "role": "customer"})):
        peer = Peer()
        peer.up(family, **fields)
        for otc in (None, 9):
            peer.hear(family, saying(block(1, as_path=PEER), only_to_customer=otc), b"k" * 8 + b"\x0a\x08")
            (path,) = peer.paths(family).values()
            assert path.attributes.only_to_customer == otc


def test_routes_to_which_OTC_was_added_share_it() -> None:
    peer = Peer()
    peer.up(IPV4, ibgp=False, role="customer")
    attributes = block(as_path=PEER)
    peer.hear(IPV4, attributes, b"\x0a\x08", b"\x0b\x08")
    peer.hear(IPV4, attributes, b"\x0c\x08")
    assert len({id(path) for path in peer.paths(IPV4).values()}) == 1
    assert attributes.only_to_customer is None, "the block that came is as it came"
