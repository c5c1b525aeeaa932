"""The one error of NLRI parsers that the caller must turn into a reaction."""

from __future__ import annotations


class Framing(ValueError):
    """Octets that cannot be cut into NLRI; says where."""
