"""The command `automl`. Imports nothing before it can say what a Ctrl-C during the imports means."""

import sys


def main() -> None:
    try:
        from automl.cli import main as command

        command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
