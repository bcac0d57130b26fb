"""The command line: one file a command."""


def main() -> None:
    """Run the command line; without the cli extra, say how to get it."""
    try:
        import typer as typer
    except ImportError as error:
        raise SystemExit("lorakit's commands need: pip install 'lorakit[cli]'") from error
    from lorakit.cli.app import run

    run()
