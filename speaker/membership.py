"""The route targets that a peer asked for (RFC 4684): which routes with targets it is told."""

from __future__ import annotations

from collections.abc import Iterable

ANSWERS_KEPT = 65536


class Membership:
    """Prefixes of origin AS and route target; the answers are remembered by set of targets."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._exact: set[bytes] = set()
        self._partial: dict[int, set[int]] = {}  # by how many bits of a route target count: those bits
        self._everything = False
        self._answers: dict[frozenset[bytes], bool] = {}
        for key in keys:
            bits = key[-1]
            if bits <= 32:  # the default route, or an origin AS without a target: any target of that origin
                self._everything = True
            elif bits == 96:
                self._exact.add(key[4:12])
            else:
                self._partial.setdefault(bits - 32, set()).add(_leading(key[4:-1], bits - 32))

    def __bool__(self) -> bool:
        return bool(self._exact or self._partial or self._everything)

    def wants(self, targets: frozenset[bytes]) -> bool:
        """Tell whether the peer asked for any of these route targets (hot)."""
        answer = self._answers.get(targets)
        if answer is None:
            if len(self._answers) >= ANSWERS_KEPT:
                self._answers.clear()
            answer = self._answers[targets] = self._asked(targets)
        return answer

    def _asked(self, targets: frozenset[bytes]) -> bool:
        if self._everything or not targets.isdisjoint(self._exact):
            return True
        return any(_leading(target, bits) in asked for bits, asked in self._partial.items() for target in targets)


def _leading(octets: bytes, bits: int) -> int:
    """Return the leading bits of a route target, whose octets may be cut off behind them."""
    return int.from_bytes(octets.ljust(8, b"\0"), "big") >> 64 - bits
