"""Models of nearest neighbors."""
