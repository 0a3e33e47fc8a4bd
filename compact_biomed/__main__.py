import sys

from compact_biomed.cli import main

sys.exit(main())
