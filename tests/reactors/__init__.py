"""Tests of getty_tx/reactors/."""
