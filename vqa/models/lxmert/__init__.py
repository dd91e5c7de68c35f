"""LXMERT, and the features of regions it reads."""
