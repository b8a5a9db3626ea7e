"""Tests of getty_tx/tap/, the twistd commands."""
