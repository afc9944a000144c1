"""One module a command group: frozen dataclasses that tyro fills and `gonio.cli` runs.

Only the standard library, tyro and gonio.errors are imported at module level; the work is imported in run().
A group is a dataclass whose `command` is one of its members. The suppressed None beside a single member is
there because the parser makes subcommands of two alternatives or more.
"""
