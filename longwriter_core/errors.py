"""The one error that users meet: something that they gave us cannot be used."""


class InputError(Exception):
    """An argument, setting, file or endpoint cannot be used.

    The message says what is wrong, where, and what to do, in one line. Commands print it without
    a traceback and leave with exit code 2.
    """
