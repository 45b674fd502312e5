"""The one exception that means "the user's input cannot be used"; the command line turns it into exit code 2."""


class Refused(Exception):
    """Input that cannot be used. The message is one line: what is wrong, what was given, what is allowed."""
