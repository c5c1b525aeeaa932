"""Bytes to values and back: one file per part of the protocol."""
