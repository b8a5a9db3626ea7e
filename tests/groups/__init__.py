"""Groups: rooms, broadcast, history and presence."""
