"""Tests that run the documentation and the examples."""
