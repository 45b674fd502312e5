"""Errors that the command line prints as one line, with an exit code and without a traceback."""


class UserError(Exception):
    """Input that cannot be used; exit code 2. The message is one line: the mistake, what was given, what is allowed."""


class RunError(Exception):
    """A failure while a command runs; exit code 1. The message is one line."""


def machine_error_message(error: Exception) -> str:
    """One line about a failure of the machine: a full disk, a missing permission, too little memory.

    Returns an empty text for every other error.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; nothing half-written; run the command again once this is fixed"
    message = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in message or "can't allocate memory" in message:
        reason = message.rpartition("memory: ")[2][:120]  # torch writes its own file and line before it
        return f"too little memory ({reason}); lower model.width, training.batch_size or the number of training.seeds"
    return ""
