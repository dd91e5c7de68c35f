"""A small model for each kind of adapter, by the packages that it needs."""
