"""`python -m service`: serve the models in models/ over HTTP. Settings are environment variables, `SIGHTLINE_…`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs an older one should read this, not a SyntaxError
    sys.exit(f"Sightline needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

try:
    from service.server import main  # only now: it would not compile on an older Python
except ModuleNotFoundError as error:
    sys.exit(
        f"Sightline needs the package {error.name}, which is not installed: run scripts/serve, or pip install '.[cpu]'"
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
