"""The two errors a person may see. Both carry one line that names the file and the cure."""


class GonioError(Exception):
    """Work failed: the input or the machine is at fault. The command line exits with 1."""


class UsageError(GonioError):
    """The command was asked for something that makes no sense. The command line exits with 2."""
