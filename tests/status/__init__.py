"""Tests of getty_tx/status/."""
