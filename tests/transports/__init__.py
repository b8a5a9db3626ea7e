"""Tests of getty_tx/transports/ that concern every transport."""
