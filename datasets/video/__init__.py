"""Frames around labelled images, and labels carried to them."""
