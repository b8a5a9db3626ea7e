"""A Django project for tests of runserver: views, static files, and a chat over WebSocket."""
