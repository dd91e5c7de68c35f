"""The map over the photo: results as data, figures, pages and files."""
