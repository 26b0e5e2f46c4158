"""The command ``bowerbird``: the operator's and the newcomer's tool.

The model: what is asked for goes to standard output (with ``--json`` as JSON and nothing else), what is said meanwhile
goes to standard error. Exit status: 0 done, 1 the job or the command failed, 2 wrongly called, 130 Ctrl-C.

``app.py`` declares the commands and imports nothing heavy, so that ``--help`` is quick; each command imports the module
that does its work: ``line`` (up, demo, publish), ``collections`` (add, run, and looking at what is there), ``services``
(one service, migrate, settings).
"""


def main() -> None:
    """Be the command: the entry point of the installed script."""
    from shared.cli.app import app

    app(prog_name="bowerbird")
