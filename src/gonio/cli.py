"""The command `gonio`: reads the command line, runs one command, turns its failure into one line.

Exit codes: 0 done, 1 the work failed, 2 the command line makes no sense, 130 interrupted. Heavy imports
happen inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import tyro
from tyro.conf import subcommand

from gonio import __version__
from gonio.commands.convert import Convert
from gonio.commands.data import Data
from gonio.commands.demo import Demo
from gonio.commands.doctor import Doctor
from gonio.commands.evaluate import Evaluate
from gonio.commands.generate import Generate
from gonio.commands.reconstruct import Reconstruct
from gonio.commands.render import Render
from gonio.commands.scan import Scan
from gonio.commands.train import Train
from gonio.errors import GonioError, UsageError
from gonio.folders import no_empty_folders

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_DESCRIPTION = "Neural materials from prompts, photos and videos. Try: gonio demo"


class Command(Protocol):
    """What every command is: its arguments, and how to run them. `resume` is said after an interruption."""

    resume: str

    def run(self) -> None: ...


Commands = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Generate, subcommand("generate")]
    | Annotated[Scan, subcommand("scan")]
    | Annotated[Reconstruct, subcommand("reconstruct")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Convert, subcommand("convert")]
    | Annotated[Doctor, subcommand("doctor")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name); returns the exit code, never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"gonio {__version__}")
        return DONE
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            command = parse(arguments)
        except UsageError as error:
            return _fail(str(error), USAGE)
        except SystemExit as stop:  # --help
            return DONE if stop.code in (None, 0) else USAGE
        return _run(command)


def parse(arguments: list[str]) -> Command:
    """The command of a command line. UsageError in one line; SystemExit after --help."""
    complaint = io.StringIO()
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    commands: Any = Commands
    try:
        with contextlib.redirect_stderr(complaint):
            chosen = tyro.cli(commands, prog="gonio", description=_DESCRIPTION, args=arguments, config=config)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        raise UsageError(one_line(complaint.getvalue())) from None
    while hasattr(chosen, "command"):  # a group: evaluate, data, train
        chosen = chosen.command
    return chosen


def one_line(box: str) -> str:
    """The message of a framed, many-lined complaint of the argument parser, with where to find help."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f \t") for line in plain.splitlines()[1:]]
    ruled = [bool(re.search("\u2500{3}", line)) for line in plain.splitlines()[1:]]
    sections: list[list[str]] = [[]]
    for line, rule in zip(lines, ruled, strict=True):
        if rule:
            sections.append([])
        elif line:
            sections[-1].append(line)
    texts = [" ".join(section) for section in sections if section]
    kept = texts[:1] + [text for text in texts[1:] if text.startswith("Available subcommands")]
    where = re.search(r"gonio(?: [a-z-]+)* --help", " ".join(texts))
    message = "; ".join(kept).rstrip(".") or "wrong arguments"
    return f"{message}; see {where[0] if where else 'gonio --help'}"


def _run(command: Command) -> int:
    try:
        with no_empty_folders():
            command.run()
    except UsageError as error:
        return _fail(str(error), USAGE)
    except GonioError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {command.resume}", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong, nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError:
        return _fail("not enough memory; take a smaller --resolution", FAILED)
    except OSError as error:
        place = error.filename or "the system"
        return _fail(f"{place}: {error.strerror or error}; check the path and the disk", FAILED)
    return DONE


def _fail(message: str, code: int) -> int:
    """One line on standard error, whatever the message holds."""
    print(f"gonio: {' '.join(message.split())}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"gonio: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
