"""One step, its schedule, the folder and the log of a training."""
