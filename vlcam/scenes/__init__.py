"""A small rendered world with exact ground truth, written in the official file formats.

* ``scene.scene(seed, index)`` draws one scene, in memory: photo, things, visible masks;
* ``text.captions(scene)``, ``text.regions(scene)`` describe it, ``text.category_of(word)`` says
  which COCO category a word names;
* ``questions.questions(scene)`` asks about it, ``attention.attention`` simulates where people look;
* ``write.write(directory, images, seed)`` writes a data set (its layout is described there).

Everything is decided by ``(seed, index)`` alone.
"""
