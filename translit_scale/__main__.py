"""`python -m translit_scale`, which launchers start on every rank: the same as `translit-scale`."""

import sys

from translit_scale.cli import main

sys.exit(main())
