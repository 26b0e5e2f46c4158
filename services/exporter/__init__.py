"""The exporter: writes a job's records as JSON Lines files, one of everything and one for each year."""
