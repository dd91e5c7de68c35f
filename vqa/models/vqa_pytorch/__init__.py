"""Cadene's vqa.pytorch: MLB and MUTAN."""
