"""Errors that are meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: commands print its message without a traceback and exit with code 2.

    The message names the place (file, line and column, or the id), the value, and the remedy.
    """
