"""Tests of getty_tx/session/: one session, mostly in memory."""
