"""Mutations: trees of messages changed in their structure, then octets changed without regard to it.

All is drawn from one `random.Random`, so that the same seed makes the same octets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from speaker.values import Family
from tests.fuzzing import seeds
from tests.fuzzing.seeds import Form
from tests.fuzzing.shapes import (
    EXTENDED,
    MP_REACH,
    MP_UNREACH,
    OPEN,
    UPDATE,
    Attribute,
    Introduction,
    Routes,
    cut,
    message,
)

BOUNDARIES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    24,
    32,
    33,
    48,
    63,
    64,
    65,
    88,
    96,
    120,
    127,
    128,
    129,
    216,
    239,
    240,
    241,
    254,
    255,
)
WIDE = (0, 1, 4, 23, 255, 256, 4077, 4096, 32767, 32768, 65535)
CODES = (*range(1, 12), *range(14, 19), 22, 23, 25, 26, 29, 32, 33, 35, 40, 128, 254, 255, 0, 12, 13, 19)
CAPABILITIES = (1, 2, 5, 6, 9, 64, 65, 69, 70, 71, 73, 0, 3, 131, 255)
IPV4 = (1, 1)
MOST = 65516
"""Octets of a body that a message of 65,535 has room for."""


def _routes(octets: bytes, form: Form) -> Routes:
    tree = cut(octets, paths=form.add_path)
    assert isinstance(tree, Routes), octets.hex()
    return tree


class Mutator:
    """Makes messages; the seeds are cut once."""

    def __init__(self, more: Sequence[bytes] = ()) -> None:
        """`more` are other messages to start from: what was found before."""
        self._updates = {
            form: [_routes(each, form) for each in (*seeds.captures(form), *seeds.updates(form))]
            for form in seeds.FORMS
        }
        self.opens = [tree for each in seeds.opens() if isinstance(tree := cut(each), Introduction)]
        all_of_them = [update for some in self._updates.values() for update in some]
        self.others = list(seeds.others())
        self.more = [each for each in more if len(each) > 19]
        self._attributes = [each for update in all_of_them for each in update.attributes]
        self._runs: dict[tuple[bool, tuple[int, int]], list[list[bytes]]] = {}
        for update in all_of_them:
            told = [(each.family, each.routes) for each in update.attributes if each.routes]
            for family, run in (*told, (IPV4, update.withdrawn), (IPV4, update.announced)):
                if run:
                    self._runs.setdefault((update.paths, family), []).append(run)
        self._all_runs = [run for runs in self._runs.values() for run in runs]

    def update(self, chance: random.Random, form: Form) -> bytes:
        """The body of an UPDATE; one in eight is made for sessions of another form."""
        if self.more and not chance.randrange(16):
            return self._damaged(chance, chance.choice(self.more)[19:], 1 + chance.randrange(3))
        tree = chance.choice(self._updates[form if chance.randrange(8) else chance.choice(seeds.FORMS)]).copy()
        for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5))):
            chance.choice(_UPDATES)(self, chance, tree)
        body = tree.octets()
        if not chance.randrange(5):
            body = self._damaged(chance, body, 1 + chance.randrange(4))
        return body[:MOST]

    def open(self, chance: random.Random) -> bytes:
        """The body of an OPEN."""
        tree = chance.choice(self.opens).copy()
        for _ in range(chance.randrange(5)):
            chance.choice(_OPENS)(self, chance, tree)
        body = tree.octets()
        if not chance.randrange(3):
            body = self._damaged(chance, body, 1 + chance.randrange(3))
        return body[:4077]

    def message(self, chance: random.Random, form: Form) -> bytes:
        """A message of any type, in nine of ten with a header that is in order."""
        drawn = chance.randrange(16)
        if drawn < 11:
            octets = message(UPDATE, self.update(chance, form))
        elif drawn < 13:
            octets = message(OPEN, self.open(chance))
        else:
            octets = chance.choice(self.others)
            if chance.randrange(2):
                octets = message(octets[18], self._damaged(chance, octets[19:], 1)[:MOST])
        if not chance.randrange(10):
            header = bytearray(octets[:19])
            match chance.randrange(4):
                case 0:
                    header[chance.randrange(16)] = chance.choice(BOUNDARIES)
                case 1:
                    header[16:18] = chance.choice(WIDE).to_bytes(2, "big")
                case 2:
                    header[17] = (header[17] + chance.choice((-1, 1))) & 0xFF
                case _:
                    header[18] = chance.choice((0, 1, 2, 3, 4, 5, 6, 128, 255))
            octets = bytes(header) + octets[19:]
        return octets

    def stream(self, chance: random.Random, form: Form) -> bytes:
        """Some messages one after the other; the last one may be cut off."""
        octets = b"".join(self.message(chance, form) for _ in range(chance.choice((1, 1, 2, 3))))
        return octets[: chance.randrange(len(octets) + 1)] if not chance.randrange(16) else octets

    def capability(self, chance: random.Random) -> tuple[int, bytes]:
        """Code and value of a capability."""
        capabilities = chance.choice(self.opens).capabilities
        code, value = chance.choice(capabilities) if capabilities else (chance.choice(CAPABILITIES), b"")
        return (chance.choice(CAPABILITIES) if not chance.randrange(4) else code), self._damaged(chance, value, 1)[:255]

    def attribute(self, chance: random.Random) -> Attribute:
        """An attribute of some message."""
        found = chance.choice(self._attributes)
        return Attribute(found.flags, found.code, found.value, list(found.routes))

    def run(self, chance: random.Random, paths: bool, family: tuple[int, int]) -> list[bytes]:
        """The NLRI of some message, in seven of eight of this family."""
        runs = self._runs.get((paths, family))
        return chance.choice(runs if runs and chance.randrange(8) else self._all_runs)

    def _damaged(self, chance: random.Random, body: bytes, times: int) -> bytes:
        """Octets with some changed, without regard to what they are."""
        octets = bytearray(body)
        for _ in range(times):
            size = len(octets)
            at = chance.randrange(size) if size else 0
            match chance.randrange(8):
                case 0 if size:
                    octets[at] = chance.choice(BOUNDARIES)
                case 1 if size:
                    octets[at] ^= 1 << chance.randrange(8)
                case 2 if size:
                    octets[at] = (octets[at] + chance.choice((-1, 1))) & 0xFF
                case 3:
                    del octets[at : at + chance.randint(1, 8)]
                case 4:
                    octets[at:at] = chance.randbytes(chance.randint(1, 8))
                case 5:
                    octets[at : at + 2] = chance.choice(WIDE).to_bytes(2, "big")
                case 6:
                    del octets[at:]
                case _:
                    octets[at:at] = octets[at : at + chance.randint(1, 64)]
        return bytes(octets)


# Of the NLRI in one place


def _some_routes(
    mutator: Mutator, chance: random.Random, routes: list[bytes], paths: bool, family: tuple[int, int] = IPV4
) -> None:
    """Change a run of NLRI."""
    if not routes:
        routes.append(chance.choice(mutator.run(chance, paths, family)))
        return
    at = chance.randrange(len(routes))
    match chance.randrange(9):
        case 0:
            del routes[at]
        case 1:
            routes.insert(at, routes[chance.randrange(len(routes))])
        case 2:
            routes[at:at] = mutator.run(chance, paths, family)[:8]
        case 3:
            one = bytearray(routes[at] or b"\0")
            one[0] = chance.choice(BOUNDARIES)
            routes[at] = bytes(one)
        case 4:
            one = bytearray(routes[at] or b"\0")
            one[chance.randrange(len(one))] ^= 1 << chance.randrange(8)
            routes[at] = bytes(one)
        case 5:
            routes[at] = routes[at][:-1]
        case 6:
            routes[at] = chance.randbytes(4) + routes[at]  # a path identifier
        case 7:
            one = bytearray(routes[at] or b"\0")
            one[chance.randrange(len(one))] = chance.choice(BOUNDARIES)
            routes[at] = bytes(one)
        case _:
            if not chance.randrange(40):  # a long message costs a thousand short ones
                size = max(sum(map(len, routes)), 1)
                routes *= min(chance.choice((300, 3000, 60000)) // size, 20000) or 1
            else:
                chance.shuffle(routes)


# Of an UPDATE


def _withdrawn(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    _some_routes(mutator, chance, tree.withdrawn, tree.paths)


def _announced(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    _some_routes(mutator, chance, tree.announced, tree.paths)


def _one(chance: random.Random, tree: Routes) -> Attribute | None:
    return chance.choice(tree.attributes) if tree.attributes else None


def _multiprotocol(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    """Change an MP attribute in its family, its next hop or its NLRI."""
    found = [each for each in tree.attributes if each.code in (MP_REACH, MP_UNREACH)]
    if not found:
        _insert(mutator, chance, tree)
        return
    one = chance.choice(found)
    match chance.randrange(5):
        case 0:
            family = chance.choice(tuple(Family))
            one.value = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + one.value[3:]
        case 1 if len(one.value) > 4:
            size = chance.choice((0, 4, 12, 16, 24, 32, 48, 255))
            one.value = one.value[:3] + bytes((size,)) + chance.choice((b"\x0a", b"\0", b"\xff")) * size + b"\0"
        case 2:
            one.value = one.value[: chance.randrange(len(one.value) + 1)]
        case _:
            _some_routes(mutator, chance, one.routes, tree.paths, one.family)


def _insert(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    tree.attributes.insert(chance.randrange(len(tree.attributes) + 1), mutator.attribute(chance))


def _drop(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    if tree.attributes:
        del tree.attributes[chance.randrange(len(tree.attributes))]


def _double(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    one = _one(chance, tree)
    if one is not None:
        tree.attributes.append(Attribute(one.flags, one.code, one.value, list(one.routes)))


def _reorder(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    chance.shuffle(tree.attributes)


def _code(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    one = _one(chance, tree)
    if one is not None:
        one.code = chance.choice(CODES)


def _flags(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    one = _one(chance, tree)
    if one is not None:
        one.flags ^= 1 << chance.randrange(4, 8) if chance.randrange(4) else chance.randrange(256)


def _value(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    one = _one(chance, tree)
    if one is None:
        return
    value = bytearray(one.value)
    at = chance.randrange(len(value)) if value else 0
    match chance.randrange(7):
        case 0:
            value = value[:at]
        case 1:
            value += chance.randbytes(chance.randint(1, 12))
        case 2 if value:
            value[at] = chance.choice(BOUNDARIES)
        case 3 if value:
            value[at] ^= 1 << chance.randrange(8)
        case 4:
            value = bytearray(mutator.attribute(chance).value)
        case 5:
            value *= chance.choice((2, 3, 30)) if len(value) < 1000 else 1
        case _:
            value[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\x5b\xa0", b"\0\1\0\0"))
    one.value = bytes(value[:20000])


def _lie(mutator: Mutator, chance: random.Random, tree: Routes) -> None:
    """Give an attribute a length that is not that of its value."""
    one = _one(chance, tree)
    if one is None or isinstance(one, _Raw) or len(one.value) > 200:
        return
    octets = bytearray(one.octets())
    at = 3 if one.flags & EXTENDED else 2
    octets[at] = chance.choice((octets[at] - 1, octets[at] + 1, *BOUNDARIES)) & 0xFF
    tree.attributes[tree.attributes.index(one)] = _Raw(0, 0, bytes(octets))


class _Raw(Attribute):
    """Octets in the place of an attribute."""

    def octets(self) -> bytes:
        return self.value


_UPDATES: tuple[Callable[[Mutator, random.Random, Routes], None], ...] = (
    _withdrawn,
    _announced,
    _multiprotocol,
    _multiprotocol,
    _multiprotocol,
    _insert,
    _drop,
    _double,
    _reorder,
    _code,
    _flags,
    _value,
    _value,
    _value,
    _lie,
)


# Of an OPEN


def _head(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    octets = bytearray(tree.head)
    octets[chance.randrange(len(octets))] = chance.choice(BOUNDARIES)
    tree.head = bytes(octets)


def _told(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    tree.capabilities.insert(chance.randrange(len(tree.capabilities) + 1), mutator.capability(chance))


def _not_told(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    if tree.capabilities:
        del tree.capabilities[chance.randrange(len(tree.capabilities))]


def _otherwise_told(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    if tree.capabilities:
        at = chance.randrange(len(tree.capabilities))
        code, value = tree.capabilities[at]
        octets = bytearray(value)
        if octets and chance.randrange(2):
            octets[chance.randrange(len(octets))] = chance.choice(BOUNDARIES)
        elif chance.randrange(2):
            octets += chance.randbytes(chance.randint(1, 8))
        else:
            del octets[chance.randrange(len(octets) + 1) :]
        tree.capabilities[at] = (code, bytes(octets[:255]))


def _shuffled(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    chance.shuffle(tree.capabilities)


def _form(mutator: Mutator, chance: random.Random, tree: Introduction) -> None:
    tree.extended = not tree.extended
    tree.together = bool(chance.randrange(2))


_OPENS: tuple[Callable[[Mutator, random.Random, Introduction], None], ...] = (
    _head,
    _told,
    _told,
    _not_told,
    _otherwise_told,
    _otherwise_told,
    _shuffled,
    _form,
)
