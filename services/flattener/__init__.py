"""The flattener: turns each JSON Lines file into tables, as CSV and as Excel."""
