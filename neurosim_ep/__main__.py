"""``python -m neurosim_ep``: the command, for programs that start modules, such as ``torchrun``."""

from neurosim_ep.cli import main

if __name__ == "__main__":
    main()
