"""`python -m cicm` is the command `cicm`."""

import sys

from cicm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
