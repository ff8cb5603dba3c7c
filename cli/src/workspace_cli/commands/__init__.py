"""One module for each command of ``workspace``; adding a file here adds a command.

How to add one
--------------

``commands/config_ssh.py`` is ``workspace config-ssh``. The module needs two things:

- Its docstring's first line is what ``workspace --help`` lists. It is read from the file, not by
  an import, so keep it on the first line, complete, as ``\"\"\"Do this.\"\"\"``.
- ``command``, a click command of the class ``Command`` from ``workspace_cli.main``. The class adds
  ``--hub`` and ``--plain``, so that these are understood before and after the command's name.

::

    \"\"\"Show what a workspace is.\"\"\"

    import click

    from workspace_cli.app import App
    from workspace_cli.main import WORKSPACE, Command

    @click.command(cls=Command)
    @click.argument("name", type=WORKSPACE)
    @click.pass_obj
    def command(app: App, name: str) -> None:
        \"\"\"Say what NAME is, in more words: this is the page of ``workspace show --help``.\"\"\"
        workspace = app.find(name)
        app.console.out(workspace.name)

A module whose name begins with ``_`` is shared by commands and is no command itself. Import what
is slow (``requests``, ``rich``, ``google.auth``) inside functions: ``workspace --help`` loads no
command, and ``workspace ls`` only its own.

What a command has to keep
--------------------------

- Data goes to stdout by ``app.console.out``, everything else to stderr by ``note``, ``warn``. They
  escape what could act on a terminal. Text of a server that goes into a line of ours goes through
  ``text.one_line`` first; the fields of ``Workspace`` and the messages of errors already have.
- An error is raised: a class of ``errors.py``, which has the exit code. Wrong usage is
  ``click.UsageError``. A program's own exit code is ``raise SystemExit(code)``.
- Questions go through ``app.console.ask`` and ``confirm``, which refuse without a terminal.
- A command that connects calls ``connection.agreed(app, connection.connect_of(...))`` with what
  the Hub answers, and connects as that says: the person has agreed to it.
- ``following.follow`` waits until a workspace is ready, and shows the way there.
- What goes on without the person when they press Ctrl-C is said by ``with app.on_interrupt("…")``.
- What a server answers is data: never part of a shell command, never an option. Check it against
  a pattern before it becomes an argument of a program.
"""
