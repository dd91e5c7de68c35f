"""Tests, laid out as the packages are; `samples` builds tiny models and files of every layout."""
