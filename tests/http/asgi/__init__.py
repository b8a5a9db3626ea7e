"""Tests of ASGI applications."""
