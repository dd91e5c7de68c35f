"""Scripts that measure vlcam, each beside the tables it writes:
``python -m benchmarks.speed.caption --help``.
"""
