"""Which nexthop object a route points at, so that a change of many routes is a change of one object.

    Via --first tier with a usable next hop--> content: leaves        leaf   one way out: (device, label, gateway)
     |                                          |                     group  what routes point at: leaves, weighed
     +--------------- home: a group with that content <--- routes

Each Via has a group of its own, its home, also when two Vias lead to the same place for the time being: they part when
a PE is lost.  A route is in order when the group that it points at has the content that its Via asks for, whichever
group that is.  So what a group shall be follows from what the routes that point at it want:

    all want one content            the group gets it; no route is written, however many they are
    they want different contents    the group keeps what it has, and those that want something else move to their
                                    homes: no route may lead, even for a moment, where only another one wants to go
    nobody points at it             it goes

The counts of who wants what (`_wants`) are the only state that is not a copy of the kernel or of the tables; they
follow from where the routes point and what they want, and are made anew whenever all is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from bgpvpn.dataplane.rows import NEXTHOP_BASE, Afi, Group, Leaf
from bgpvpn.desired import Via

Wish = tuple[Via | None, Afi]
"""What a route of a family wants; None: to be gone."""

IDS = range(NEXTHOP_BASE + 1, NEXTHOP_BASE + (1 << 24))


class Nexthops:
    """The wanted nexthop objects, by id in `rows`; who writes them to the kernel takes the ids from `dirty`."""

    def __init__(self, lead: Callable[[Via, Afi], tuple[tuple[Leaf, int], ...]]) -> None:
        """`lead` returns the leaves and weights of the first tier of a Via that has a usable one, else a blackhole."""
        self.rows: dict[int, Leaf | Group] = {}
        self.dirty: dict[int, None] = {}
        self._lead = lead
        self._leaf_ids: dict[Leaf, int] = {}
        self._leaves: dict[int, Leaf] = {}
        self._uses: Counter[int] = Counter()  # leaf id -> groups that have it
        self._contents: dict[tuple[Via, Afi], Group] = {}
        self._homes: dict[tuple[Via, Afi], int] = {}
        self._wants: dict[
            int, dict[Wish, int]
        ] = {}  # group id -> what routes that point at it want -> how many they are
        self._touched: dict[int, None] = {}
        self._found: Mapping[int, Leaf | Group] = {}  # in the kernel
        self._frozen = True
        self._next = IDS.start

    @property
    def settled(self) -> bool:
        """Whether `settle` and the taker of `dirty` have nothing to do."""
        return not self._touched and not self.dirty

    def adopt(self, found: Mapping[int, Leaf | Group]) -> None:
        """Take over what is in the kernel, so that what is right there stays; `found` is kept, and followed."""
        self._found = found
        for id_, row in found.items():
            if isinstance(row, Leaf) and id_ not in self._leaves and id_ not in self.rows:
                self._leaf_ids.setdefault(row, id_)
                self._leaves[id_] = row
        self._next = max([self._next, *(id_ + 1 for id_ in found if id_ in IDS)])
        self._touched.update(dict.fromkeys(self._wants))

    def unfreeze(self) -> None:
        """Let groups that are there change from now on."""
        self._frozen = False
        self._touched.update(dict.fromkeys(self._wants))

    # What routes want

    def note(
        self,
        afi: Afi,
        changed: Mapping[bytes, Via | None],
        routes: Mapping[bytes, int],
        wanted: Mapping[bytes, Via],
    ) -> None:
        """Follow what routes want (hot): `changed` has what each wanted before, `routes` where it points."""
        if not routes:
            return
        at = routes.get
        now = wanted.get
        moves: dict[tuple[int, int, int], list[bytes]] = {}
        for prefix, before in changed.items():
            id_ = at(prefix)
            if id_ is not None:
                via = now(prefix)
                if via is not before:
                    move = (id_, id(before), id(via))
                    if move in moves:
                        moves[move].append(prefix)
                    else:
                        moves[move] = [prefix]
        for (id_, _, _), prefixes in moves.items():
            self.left(id_, (changed[prefixes[0]], afi), len(prefixes))
            self.pointed(id_, (now(prefixes[0]), afi), len(prefixes))

    def pointed(self, id_: int, wish: Wish, count: int = 1) -> None:
        """Note that so many routes with this wish point at a group now."""
        wants = self._wants.setdefault(id_, {})
        wants[wish] = wants.get(wish, 0) + count
        self._touched[id_] = None

    def left(self, id_: int, wish: Wish, count: int = 1) -> None:
        """Note that so many routes with this wish do not point at a group any more."""
        wants = self._wants[id_]
        wants[wish] -= count
        if not wants[wish]:
            del wants[wish]
        self._touched[id_] = None

    def count_anew(self) -> None:
        """Begin with no route that points anywhere."""
        self._touched.update(dict.fromkeys(self._wants))
        self._wants.clear()

    def used(self, id_: int) -> bool:
        """Tell whether any route points at an object."""
        return bool(self._wants.get(id_))

    def settle(self) -> None:
        """Work out what each group shall be that routes came to, left, or see with other eyes."""
        touched, self._touched = self._touched, {}
        for id_ in touched:
            wants = self._wants.get(id_)
            if not wants:
                self._wants.pop(id_, None)
                if isinstance(self.rows.get(id_), Group):
                    self._set(id_, None)
                continue
            present = self._content_of(id_)
            if present is None:
                continue  # not a group of ours: somebody else had routes of ours point there
            asked = {None if via is None else self.content(via, afi) for via, afi in wants}
            content = present if self._frozen or len(asked) > 1 else asked.pop() or present
            self._set(id_, content)
            if len(wants) == 1:
                ((via, afi),) = wants
                if via is not None and content == self.content(via, afi):
                    self._homes[(via, afi)] = id_

    def look_again(self) -> set[tuple[int, Via, Afi]]:
        """Work out anew where the Vias lead, because other next hops are usable now.

        Returns (group id, Via, family) of routes that have to move to another group.
        """
        changed: set[tuple[Via, Afi]] = set()
        for (via, afi), before in list(self._contents.items()):
            del self._contents[(via, afi)]
            if self.content(via, afi) != before:
                changed.add((via, afi))
        concerned = [
            (id_, via, afi)
            for id_, wants in self._wants.items()
            for via, afi in wants
            if via is not None and (via, afi) in changed
        ]
        self._touched.update((id_, None) for id_, _, _ in concerned)
        self.settle()
        return {(id_, via, afi) for id_, via, afi in concerned if not self.leads(id_, self.content(via, afi))}

    # Where routes go

    def content(self, via: Via, afi: Afi) -> Group:
        """Return the leaves that a Via leads to now, as the group that does so."""
        content = self._contents.get((via, afi))
        if content is None:
            shares = {self._leaf_id(leaf): weight for leaf, weight in self._lead(via, afi)}
            members = tuple(sorted(shares))
            equal = len(set(shares.values())) == 1
            content = Group(members, () if equal else tuple(shares[member] for member in members))
            self._contents[(via, afi)] = content
        return content

    def leads(self, id_: int, content: Group) -> bool:
        """Tell whether a group leads, or is about to lead, to these leaves."""
        return self.rows.get(id_) == content

    def home(self, via: Via, afi: Afi) -> int:
        """Return the group that new routes of a Via are to point at, made if there is none."""
        content = self.content(via, afi)
        id_ = self._homes.get((via, afi))
        if (
            id_ is None
            or self._content_of(id_) != content
            or self._wants.get(id_, {}).keys() - {(via, afi), (None, afi)}
        ):
            id_ = self._homes[(via, afi)] = self._new_id()
        self._set(id_, content)
        self._touched[id_] = None  # it goes again if no route comes to it
        return id_

    def forget_unused(self) -> None:
        """Drop what is remembered of Vias that nobody wants any more."""
        used = {wish for wants in self._wants.values() for wish in wants}
        self._contents = {at: content for at, content in self._contents.items() if at in used}
        self._homes = {at: id_ for at, id_ in self._homes.items() if at in used}
        kept = self.rows.keys() | {leaf for content in self._contents.values() for leaf in content.members}
        self._leaf_ids = {leaf: id_ for leaf, id_ in self._leaf_ids.items() if id_ in kept}
        self._leaves = {id_: leaf for id_, leaf in self._leaves.items() if id_ in kept}

    # Objects

    def _content_of(self, id_: int) -> Group | None:
        """Return a group that is wanted or there; None when it is neither, or has strange members."""
        row = self.rows.get(id_) or self._found.get(id_)
        if isinstance(row, Group) and all(leaf in self._leaves for leaf in row.members):
            return row
        return None

    def _set(self, id_: int, content: Group | None) -> None:
        """Make a group lead to these leaves, or None: be gone."""
        before = self.rows.get(id_)
        if content == before:
            return
        if content is None:
            self.rows.pop(id_, None)
        else:
            self.rows[id_] = content
        self.dirty[id_] = None
        for leaf in content.members if content is not None else ():
            self._uses[leaf] += 1
            if leaf not in self.rows:
                self.rows[leaf] = self._leaves[leaf]
                self.dirty[leaf] = None
        for leaf in before.members if isinstance(before, Group) else ():
            self._uses[leaf] -= 1
            if not self._uses[leaf]:
                del self._uses[leaf]
                self.rows.pop(leaf, None)
                self.dirty[leaf] = None

    def _leaf_id(self, leaf: Leaf) -> int:
        id_ = self._leaf_ids.get(leaf)
        if id_ is None:
            id_ = self._leaf_ids[leaf] = self._new_id()
            self._leaves[id_] = leaf
        return id_

    def _new_id(self) -> int:
        for _ in IDS:
            id_ = self._next if self._next in IDS else IDS.start
            self._next = id_ + 1
            if not any(id_ in ids for ids in (self.rows, self._found, self._wants, self._leaves)):
                return id_
        raise OverflowError("all nexthop ids are in use")
