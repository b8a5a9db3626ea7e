"""The application that stands in INSTALLED_APPS."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import Error, register

__all__ = ["GettyConfig", "checkOrder"]

#: Applications with a ``runserver`` of their own. Django takes that of the first one in INSTALLED_APPS.
OTHERS = ("django.contrib.staticfiles", "daphne")


class GettyConfig(AppConfig):  # type: ignore[misc]
    """Registers the check."""

    name = "getty_tx.django"
    label = "getty_tx"
    verbose_name = "getty_tx"

    def ready(self) -> None:
        """Django has loaded all applications."""
        register(checkOrder, "getty_tx")


def checkOrder(app_configs: Any = None, **options: Any) -> list[Error]:
    """A system check: this application comes before others that have a ``runserver``."""
    names = [config.name for config in apps.get_app_configs()]
    before = [name for name in names[: names.index(GettyConfig.name)] if name in OTHERS]
    return [
        Error(
            f"{name} comes before {GettyConfig.name} in INSTALLED_APPS, so that its runserver is taken",
            hint=f"Put {GettyConfig.name!r} first.",
            id="getty_tx.E001",
        )
        for name in before
    ]
