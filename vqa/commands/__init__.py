"""The VQA models' part of the command line. Light to import."""
