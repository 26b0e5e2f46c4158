"""The processor: compiles the releases of each contracting process into one record, and counts the published fields."""
