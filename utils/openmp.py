"""Threads that wait for each other sleep. Every script imports this first.

By default OpenMP's threads spin while they wait, and with one other process beside them they take
the cores from the one that is waited for: a training on two threads fell from 2.8 to 0.6 images/s,
with threads that sleep to 2.4. The library reads the setting while it is loaded, with PyTorch, so
that here, alone, something happens at import. A user's own setting stays.
"""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "passive"
