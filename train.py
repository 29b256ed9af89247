#!/usr/bin/env python
"""Train a captioner: the same program as `captioner train`."""

import sys

from captioner.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
