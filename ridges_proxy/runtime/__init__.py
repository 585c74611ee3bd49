"""Building blocks without business logic: cooperative yielding, socket state, limits, sliding windows."""
