"""Extended communities: their octets, and their words."""

from __future__ import annotations

import pytest

from speaker.wire.community import (
    ENCAPSULATION_MPLS_IN_UDP,
    ENCAPSULATION_VXLAN,
    community_text,
    encapsulation,
    encapsulation_types,
    is_route_target,
    mac_mobility,
    mobility,
)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("0002fc0000000064", "target:64512:100"),
        ("0102c00002010064", "target:192.0.2.1:100"),
        ("0202fa56ea000064", "target:4200000000:100"),
        ("0003fc0000000064", "origin:64512:100"),
        ("0203000000640005", "origin:100L:5"),
        ("030c000000000008", "encapsulation:vxlan"),
        ("030c00000000ffff", "encapsulation:65535"),
        ("030d000000000000", "default-gateway"),
        ("0600000000000007", "mac-mobility:7"),
        ("06000100ffffffff", "mac-mobility:4294967295 sticky"),
        ("0603fa163e000001", "router-mac:fa:16:3e:00:00:01"),
        ("0602fa163e000001", "es-import:fa:16:3e:00:00:01"),
        ("010bc00002010007", "vrf-route-import:192.0.2.1:7"),
        ("4002fc0000000064", "0x4002fc0000000064"),  # not transitive: not a route target
        ("8006000000000000", "0x8006000000000000"),
    ],
)
def test_a_community_reads_as_people_write_it(octets: str, text: str) -> None:
    community = bytes.fromhex(octets)
    assert community_text(community) == text
    assert is_route_target(community) is text.startswith("target:")


def test_what_is_said_of_encapsulation_and_mobility_is_found_again() -> None:
    other = bytes.fromhex("0002fc0000000064")
    said = [
        other,
        encapsulation(ENCAPSULATION_VXLAN),
        encapsulation(ENCAPSULATION_MPLS_IN_UDP),
        mac_mobility(4294967295, sticky=True),
        mac_mobility(1),
    ]
    assert {len(each) for each in said} == {8}
    assert encapsulation_types(said) == {8, 13}
    assert mobility(said) == (4294967295, True)
    assert mobility([mac_mobility(1)]) == (1, False)
    assert (encapsulation_types([other]), mobility([other])) == (frozenset(), None)
