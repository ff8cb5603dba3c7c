"""``python -m localcloud``: see ``localcloud.command_line.main``."""

import sys

from localcloud.command_line.main import main

sys.exit(main())
