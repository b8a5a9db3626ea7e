"""The tests of getty_tx: ``trial tests``."""
