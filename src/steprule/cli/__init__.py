"""The command line parses, calls and prints; bad input becomes one line on stderr and an exit code.

app.py lists the commands and commands/ holds one per file. arguments.py says what they take, completion.py what a shell offers,
options.py reads `--set`, output.py and tables.py print. Nothing here imports torch before a command runs.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 2: bad input; 128 + n: ended by signal n (Ctrl-C 130, TERM 143, HUP 129). Any code but 0 comes with one line on stderr.
    """
    from steprule.cli.signals import as_ctrl_c

    if sys.stderr is None:  # whoever started us closed it, as `2>&-` does
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        return _fail("output: standard output is closed")
    with as_ctrl_c() as signals:
        code = _run(args)
        by_signal = code == INTERRUPTED and bool(signals)
    return 128 + signals[0] if by_signal else code


INTERRUPTED = 130


def _run(args: Sequence[str] | None) -> int:
    from typer.exceptions import Abort, TyperException

    from steprule import extras
    from steprule.cli.app import app
    from steprule.errors import StepruleError

    try:
        code = app(args=args, prog_name="steprule", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}. {_way_out(error)}")
    except StepruleError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        found = extras.missing(error)
        if found is None:
            raise
        return _fail(str(found))
    except (BrokenPipeError, SystemExit) as error:
        if not _was(error, BrokenPipeError):  # rich and typer turn it into an exit
            raise
        # The reader of our output has gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk under stdout, say
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except (KeyboardInterrupt, Abort):
        code = INTERRUPTED
    except Exception as error:
        if not _was(error, KeyboardInterrupt):
            raise
        code = INTERRUPTED
    if code == INTERRUPTED:
        words = sys.argv[1:] if args is None else args
        kept = "; what was finished is kept" if "race" in words else ""
        with suppress(OSError):  # the terminal may have gone
            sys.stderr.write(f"\nsteprule: interrupted{kept}.\n")
    return code if isinstance(code, int) else 0


def _way_out(error: Exception) -> str:
    """What to write instead of `--lr 0.1`, or which help says more."""
    from steprule import rules

    context = getattr(error, "ctx", None)
    if context is None:
        return "See steprule --help."
    name = getattr(error, "option_name", "").lstrip("-").replace("-", "_")
    known = any(name in rule.defaults for rule in rules.CATALOGUE.values())
    if known and "settings" in context.command.callback.__annotations__:
        return f"Write --set {name}=VALUE."
    return f"See {context.command_path} --help."


def _was(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error began as one of this kind: a library that is just being imported may wrap Ctrl-C in an error of its own."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(message: str) -> int:
    sys.stderr.write(f"steprule: {' '.join(message.split())}\n")
    return 2


def run() -> None:
    """The console script. Modules of the current folder can be named, as with `python -m steprule`."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if isinstance(sys.stdout, io.TextIOWrapper):  # letters that the terminal lacks are written as stderr writes them
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
