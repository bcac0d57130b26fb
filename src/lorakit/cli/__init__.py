"""The command line: one file a command."""


def main() -> None:
    """Run the command line; without the extra cli, exit with how to install it."""
    try:
        import typer as typer
    except ImportError as error:
        raise SystemExit(
            "The lorakit command needs the extra cli: pip install 'lorakit[cli]'"
        ) from error
    from lorakit.cli.app import run

    run()
