"""How fast and how large, side by side with the published way."""
