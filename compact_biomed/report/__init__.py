"""Records -> pictures, cards, tables."""
