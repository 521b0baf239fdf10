"""Errors that are meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can fix: commands print its message without a traceback and exit with code 2.

    The message names the place (file, line and column, or the id), the value, and the remedy.
    """


def first_line(error: BaseException) -> str:
    """What an error says first, for messages that must fit into a line; empty where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


def reason(error: BaseException) -> str:
    """:func:`first_line`, or the name of its type where it says nothing."""
    return first_line(error) or type(error).__name__
