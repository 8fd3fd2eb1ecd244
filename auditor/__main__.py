"""`auditor`, and `python -m auditor`."""

from auditor.process import told


def main() -> None:
    """Entry point: the program is imported where a signal or a lack of memory is told."""
    with told():
        from auditor.cli import app

        app()


if __name__ == "__main__":
    main()
