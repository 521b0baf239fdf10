"""What a sweep left on disk, and the rows that are made of it; nothing is written here."""
