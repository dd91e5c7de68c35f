"""What the options about a CNN need of each other. Light to import: a command asks at once."""

from __future__ import annotations


def check(
    *,
    cnn_epochs: int,
    pretrained: bool,
    cnn_fixed: str | None,
    first_size: int | None,
    sees: bool,
) -> None:
    """Raises ValueError where they do not go together.

    Args:
        cnn_epochs, cnn_fixed, first_size: of a
            :class:`vlcam.training.photo_trainer.PhotoTraining`.
        pretrained: whether the CNN begins with given weights.
        sees: whether the model is shown the photos.
    """
    if not cnn_epochs and not pretrained and sees:
        raise ValueError("give --cnn-weights FILE, or train the CNN with --cnn-epochs N")
    if not cnn_epochs and first_size:
        raise ValueError("--first-size is about training the CNN: with --cnn-epochs")
    if cnn_fixed and not (cnn_epochs and pretrained):
        raise ValueError("--cnn-fixed is about training a CNN given with --cnn-weights")
