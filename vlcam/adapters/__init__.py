"""The contract between vlcam and a model (:mod:`vlcam.adapters.adapter`), and what keeps it."""
