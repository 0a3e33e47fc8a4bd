"""Recipe + corpus + objective -> checkpoint, log, record."""
