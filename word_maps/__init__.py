"""word_maps: which words of a caption name a COCO category, and where that category is in an image.

Stands alone: needs numpy and pycocotools only.
"""

from word_maps.masks import present, word_map
from word_maps.words import categories, category, visual_words

__all__ = ["categories", "category", "present", "visual_words", "word_map"]
