"""Tests of getty_tx/workers/."""
