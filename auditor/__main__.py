"""`auditor`, and `python -m auditor`."""

from auditor.cli.process import told


def main() -> None:
    """Entry point: the program is imported where a signal or a lack of memory is told."""
    with told():
        from auditor.cli.commands import app

        app()


if __name__ == "__main__":
    main()
