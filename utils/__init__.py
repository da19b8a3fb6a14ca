"""What every script needs around networks and data sets."""
