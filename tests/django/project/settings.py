"""The settings."""

from __future__ import annotations

import os
from typing import Any

DEBUG = True
SECRET_KEY = "only for tests"
ROOT_URLCONF = "tests.django.project.urls"
ASGI_APPLICATION = "tests.django.project.asgi.application"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["getty_tx.django", "channels", "django.contrib.staticfiles"]
STATIC_URL = "static/"
STATICFILES_DIRS = [os.path.join(os.path.dirname(__file__), "static")]
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
DATABASES: dict[str, Any] = {}
