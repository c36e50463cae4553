"""`python -m idlewatch` is the same as `idlewatch`."""

from idlewatch.host.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
