"""Every option of every script, in groups that the scripts compose."""
