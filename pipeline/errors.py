"""How things end badly: the command line turns each into one line and an exit code, without a traceback."""


class UserError(Exception):
    """Input that cannot be used; exit code 2. The message is one line: what is wrong, what was given, what is
    allowed."""


class RunError(Exception):
    """What the input asked for went wrong while it ran; exit code 1. The message is one line."""


def machine_error_message(error: Exception) -> str:
    """In a line, what is neither the input's fault nor ours: no room on a disk, no permission, no memory. Empty where
    it is something else."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; nothing half-written, the same command goes on when that is mended"
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said:
        why = said.rpartition("memory: ")[2][:120]  # after torch's own place and file
        return f"too little memory ({why}); lower model.width, training.batch_size or the number of training.seeds"
    return ""
