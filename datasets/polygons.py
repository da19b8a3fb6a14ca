"""Temporary."""
def draw_polygons(path): raise NotImplementedError
def polygons_size(path): raise NotImplementedError
