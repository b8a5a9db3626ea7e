"""Tests of getty_tx/compression/, and of sessions whose stream is compressed."""
