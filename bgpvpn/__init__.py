"""VPN instances, intent, dataplane, daemon and API of a BGP VPN node."""

__version__ = "0.1.0"
