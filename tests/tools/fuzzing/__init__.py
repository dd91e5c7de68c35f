"""Files that lie: mutations of valid ones, and what every reader must do with them.

Readers of models, pickles and saved results are run over random mutations (``corpora.py``, by
``python -m tests.tools.fuzzing``). Photos and annotations have corpora of their own, as of these
more is known: what is in a photo that is read (``photos.py``), and that nothing in annotations
turns into something else unseen (``annotations.py``).
"""
