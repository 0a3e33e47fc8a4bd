"""What a record is: its parts, its file, how it is found and added, and where a result comes from."""
