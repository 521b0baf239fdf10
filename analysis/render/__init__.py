"""The document and the rows in the formats that people and programs read."""
