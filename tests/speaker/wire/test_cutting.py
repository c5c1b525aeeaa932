"""What is done at once for a whole run of NLRI is what comes of one after the other: fast functions, slow twins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.flowspec import FlowSpecificationError, cut, well_formed
from speaker.values import Family
from speaker.wire import nlri
from speaker.wire.flowspec import cut_run
from speaker.wire.framing import Framing, Tolerated, cutting
from tests.speaker.wire.strategies import ROUTES

SIZES = {number: (number + 7) // 8 for number in range(5, 33)} | {200: 1, 255: 40}


def cut_slowly(octets: bytes, before: int) -> list[bytes] | bytes:
    """Each NLRI, or the octets from where there is none."""
    each: list[bytes] = []
    while octets:
        size = before + 1 + SIZES.get(octets[before], 99) if len(octets) > before else 99
        if size > len(octets):
            return octets
        each.append(octets[:size])
        octets = octets[size:]
    return each


RUNS = st.lists(
    st.sampled_from([*SIZES]).flatmap(
        lambda n: st.binary(min_size=SIZES[n], max_size=SIZES[n]).map(bytes((n,)).__add__)
    )
)


@pytest.mark.parametrize("before", [0, 1, 4])
@given(run=RUNS, identifier=st.binary(min_size=4, max_size=4), rest=st.binary(max_size=6))
def test_a_run_is_cut_at_once_as_it_is_one_by_one(
    before: int, run: list[bytes], identifier: bytes, rest: bytes
) -> None:
    octets = b"".join(identifier[:before] + one for one in run)
    for each in (octets, octets + rest):
        assert cut_at_once(each, before) == cut_slowly(each, before)


def cut_at_once(octets: bytes, before: int) -> list[bytes] | bytes:
    try:
        return cutting(before, SIZES, "{}")(octets)
    except Framing as error:
        return error.octets


@given(st.lists(st.binary(max_size=12)), st.booleans(), st.binary(max_size=3))
def test_a_run_of_flow_specifications_is_cut_where_each_ends(keys: list[bytes], wide: bool, rest: bytes) -> None:
    each = [(bytes((0xF0, len(key))) if wide else bytes((len(key),))) + key for key in keys]
    for before in (0, 4):
        run = [bytes(before) + one for one in each]
        assert cut_run(b"".join(run), before) == run
        for cut_off in (b"\x0b" + rest, b"\xf0", b"\xf1\0" + rest):
            with pytest.raises(Framing) as caught:
                cut_run(b"".join(run) + bytes(before) + cut_off, before)
            assert caught.value.octets == bytes(before) + cut_off


KNOWN = ("0100", "01180a0001", "02200a000001", "0120002001", "038106", "04918000", "0b8101")
COMPONENTS = st.lists(
    st.sampled_from(KNOWN).map(bytes.fromhex)
    | st.builds(lambda kind, rest: bytes((kind,)) + rest, st.integers(0, 14), st.binary(max_size=5)),
    max_size=4,
).map(b"".join)


@given(COMPONENTS, st.sampled_from([32, 128]), st.binary(max_size=8))
def test_a_flow_specification_is_well_formed_if_it_has_components(octets: bytes, width: int, before: bytes) -> None:
    try:
        cut(octets, width)
    except FlowSpecificationError:
        assert not well_formed(before + octets, width, len(before))
    else:
        assert well_formed(before + octets, width, len(before))


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@given(data=st.data(), chosen=st.lists(st.integers(0, 3), max_size=12), octet=st.integers(0, 255))
def test_routes_are_read_together_as_they_are_alone(
    family: Family, data: st.DataObject, chosen: list[int], octet: int
) -> None:
    good = data.draw(st.lists(ROUTES[family], min_size=4, max_size=4))
    kinds = [bytes(one) for one in nlri.encode(family, good)]
    at = data.draw(st.integers(1 if family in OF_BITS else 2, len(kinds[0])))
    kinds[0] = kinds[0][:at] + bytes((octet,)) * bool(kinds[0][at:]) + kinds[0][at + 1 :]  # it may be malformed now
    for add_path in (False, True):
        run = [(number.to_bytes(4, "big") if add_path else b"") + kinds[one] for number, one in enumerate(chosen)]
        routes: list[tuple[bytes, bytes]] = []
        alone: list[bytes] = []
        reasons: list[str] = []
        try:
            for one in run:
                errors = Tolerated()
                routes += nlri.decode(family, one, errors, alone, add_path=add_path)
                reasons += [error.reason for error in errors]
        except Framing:
            with pytest.raises(Framing):
                nlri.decode(family, b"".join(run), Tolerated(), [], add_path=add_path)
            return
        together: list[bytes] = []
        errors = Tolerated()
        found = nlri.decode(family, b"".join(run), errors, together, add_path=add_path)
        assert dict(found) == dict(routes)
        assert set(together) == set(alone)
        assert [error.reason for error in errors] == list(dict.fromkeys(reasons))


OF_BITS = frozenset({Family.IPV4, Family.IPV6, Family.VPNV4, Family.VPNV6, Family.RTC})
