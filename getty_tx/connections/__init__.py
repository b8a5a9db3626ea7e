"""Connections: what lies between a Twisted transport and a session."""
