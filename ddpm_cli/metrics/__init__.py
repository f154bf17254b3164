"""How far two sets of points are apart."""
