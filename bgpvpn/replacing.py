"""Replacing: from all that an owner wants to the wishes that make it so, and to what cannot be.

An owner is a program that keeps its objects somewhere else and says all of them at once, such as Neutron; its objects
are those whose id begins with its name and a dot.  What it does not name any more is removed.

Wishes are done one after another, and the order that is right for most, removals before what is new, is wrong for
some: a subnet goes only after its last port left it.  So what is refused is tried again after the rest, as long as
that helps.  Ports that exchange addresses are in each other's way in every order; such things are then taken away and
made anew, in the same write, unless that takes something along that is not the owner's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from bgpvpn.intent import Intent, IntentError, Key, Removal
from bgpvpn.objects import KINDS, Kind, Object, Port, Subnet, kind_of

ROUNDS = 6

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
    for in_the_way in (set(refused), _ports_beside(intent, refused, wanted)):
        anew = [key for key in in_the_way if key in wanted and refused and _alone(intent, key, own, wall)]
        if anew:
            possible = [wish for wish in removals if _key(wish) not in refused]
            stuck = [wish for wish in removals if _key(wish) in refused]
            again, still = _settled(intent, [*possible, *(Removal(*key) for key in anew), *stuck, *made], wall)
            if still.keys() < refused.keys() and not still.keys() & set(anew):
                accepted, refused = again, still
    return Replacement(tuple(accepted), refused)


def _settled(intent: Intent, wishes: Sequence[Wish], wall: float) -> tuple[list[Wish], dict[Key, IntentError]]:
    """Return the wishes that can be done, in an order in which they can, and why the others cannot."""
    order = list(wishes)
    fewest = len(order) + 1
    for _ in range(ROUNDS):
        faults: dict[int, IntentError] = {}
        intent.plan(order, wall, refused=faults)
        accepted = [wish for place, wish in enumerate(order) if place not in faults]
        left = [order[place] for place in faults]
        refused = dict(zip(map(_key, left), faults.values(), strict=True))
        if not left or len(left) >= fewest:
            break
        fewest = len(left)
        order = [*accepted, *left]
    return accepted, refused


def _ports_beside(intent: Intent, refused: Collection[Key], wanted: Mapping[Key, Object]) -> set[Key]:
    """Return what is refused, and the ports of networks of which something is: their addresses may be in its way."""
    things = [wanted.get(key) or intent.tables[key[0]].get(key[1]) for key in refused]
    networks = {thing.network_id for thing in things if isinstance(thing, Subnet | Port) and thing.network_id}
    ports: set[Key] = {("port", port.id) for id_ in networks for port in intent.referring("network", id_, "port")}
    return set(refused) | ports


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
