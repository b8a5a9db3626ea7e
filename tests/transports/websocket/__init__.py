"""Tests of getty_tx/transports/websocket/."""
