"""How things end badly: the command line turns each into one line and an exit code, without a traceback."""


class Refused(Exception):
    """Input that cannot be used; exit code 2. The message is one line: what is wrong, what was given, what is
    allowed."""


class Failed(Exception):
    """What the input asked for went wrong while it ran; exit code 1. The message is one line."""
