"""Libraries that are loaded only when something asks for them."""

from importlib import import_module
from typing import Any

from halfpixel.errors import MissingDependencyError


def load_extra(module: str, install: str) -> Any:
    """An optional library.

    Args:
        module: its import name.
        install: what `pip install` needs to be told.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f'{module} is not installed: pip install "{install}"') from error
