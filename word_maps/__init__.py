"""word_maps: which words of a caption name a COCO category, and where that category is in an image.

Stands alone: needs numpy, pycocotools and msgspec only.
"""

from word_maps.coverage import Coverage, coverage
from word_maps.masks import present, word_map
from word_maps.words import Table, categories, category, extended, table, visual_words

__all__ = [
    "Coverage",
    "Table",
    "categories",
    "category",
    "coverage",
    "extended",
    "present",
    "table",
    "visual_words",
    "word_map",
]
