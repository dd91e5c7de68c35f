"""Does an adapter keep its contract? For authors of adapters, in plain words.

Each promise of the contract (:mod:`vlcam.adapters.adapter`) is tried on photos of noise, or on one
that is given. :func:`check_adapter` prints what was tried, or raises an error that lists everything
wrong; :func:`problems` returns the list::

    def test_my_adapter():
        vlcam.testing.check_adapter(MyAdapter(...), caption="a dog runs")
"""

from vlcam.testing.check import Report, check_adapter, problems

__all__ = ["Report", "check_adapter", "problems"]
