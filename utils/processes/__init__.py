"""Several processes: how they are launched, whether they live, what failed, how threads wait."""
