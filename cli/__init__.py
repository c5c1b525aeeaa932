"""The `bgpvpn` command: speaks HTTP to the daemon, imports nothing of it."""
