"""Tests of Django on getty_tx."""
