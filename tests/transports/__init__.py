"""Tests of getty_tx/transports/: what every transport has."""
