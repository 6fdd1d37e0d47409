"""``chappe`` and ``python -m chappe``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; its exit code is the process's."""
    from chappe.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
