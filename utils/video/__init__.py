"""Videos as frames, in and out, and the motion between frames."""
