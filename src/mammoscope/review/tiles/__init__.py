"""Tiles of mammograms: an image file comes in, its 16-bit pyramid is cut once and kept by the digest of the file.

Out come compressed 16-bit tiles for a browser that windows them on its graphics card, or 8-bit pictures of the same
tiles, windowed here, for one that cannot.
"""

from mammoscope.review.tiles.cache import StoredPyramid, TileCache
from mammoscope.review.tiles.windowing import coarsest_greys, picture_of, preview_of

__all__ = ["StoredPyramid", "TileCache", "coarsest_greys", "picture_of", "preview_of"]
