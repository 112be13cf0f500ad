"""A registry of one's own: the part of the Hub's protocol that publishing and loading kernels takes, on one folder."""
