"""Tests of getty_tx/codecs/."""
