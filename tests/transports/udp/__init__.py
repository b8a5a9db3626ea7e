"""Tests of getty_tx/transports/udp/."""
