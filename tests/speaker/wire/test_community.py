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
    link_bandwidth,
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
        ("800a000000000000", "0x800a000000000000"),
        ("8006fc0000000000", "traffic-rate-bytes:64512:0"),
        ("8006fc0049742400", "traffic-rate-bytes:64512:1000000"),
        ("8006fc007fc00000", "traffic-rate-bytes:64512:nan"),
        ("800cfc00447a0000", "traffic-rate-packets:64512:1000"),
        ("8007000000000000", "traffic-action:none"),
        ("8007000000000003", "traffic-action:terminal+sample"),
        ("8008fc0000000064", "rt-redirect:64512:100"),
        ("8108c00002010064", "rt-redirect:192.0.2.1:100"),
        ("8208fa56ea000064", "rt-redirect:4200000000:100"),
        ("800900000000002e", "traffic-marking:46"),
        ("010cc00002010001", "redirect-to-ip:192.0.2.1 copy"),
        ("010cc00002010000", "redirect-to-ip:192.0.2.1"),
        ("0800000000000000", "redirect-to-next-hop"),
        ("0800000000000001", "redirect-to-next-hop copy"),
        ("4004fc004d6e6b28", "link-bandwidth:64512:250000000"),
        ("0004fc0049742400", "link-bandwidth:64512:1000000 transitive"),
        ("0601010000000641", "esi-label:100 single-active"),
        ("0601000000000641", "esi-label:100 all-active"),
        ("0604000505dc0000", "layer-2:backup+control-word mtu 1500"),
        ("0606014000000000", "df-election:hrw ac-df preference 0"),
        ("0606028000007fff", "df-election:highest-preference do-not-preempt preference 32767"),
        ("06061f0000000000", "df-election:31 none preference 0"),
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


def test_the_first_link_bandwidth_counts_if_it_is_a_positive_number() -> None:
    own, transitive = bytes.fromhex("4004fc0049742400"), bytes.fromhex("0004fc00447a0000")
    nobody = [bytes.fromhex(f"4004fc00{rate}") for rate in ("00000000", "7fc00000", "7f800000", "ff800000", "c9742400")]
    for said, expected in [
        ([own], 1e6),
        ([transitive], 1000.0),
        ([bytes.fromhex("0002fc0000000064"), transitive, own], 1000.0),
        ([], None),
        *(([each, own], None) for each in nobody),
    ]:
        assert link_bandwidth(said) == expected, said
