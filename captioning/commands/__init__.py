"""The captioners' part of the command line. Light to import."""
