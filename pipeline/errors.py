"""Errors that the command line prints as one line, with an exit code and without a traceback."""


class UserError(Exception):
    """Error for input that cannot be used. The message is one line: the mistake, the given and the allowed values."""

    exit_code = 2


class RunError(Exception):
    """Error for a failure while a command runs. The message is one line."""

    exit_code = 1


def machine_error_message(error: Exception) -> str:
    """Return a one-line message about a full disk, a missing permission or too little memory; "" for other errors."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; nothing half-written; run the command again once this is fixed"
    message = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in message or "can't allocate memory" in message:
        reason = message.rpartition("memory: ")[2][:120]  # torch writes its own file and line before it
        return f"too little memory ({reason}); lower model.width, training.batch_size or the number of training.seeds"
    return ""
