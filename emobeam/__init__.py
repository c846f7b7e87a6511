"""Score archives of speech recordings for emotion and gender."""
