"""`python -m idlewatch` is the same as `idlewatch`."""

from idlewatch.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
