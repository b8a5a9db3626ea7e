"""Tests of getty_tx/processes/."""
