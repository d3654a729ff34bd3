"""Real servers on loopback and plain objects with scenarios."""
