#!/usr/bin/env python
"""Caption images or answer questions about them: the same program as `captioner caption`."""

import sys

from captioner.cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
