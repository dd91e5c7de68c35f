"""Checks of foreign models against what their original code says, one module a project.

Each module has ``CHECKS``: the name of an oracle's folder to a function of that folder and a
:class:`benchmarks.oracle_checks.report.Report`.
"""
