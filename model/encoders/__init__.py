"""Encoders: normalized images in, features of several strides out."""
