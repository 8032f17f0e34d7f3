"""``python -m readwrite_edit.cli``: the command line without its installed script."""

import sys

from readwrite_edit.cli import main

sys.exit(main())
