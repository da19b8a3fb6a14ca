"""Several processes: how they are launched, whether they live, how their threads wait; cores."""
