"""Tests of getty_tx/testing/."""
