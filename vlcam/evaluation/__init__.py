"""Evaluation: experiments yield records, records survive a kill, summaries are functions of them.

``experiment.py`` says what an experiment is, ``runner.py`` runs one over photos, ``store.py`` keeps
its records, ``summary.py`` turns them into tables with their uncertainty.
"""
