"""Tests of getty_tx/server.py and client/"""
