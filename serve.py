#!/usr/bin/env python
"""Serve a web page and an API: the same program as `captioner serve`."""

import sys

from captioner.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
