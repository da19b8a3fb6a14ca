"""What an epoch consists of and how its batches are read."""
