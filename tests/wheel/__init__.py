"""Tests of getty_tx/wheel.py."""
