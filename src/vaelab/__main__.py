"""``python -m vaelab``: the command line, for torchrun and for where no script is installed."""

from vaelab.cli import main

if __name__ == "__main__":
    main()
