"""Tests of getty_tx/tls/."""
