#!/usr/bin/env python
"""Score captions and answers: the same program as `captioner score`."""

import sys

from captioner.cli.score import main

if __name__ == "__main__":
    sys.exit(main())
