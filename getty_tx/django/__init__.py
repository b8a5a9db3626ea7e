"""
Django on getty_tx: ``manage.py runserver`` with ASGI and WebSocket.

::

    INSTALLED_APPS = [
        "getty_tx.django",
        "django.contrib.staticfiles",
        ...
    ]

- ``apps``: what Django looks for, and a check of the order in ``INSTALLED_APPS``.
- ``server``: the development server in the place of Django's.
- ``management``: the command.
"""

from __future__ import annotations
