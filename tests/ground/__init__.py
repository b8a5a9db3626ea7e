"""Tests of what belongs to no room: settings, logs, packaging."""
