"""The error for everything that a user has to correct."""


class InputError(Exception):
    """An argument, setting, file or endpoint cannot be used.

    The message says in one line what is wrong, where, and what to do. Commands print it without a
    traceback and exit with code 2.
    """
