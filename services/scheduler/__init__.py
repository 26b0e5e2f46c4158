"""Decides what is due, plans jobs, starts each task after the one before it, and repairs what was lost."""
