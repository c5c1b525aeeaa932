"""Replacing: from all that an owner wants to the wishes that make it so, and to what cannot be.

An owner is a program that keeps its objects somewhere else and says all of them at once, such as Neutron; its objects
are those whose id begins with its name and a dot.  What it does not name any more is removed.

Wishes are done one after another, and the order that is right for most, removals before what is new, is wrong for
some: a subnet goes only after its last port left it.  So what is refused is tried again after the rest, as long as
that helps.  Ports that exchange addresses are in each other's way in every order; such things are then taken away and
made anew, in the same write, unless that takes something along that is not the owner's.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import attrs

from bgpvpn.intent import ConflictError, Intent, IntentError, Key, Removal
from bgpvpn.objects import FIXED, KINDS, Kind, Object, Subnet, kind_of

Wish = Object | Removal


@attrs.frozen
class Replacement:
    """What is to be written, in this order, and what of it cannot be, with the reason."""

    wishes: tuple[Wish, ...]
    refused: Mapping[Key, IntentError]


def owned(owner: str, id_: str) -> bool:
    """Tell whether an object is an owner's."""
    return id_.startswith(f"{owner}.")


def replace(
    intent: Intent, owner: str, things: Sequence[Object], kinds: Collection[Kind], kept: Collection[Key], wall: float
) -> Replacement:
    """Return what makes the owner's objects of these kinds be `things`, as far as that can be.

    `kept` are some that stay as they are, if they are there. What is refused stays as it is, or stays out if it is new.
    """
    wanted = {(kind_of(thing), thing.id): thing for thing in things}
    removals: list[Wish] = [
        Removal(kind, id_)
        for kind in reversed(KINDS)
        if kind in kinds
        for id_ in intent.tables[kind].rows
        if owned(owner, id_) and (kind, id_) not in wanted and (kind, id_) not in kept
    ]
    made: list[Wish] = [wanted[key] for key in sorted(wanted, key=lambda key: KINDS.index(key[0]))]
    accepted, refused = _settled(intent, [*removals, *made], wall)
    own = {*wanted, *map(_key, removals)}
    for in_the_way in (_in_conflict(refused), _ports_beside(intent, refused, wanted)):
        anew = [key for key in in_the_way if key in wanted and refused and _alone(intent, key, own, wall)]
        if anew:
            possible = [wish for wish in removals if _key(wish) not in refused]
            stuck = [wish for wish in removals if _key(wish) in refused]
            again, still = _settled(intent, [*possible, *(Removal(*key) for key in anew), *stuck, *made], wall)
            if still.keys() < refused.keys() and not still.keys() & set(anew):
                accepted, refused = again, still
    return Replacement(tuple(accepted), refused)


def _settled(intent: Intent, wishes: Sequence[Wish], wall: float) -> tuple[list[Wish], dict[Key, IntentError]]:
    """Return the wishes that can be done, in an order in which they can, and why the others cannot.

    What is refused is tried again after each group of wishes, one kind's: a subnet that the routers of now let go must
    be gone before the first port has an address in the one that comes in its place.
    """
    accepted, refused = _tried(intent, wishes, wall)
    if not refused:
        return accepted, refused
    accepted = []
    left: list[Wish] = []
    for _, group in itertools.groupby(wishes, lambda wish: isinstance(wish, Removal) or kind_of(wish)):
        left = [*group, *left]
        fewest = len(left) + 1
        while left and len(left) < fewest:
            fewest = len(left)
            accepted, refused = _tried(intent, [*accepted, *left], wall)
            left = [wish for wish in left if _key(wish) in refused]
    return accepted, refused


def _tried(intent: Intent, wishes: Sequence[Wish], wall: float) -> tuple[list[Wish], dict[Key, IntentError]]:
    """Return the wishes that can be done in this order, and why the others cannot."""
    faults: dict[int, IntentError] = {}
    intent.plan(wishes, wall, refused=faults)
    refused = {
        _key(wishes[place]): error
        for place, error in faults.items()
        if isinstance(error, ConflictError) or not isinstance(wishes[place], Removal)  # what went with another is gone
    }
    return [wish for place, wish in enumerate(wishes) if place not in faults], refused


def _in_conflict(refused: Mapping[Key, IntentError]) -> set[Key]:
    """Return what is refused because of what there is, its own former self included, and not for what it is."""
    return {key for key, error in refused.items() if isinstance(error, ConflictError) or error.field in FIXED[key[0]]}


def _ports_beside(intent: Intent, refused: Mapping[Key, IntentError], wanted: Mapping[Key, Object]) -> set[Key]:
    """Return the same, and the ports of networks of which a subnet is among it: their addresses are in its way."""
    conflicts = _in_conflict(refused)
    subnets = [wanted.get(key) or intent.tables["subnet"].get(key[1]) for key in conflicts if key[0] == "subnet"]
    networks = {subnet.network_id for subnet in subnets if isinstance(subnet, Subnet)}
    ports: set[Key] = {("port", port.id) for id_ in networks for port in intent.referring("network", id_, "port")}
    return conflicts | ports if ports else set()


def _alone(intent: Intent, key: Key, own: Collection[Key], wall: float) -> bool:
    """Tell whether an object is there and can go without a change of what is not its owner's."""
    if key[1] not in intent.tables[key[0]]:
        return False
    try:
        return all((change.kind, change.id) in own for change in intent.plan([Removal(*key)], wall))
    except IntentError:
        return False


def _key(wish: Wish) -> Key:
    return (wish.kind, wish.id) if isinstance(wish, Removal) else (kind_of(wish), wish.id)
