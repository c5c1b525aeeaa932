"""Where intent and leases are kept."""
