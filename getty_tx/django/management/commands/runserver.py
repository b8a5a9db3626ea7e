"""``manage.py runserver``: Django's own command, with ASGI, WebSocket and HTTP/1.1 connections that stay open."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.management.commands.runserver import Command as RunserverCommand
from django.utils.module_loading import import_string

from getty_tx.django.server import DevelopmentServer

__all__ = ["Command"]


class Command(RunserverCommand):  # type: ignore[misc]
    """The command. The application is ``ASGI_APPLICATION`` of the settings, or Django's own."""

    help = "Starts a development server for ASGI and WebSocket, on getty_tx, and serves static files."
    server_cls = DevelopmentServer

    def add_arguments(self, parser: Any) -> None:
        """As Django's commands, those for static files included."""
        super().add_arguments(parser)
        parser.add_argument(
            "--nostatic",
            action="store_false",
            dest="use_static_handler",
            help="Tells Django to NOT automatically serve static files at STATIC_URL.",
        )
        parser.add_argument(
            "--insecure",
            action="store_true",
            dest="insecure_serving",
            help="Allows serving static files even if DEBUG is False.",
        )

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """The application; in front of it what serves static files, where ``staticfiles`` is installed."""
        name = getattr(settings, "ASGI_APPLICATION", None)
        application = import_string(name) if name else get_asgi_application()
        hasStatic = "django.contrib.staticfiles" in settings.INSTALLED_APPS
        if hasStatic and options["use_static_handler"] and (settings.DEBUG or options["insecure_serving"]):
            return ASGIStaticFilesHandler(application)
        return application
