"""`python -m training`: the command line, where what it needs is installed."""

import sys

try:
    from training.command_line import main
except ModuleNotFoundError as error:
    if (error.name or "").startswith("training"):
        raise
    sys.exit(
        f"Training needs the package {error.name}, which is not installed: run scripts/install, and then"
        " . .venv/bin/activate"
    )

if __name__ == "__main__":
    main()
