"""``python -m musebridge`` is the ``musebridge`` command."""

from musebridge.cli import main

if __name__ == "__main__":
    main()
