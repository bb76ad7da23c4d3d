"""Lets `python -m lddr.cli` do what `lddr` does."""

import sys

from lddr.cli.main import main

sys.exit(main())
