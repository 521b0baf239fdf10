"""The results as a document: its parts (``model``), how it is made from the rows (``build``), and its words."""
